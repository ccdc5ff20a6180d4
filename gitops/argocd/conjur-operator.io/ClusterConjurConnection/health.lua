-- Health by the conditions that all kinds of conjur-operator.io have (docs/reasons.md): this file is the same for each of them.
local hs = { status = "Progressing", message = "waiting for the operator" }

if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "being deleted"
  return hs
end

local status = obj.status
if status == nil or status.conditions == nil then
  return hs
end

local ready, reconciling, stalled
for _, condition in ipairs(status.conditions) do
  if condition.type == "Ready" then
    ready = condition
  elseif condition.type == "Reconciling" and condition.status == "True" then
    reconciling = condition
  elseif condition.type == "Stalled" and condition.status == "True" then
    stalled = condition
  end
end

local function say(condition)
  if condition ~= nil then
    hs.message = condition.reason .. ": " .. condition.message
  end
end

if status.observedGeneration ~= obj.metadata.generation then
  -- What stands there tells of an older spec, but for a fault that keeps the new one from being looked at to the end.
  if reconciling ~= nil and reconciling.observedGeneration == obj.metadata.generation then
    say(reconciling)
  end
  return hs
end

if obj.spec.suspend == true then
  hs.status = "Suspended"
  say(ready)
elseif stalled ~= nil then
  hs.status = "Degraded"
  say(stalled)
elseif ready ~= nil and ready.status == "True" then
  -- With Reconciling beside it the last good state stands, and a fault is tried again.
  hs.status = "Healthy"
  say(reconciling or ready)
else
  say(reconciling or ready)
end
return hs
