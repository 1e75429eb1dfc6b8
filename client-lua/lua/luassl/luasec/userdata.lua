-- Userdata that programs can look into as into LuaSec's: their metatable has a plain table as __index and can be read.
-- What belongs to one of them is kept beside it, in a table with weak keys.

local core = require "luassl_core"

local userdata = {}

--- Gives all userdata of the kind of `sample` these methods, and a name for tostring (without the colon).
-- LuaSec's metatables are registered as SSL:Context and SSL:Connection; these must not be: cqueues takes what has that
-- name for a pointer.
function userdata.install_metatable(sample, methods, tostring_of, close)
  if not (debug and debug.getmetatable) then
    error("luassl.luasec needs the debug library, to give its objects metatables that programs can read", 0)
  end
  local metatable = debug.getmetatable(sample)
  metatable.__index = methods
  metatable.__tostring = tostring_of
  metatable.__close = close
  -- What getmetatable gives: not the table itself, whose finaliser must not be called by programs.
  metatable.__metatable = { __index = methods, __tostring = tostring_of, __close = close }
end

--- Whether a value is a context or a session of luaossl, by the names of their metatables.
function userdata.is_of_luaossl(value)
  local metatable = type(value) == "userdata" and debug.getmetatable(value)
  local registry = debug.getregistry()
  return metatable and (metatable == registry["SSL_CTX*"] or metatable == registry["SSL*"]) or false
end

--- A function for __tostring.
function userdata.named(name)
  return function(self)
    return name .. ": " .. core.luasec.address(self)
  end
end

--- Throws as the Lua C API does, at the level of whoever called the function that calls this.
function userdata.bad_argument(position, method, what)
  error(("bad argument #%d to '%s' (%s)"):format(position, method, what), 3)
end

return userdata
