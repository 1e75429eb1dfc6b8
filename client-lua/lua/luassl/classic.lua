--- LuaSSL 1.0's original behaviour: the global `ssl`; wrap, bind, accept and connect throw on failure; functions return
-- nothing where LuaSSL returned nothing. `lua -l luassl.classic program.lua` runs a program written for it.

local luassl = require "luassl"
local internal = luassl._internal
local Object, throw = internal.Object, internal.throw
internal.own_source()

local DAEMON_GONE = -4

local Classic = setmetatable({}, { __index = Object })
Classic.__index = Classic
Classic.__name = "ssl"
Classic.__tostring = Object.__tostring
internal.register(Classic)

local ssl = setmetatable({ _VERSION = luassl._VERSION }, { __index = luassl })

--- Converts wrap's arguments to options. LuaSSL requests a certificate from the peer by default.
local function classic_options(...)
  local options = {}
  for name, value in pairs(internal.named(...)) do
    options[name] = value
  end
  if options.verify == nil then
    options.verify = luassl.VERIFY_PEER
  end
  return options
end

--- Returns a method that throws its failure and returns nothing.
local function throwing(name)
  local method = Object[name]
  return function(self, ...)
    local ok, message = method(self, ...)
    if not ok then
      throw(message)
    end
  end
end

--- Returns a method that returns nothing, even on failure.
local function silent(name)
  local method = Object[name]
  return function(self, ...)
    method(self, ...)
  end
end

Classic.bind = throwing "bind"
Classic.connect = throwing "connect"
Classic.renegotiate = silent "renegotiate"
Classic.shutdown = silent "shutdown"
Classic.close = Classic.shutdown
Classic.clear = silent "clear"
Classic.free = silent "free"

function Classic:wrap(...)
  local ok, message = Object.wrap(self, classic_options(...))
  if not ok then
    throw(message)
  end
end

--- Waits for a client. The object is the only owner of the connection, so the previous one is closed. After a restart
-- of the daemon the listener is passed to it again, transparently for the server.
function Classic:accept(...)
  local connection, message, code = Object.accept(self, ...)
  if not connection and code == DAEMON_GONE then
    connection, message = Object.accept(self, ...)
  end
  if not connection then
    throw(message)
  end
  internal.own_connection(self)
end

function ssl.create()
  return internal.new(Classic)
end

function ssl.wrap(...)
  local object = ssl.create()
  object:wrap(...)
  return object
end

_G.ssl = ssl

return ssl
