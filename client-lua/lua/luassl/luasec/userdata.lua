-- Userdata that programs can inspect like LuaSec's: the metatable is readable and has a plain table as __index. The
-- state of each userdata is kept in a separate table with weak keys.

local core = require "luassl_core"

local userdata = {}

--- Installs methods, tostring and close in the metatable that all userdata of the type of `sample` share.
-- LuaSec registers its metatables as SSL:Context and SSL:Connection. These must not be registered, because cqueues
-- treats userdata with those names as pointers.
function userdata.install_metatable(sample, methods, tostring_of, close)
  if not (debug and debug.getmetatable) then
    error("luassl.luasec requires the debug library to set the metatables of its objects", 0)
  end
  local metatable = debug.getmetatable(sample)
  metatable.__index = methods
  metatable.__tostring = tostring_of
  metatable.__close = close
  -- The result of getmetatable. It is a copy, so that programs cannot call the finaliser.
  metatable.__metatable = { __index = methods, __tostring = tostring_of, __close = close }
end

--- Returns whether a value is a context or a session of luaossl, according to the names of their metatables.
function userdata.is_of_luaossl(value)
  local metatable = type(value) == "userdata" and debug.getmetatable(value)
  local registry = debug.getregistry()
  return metatable and (metatable == registry["SSL_CTX*"] or metatable == registry["SSL*"]) or false
end

--- Returns a function for __tostring.
function userdata.named(name)
  return function(self)
    return name .. ": " .. core.luasec.address(self)
  end
end

--- Throws like the Lua C API, at the level of the caller of the calling function.
function userdata.bad_argument(position, method, what)
  error(("bad argument #%d to '%s' (%s)"):format(position, method, what), 3)
end

return userdata
