local actions = {}
actions["sync-now"] = {
  ["disabled"] = obj.spec.suspend == true,
  ["iconClass"] = "fa fa-fw fa-sync",
  ["displayName"] = "Sync now",
}
return actions
