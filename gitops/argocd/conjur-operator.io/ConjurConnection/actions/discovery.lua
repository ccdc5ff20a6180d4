local actions = {}
actions["sync-now"] = { ["iconClass"] = "fa fa-fw fa-sync", ["displayName"] = "Sync now" }
return actions
