-- Arguments as Lua's C API takes them, and its messages: numbers are texts, and texts that are numbers are numbers. The
-- messages are thrown at whoever called the function that checks.

local check = {}

local LEVEL = 4

local function wrong(position, method, what)
  error(("bad argument #%d to '%s' (%s)"):format(position, method, what), LEVEL)
end

local function got(value)
  return value == nil and "no value" or type(value)
end

--- A value as a text; nil where it is none.
function check.as_text(value)
  return type(value) == "number" and tostring(value) or type(value) == "string" and value or nil
end

function check.text(value, position, method)
  return check.as_text(value) or wrong(position, method, ("string expected, got %s"):format(got(value)))
end

function check.number(value, position, method)
  return tonumber(value) or wrong(position, method, ("number expected, got %s"):format(got(value)))
end

--- A number without its fraction; `default` for nil.
function check.whole(value, position, method, default)
  local number = value == nil and default or tonumber(value)
  if not number then
    wrong(position, method, ("number expected, got %s"):format(got(value)))
  end
  return number < 0 and math.ceil(number) or math.floor(number)
end

--- `value` where it is not nil, which `known` has as a key.
function check.object(value, known, position, method, what)
  local state = value ~= nil and known[value]
  return state or wrong(position, method, ("%s expected, got %s"):format(what, got(value)))
end

return check
