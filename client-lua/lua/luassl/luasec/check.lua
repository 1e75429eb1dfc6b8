-- Checks arguments like Lua's C API, with the same messages: numbers and numeric strings convert to each other. Errors
-- are thrown at the level of the function's caller.

local check = {}

local LEVEL = 4

local function wrong(position, method, what, above)
  error(("bad argument #%d to '%s' (%s)"):format(position, method, what), LEVEL + (above or 0))
end

local function got(value)
  return value == nil and "no value" or type(value)
end

--- Returns a string or number as a string, otherwise nil.
function check.as_text(value)
  return type(value) == "number" and tostring(value) or type(value) == "string" and value or nil
end

function check.text(value, position, method)
  return check.as_text(value) or wrong(position, method, ("string expected, got %s"):format(got(value)))
end

--- Returns a number; `default` for nil.
function check.number(value, position, method, default)
  if value == nil and default then
    return default
  end
  return tonumber(value) or wrong(position, method, ("number expected, got %s"):format(got(value)))
end

--- Returns a number truncated to an integer; `default` for nil.
function check.whole(value, position, method, default)
  local number = value == nil and default or tonumber(value)
  if not number then
    wrong(position, method, ("number expected, got %s"):format(got(value)))
  end
  return number < 0 and math.ceil(number) or math.floor(number)
end

--- Returns `known[value]`; throws if there is none. `above` is the number of functions between this one and the method.
function check.object(value, known, position, method, what, above)
  local state = value ~= nil and known[value]
  return state or wrong(position, method, ("%s expected, got %s"):format(what, got(value)), above)
end

local LABELS = { "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE" }

--- Returns whether a PEM text contains a certificate.
function check.has_certificate(pem)
  for _, label in ipairs(LABELS) do
    if pem:find("-----BEGIN " .. label .. "-----", 1, true) then
      return true
    end
  end
  return false
end

return check
