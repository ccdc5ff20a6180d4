local actions = {}
local suspended = obj.spec.suspend == true
actions["sync-now"] = { ["disabled"] = suspended, ["iconClass"] = "fa fa-fw fa-sync", ["displayName"] = "Sync now" }
actions["rotate-now"] = {
  ["disabled"] = suspended or obj.spec.apiKey == false,
  ["iconClass"] = "fa fa-fw fa-key",
  ["displayName"] = "Rotate the API key now",
}
return actions
