-- Lists of application protocols in wire format: length-prefixed names (RFC 7301).

local alpn = {}

--- Returns the wire format of a list, or nil and the reason.
function alpn.wire(list)
  local parts = {}
  for _, name in ipairs(list) do
    if type(name) ~= "string" then
      return nil
    elseif #name == 0 then
      return nil, "invalid ALPN name (empty string)"
    elseif #name > 255 then
      return nil, "invalid ALPN name (length > 255)"
    end
    parts[#parts + 1] = string.char(#name) .. name
  end
  if #parts == 0 then
    return nil, "invalid ALPN list (empty)"
  end
  return table.concat(parts)
end

--- Parses the wire format.
function alpn.list(wire)
  local list, at = {}, 1
  while at <= #wire do
    local length = wire:byte(at)
    list[#list + 1] = wire:sub(at + 1, at + length)
    at = at + 1 + length
  end
  return list
end

--- Returns the first entry of `ours` that `theirs` contains.
function alpn.choose(ours, theirs)
  for _, name in ipairs(ours) do
    for _, offered in ipairs(theirs) do
      if name == offered then
        return name
      end
    end
  end
end

return alpn
