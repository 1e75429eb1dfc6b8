--- LuaSSL's API, with TLS and keys in a daemon (luassld).
-- Functions return `nil, message, code` on failure. read and write have LuaSSL's own results. Misuse throws an error.
-- An object is a Lua table with native handles, which close their descriptors when they are collected, on every Lua.

local core = require "luassl_core"

local MISUSE = -7
local TIMEOUT = -2

-- The largest read, in bytes.
local MAX_READ = 2 ^ 30

local luassl = {
  _VERSION = "luassl " .. core.version,
  _DESCRIPTION = "TLS in a daemon, with LuaSSL's API",
}
for name, value in pairs(core.constants) do
  luassl[name] = value
end

local Object = {}
Object.__index = Object
Object.__name = "luassl"

-- Metatables of objects; luassl.classic adds its own.
local classes = { [Object] = true }

-- The files of this module. Errors that they throw are reported at their caller's line.
local own_sources = {}

--- Throws an error at the first line outside this module.
local function throw(message)
  local level = 3
  if debug and debug.getinfo then
    level = 2
    local frame = debug.getinfo(level, "S")
    while frame and own_sources[frame.source] do
      level = level + 1
      frame = debug.getinfo(level, "S")
    end
  end
  error(message, level)
end

--- Registers the file of the calling function as part of this module.
local function own_source()
  if debug and debug.getinfo then
    own_sources[debug.getinfo(2, "S").source] = true
  end
end
own_source()

--- Throws unless `self` is an object of this module.
local function check(self, method)
  if type(self) ~= "table" or not classes[getmetatable(self)] then
    throw(("calling '%s' on a bad self: use object:%s(...)"):format(method, method))
  end
end

local function check_argument(condition, method, position, wanted, value)
  if not condition then
    local got = type(value) == "number" and tostring(value) or type(value)
    throw(("bad argument #%d to '%s' (%s expected, got %s)"):format(position, method, wanted, got))
  end
end

local function is_whole(value)
  return type(value) == "number" and value % 1 == 0
end

local function port_number(port)
  if type(port) == "string" then
    port = tonumber(port)
  end
  return is_whole(port) and port >= 0 and port <= 65535 and port or nil
end

local function new(class, context)
  return setmetatable({ _context = context }, class)
end

--- Returns the context, or nil, message, code.
local function context_of(self)
  if self._freed then
    return nil, "the object is freed", MISUSE
  end
  if not self._context then
    return nil, "the object has no context: call wrap first", MISUSE
  end
  return self._context
end

--- Drops the connection, unless the program received it as a separate object.
local function drop_connection(self)
  if self._stream and not self._handed_out then
    self._stream:cut()
  end
  if self._pending_connection then
    self._pending_connection:cut()
  end
  self._stream, self._pending_connection, self._failure, self._handed_out = nil, nil, nil, nil
end

--- Stores the reason why there is no connection, so that later calls of read and write return the same code.
local function failed(self, message, code)
  self._failure = { message, code }
  return nil, message, code
end

--- Continues with a connection that is not ready. Returns true, or nil, message, code.
local function advance(self)
  local stream, message, code = self._pending_connection:advance(self._timeout)
  if stream then
    self._stream, self._pending_connection = stream, nil
    return true
  end
  if code ~= TIMEOUT then
    self._pending_connection = nil
    return failed(self, message, code)
  end
  return nil, message, code
end

--- Returns the connection's handle, or nil, message, code.
local function connection_of(self)
  if self._pending_connection then
    local ok, message, code = advance(self)
    if not ok then
      return nil, message, code
    end
  end
  if self._stream then
    return self._stream
  end
  if self._freed then
    return nil, "the object is freed", MISUSE
  end
  if self._failure then
    return nil, self._failure[1], self._failure[2]
  end
  return nil, "there is no connection", MISUSE
end

local function has_connection(self)
  return self._pending_connection ~= nil or (self._stream ~= nil and self._stream:isopen())
end

local positional = { "key", "certificate", "certdir", "dhfile", "ciphers", "verify", "options" }

--- Converts the positional arguments of wrap to named options.
local function named(...)
  local first = ...
  if type(first) == "table" then
    return first
  end
  local options = {}
  for index, name in ipairs(positional) do
    options[name] = (select(index, ...))
  end
  -- LuaSSL loaded the system's authorities in addition to the given ones.
  if options.certdir then
    options.trust = "system"
  end
  return options
end

--- Creates a context for wrap; throws on unknown options.
local function make_context(options)
  local context, message, code, collecting_may_help = core.context(options)
  if not context and collecting_may_help then
    -- Unreferenced objects keep their contexts until they are collected.
    collectgarbage()
    collectgarbage()
    context, message, code = core.context(options)
  end
  if not context and not code then
    throw(message)
  end
  return context, message, code
end

--- Creates the object's context: wrap(key, certificate, certdir, dhfile, ciphers, verify, options) or
--- wrap{...}.
function Object:wrap(...)
  check(self, "wrap")
  if self._freed then
    return nil, "the object is freed", MISUSE
  end
  local context, message, code = make_context(named(...))
  if not context then
    return nil, message, code
  end
  if self._context then
    self._context:release()
  end
  self._context = context
  return self
end

--- Returns another object with the same context and no connection.
function Object:new()
  check(self, "new")
  local context, message, code = context_of(self)
  if not context then
    return nil, message, code
  end
  return new(getmetatable(self), context:share())
end

--- Listens: bind(port [, address]), or bind{listener=NAME} for a listener of the daemon's configuration.
function Object:bind(port, address)
  check(self, "bind")
  local options = type(port) == "table" and port or { port = port, address = address }
  local number = port_number(options.port)
  check_argument(options.listener or number, "bind", 1, "port from 0 to 65535", options.port)
  check_argument(options.address == nil or type(options.address) == "string", "bind", 2, "string", options.address)
  check_argument(options.listener == nil or type(options.listener) == "string", "bind", 1, "listener's name",
    options.listener)
  local context, message, code = context_of(self)
  if not context then
    return nil, message, code
  end
  if self._listener then
    return nil, ("already bound to %s: close it first"):format(self._listener:address()), MISUSE
  end
  local listener
  if options.listener then
    listener, message, code = context:configured(options.listener)
  else
    listener, message, code = context:bind(number, options.address)
  end
  if not listener then
    return nil, message, code
  end
  self._listener = listener
  if self._timeout == 0 then
    listener:prefetch()
  end
  return true
end

--- Splits `address:port` and `[address]:port`.
local function split_address(text)
  local address, port = (text or ""):match("^%[?(.-)%]?:(%d+)$")
  return address, port
end

--- Returns the port of the listener, as a string.
function Object:getport()
  check(self, "getport")
  if self._freed then
    return nil, "the object is freed", MISUSE
  end
  if not self._listener then
    return nil, "the object is not bound", MISUSE
  end
  local _, port = split_address(self._listener:address())
  return port
end

--- Returns the next connection of the listener as a separate object; this object can use it as well.
-- `expected` is a name or address that the peer's certificate must contain. With {report=true}, failed handshakes of
-- peers are returned too: nil, message, code, "handshake".
function Object:accept(expected)
  check(self, "accept")
  local options = type(expected) == "table" and expected or { expected = expected }
  check_argument(options.expected == nil or type(options.expected) == "string", "accept", 1, "name",
    options.expected)
  drop_connection(self)
  if self._freed then
    return nil, "the object is freed", MISUSE
  end
  if not self._listener then
    return failed(self, "the object is not bound: call bind first", MISUSE)
  end
  local stream, message, code, what = self._listener:accept(options.report == true, self._timeout)
  if not stream then
    failed(self, message, code)
    if what then
      return nil, message, code, what
    end
    return nil, message, code
  end
  if options.expected then
    local ok
    ok, message, code = stream:matches(options.expected)
    if not ok then
      stream:close(0)
      return failed(self, message, code)
    end
  end
  local connection = new(getmetatable(self), self._context:share())
  connection._stream = stream
  self._stream, self._handed_out = stream, true
  return connection
end

--- Connects: connect(address, port [, expected]). The peer's certificate must be valid for `expected`, which defaults
-- to `address`; `false` disables the check. Without arguments it continues a connect that returned a timeout.
function Object:connect(address, port, expected)
  check(self, "connect")
  if address == nil and port == nil then
    if self._pending_connection then
      return advance(self)
    end
    local stream, message, code = connection_of(self)
    return stream and true, message, code
  end
  check_argument(type(address) == "string", "connect", 1, "string", address)
  local number = port_number(port)
  check_argument(number, "connect", 2, "port from 0 to 65535", port)
  check_argument(expected == nil or expected == false or type(expected) == "string", "connect", 3, "name or false",
    expected)
  local context, message, code = context_of(self)
  drop_connection(self)
  if not context then
    return failed(self, message, code)
  end
  if expected == nil then
    expected = address
  end
  self._pending_connection, message, code = context:dial(address, number, expected or nil)
  if not self._pending_connection then
    return failed(self, message, code)
  end
  return advance(self)
end

local function is_descriptor(value)
  return is_whole(value) and value >= -2147483648 and value <= 2147483647
end

--- Returns the descriptor of a connected socket, which is a number or a LuaSocket object that can release its
--- descriptor.
local function descriptor_of(socket)
  if is_descriptor(socket) then
    return socket
  end
  if type(socket) ~= "table" and type(socket) ~= "userdata" then
    return nil
  end
  local ok, fd = pcall(function()
    return socket.setfd and socket:getfd()
  end)
  return ok and is_descriptor(fd) and fd or nil
end

--- Begins TLS on a connected socket (STARTTLS): attach(socket or descriptor, {role="client", host=NAME or false,
-- sni=NAME}) or attach(socket, {role="server"}). On success luassl owns the descriptor.
function Object:attach(socket, options)
  check(self, "attach")
  options = options or {}
  check_argument(type(options) == "table", "attach", 2, "table", options)
  local role, host, sni = options.role, options.host, options.sni
  check_argument(role == "client" or role == "server", "attach", 2, "table with role = 'client' or 'server'", options)
  check_argument(role == "server" or host == false or type(host) == "string", "attach", 2,
    "table with host = NAME, or false to check no name", options)
  check_argument(sni == nil or type(sni) == "string", "attach", 2, "table with sni = NAME", options)
  local fd = descriptor_of(socket)
  check_argument(fd, "attach", 1, "LuaSocket object or descriptor", socket)
  local context, message, code = context_of(self)
  if not context then
    return nil, message, code
  end
  if type(socket) ~= "number" and socket.dirty and socket:dirty() then
    return nil, "the socket has buffered data that TLS would miss: call attach before reading further", MISUSE
  end
  drop_connection(self)
  self._pending_connection, message, code = context:attach(fd, role == "server", host or nil, sni, self._timeout)
  if not self._pending_connection then
    return failed(self, message, code)
  end
  if type(socket) ~= "number" then
    socket:setfd(-1)
  end
  return advance(self)
end

--- Returns at most `size` bytes of data, or nil, code, message. The code is 0 for a clean close and negative otherwise.
function Object:read(size)
  check(self, "read")
  if size ~= nil then
    check_argument(is_whole(size) and size > 0, "read", 1, "whole number above 0", size)
    -- Larger sizes are accepted, but no read returns more.
    size = size < MAX_READ and size or MAX_READ
  end
  local stream = self._stream
  if not stream then
    local message, code
    stream, message, code = connection_of(self)
    if not stream then
      return nil, code, message
    end
  end
  return stream:read(size, self._timeout)
end

--- Writes all of `data`. Returns nothing on success, otherwise code, message, and the number of bytes written.
function Object:write(data)
  check(self, "write")
  if type(data) == "number" then
    data = tostring(data)
  end
  check_argument(type(data) == "string", "write", 1, "string", data)
  local stream = self._stream
  if not stream then
    local message, code
    stream, message, code = connection_of(self)
    if not stream then
      return code, message, 0
    end
  end
  return stream:write(data, self._timeout)
end

--- Starts a renegotiation (TLS 1.2), or a key update or a request for the client's certificate (TLS 1.3).
function Object:renegotiate()
  check(self, "renegotiate")
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  return stream:renegotiate(self._timeout)
end

--- Closes the connection cleanly and keeps the listener. Without a connection, closes the listener. Can be
--- repeated.
function Object:shutdown()
  check(self, "shutdown")
  if has_connection(self) then
    local stream = self._stream
    if not stream then
      drop_connection(self)
      return true
    end
    self._stream, self._failure, self._handed_out = nil, nil, nil
    return stream:close(self._timeout)
  end
  drop_connection(self)
  if self._listener then
    self._listener:close()
    self._listener = nil
  end
  return true
end

Object.close = Object.shutdown

--- Drops the connection at once, without close_notify.
function Object:clear()
  check(self, "clear")
  self._handed_out = nil
  drop_connection(self)
  return true
end

--- Releases the connection, the listener and the context, unless another object uses the context.
function Object:free()
  check(self, "free")
  drop_connection(self)
  if self._listener then
    self._listener:close()
  end
  if self._context then
    self._context:release()
  end
  self._listener, self._context, self._freed = nil, nil, true
  return true
end

--- Sets the timeout of accept, connect, read and write, in seconds: nil waits forever, 0 does not wait.
function Object:settimeout(seconds)
  check(self, "settimeout")
  -- NaN does not equal itself.
  check_argument(seconds == nil or (type(seconds) == "number" and seconds == seconds), "settimeout", 1,
    "number of seconds or nil", seconds)
  self._timeout = seconds and seconds >= 0 and seconds or nil
  if seconds == 0 and self._listener then
    self._listener:prefetch()
  end
  return true
end

--- Returns the descriptor to poll. A listener's is readable when a connection is ready, a connection's when data is
-- available.
-- While a connect is in progress, the second result is "read" or "write", the event to poll for.
function Object:getfd()
  check(self, "getfd")
  if self._pending_connection then
    return self._pending_connection:getfd()
  end
  if self._listener then
    return self._listener:getfd(self._timeout)
  end
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  local fd = stream:getfd()
  if not fd then
    return nil, "the connection is closed", MISUSE
  end
  return fd
end

local function address_result(text)
  local address, port = split_address(text)
  if not address then
    return nil, "the address is unknown", MISUSE
  end
  return address, tonumber(port)
end

--- Returns the address and the port of the peer.
function Object:getpeername()
  check(self, "getpeername")
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  return address_result((stream:addresses()))
end

--- Returns the local address and port of the connection, or of the listener if there is no connection.
function Object:getsockname()
  check(self, "getsockname")
  if self._listener and not has_connection(self) then
    return address_result(self._listener:address())
  end
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  return address_result((select(2, stream:addresses())))
end

--- Returns the number of bytes that can be read without waiting.
function Object:pending()
  check(self, "pending")
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  return stream:pending()
end

--- Returns information about the connection as a table, or one field of it.
function Object:info(field)
  check(self, "info")
  check_argument(field == nil or type(field) == "string", "info", 1, "string", field)
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  local info
  info, message, code = stream:info(self._timeout)
  if not info then
    return nil, message, code
  end
  if field then
    return info[field]
  end
  return info
end

--- Returns the peer's certificate, as a table.
function Object:peercertificate()
  check(self, "peercertificate")
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  return stream:certificate(self._timeout)
end

--- Returns keying material (RFC 5705): export(label, length [, context]).
function Object:export(label, length, context)
  check(self, "export")
  check_argument(type(label) == "string", "export", 1, "string", label)
  check_argument(is_whole(length) and length > 0 and length <= 1024, "export", 2, "whole number from 1 to 1024", length)
  check_argument(context == nil or type(context) == "string", "export", 3, "string", context)
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  return stream:export(label, length, context, self._timeout)
end

--- Sets an option of the TCP socket: "tcp-nodelay" (on by default) or "keepalive".
function Object:setoption(name, value)
  check(self, "setoption")
  check_argument(type(name) == "string", "setoption", 1, "string", name)
  check_argument(value == nil or type(value) == "boolean", "setoption", 2, "boolean", value)
  local stream, message, code = connection_of(self)
  if not stream then
    return nil, message, code
  end
  return stream:setoption(name, value ~= false, self._timeout)
end

--- Returns a description for logs.
function Object:__tostring()
  local what = self._freed and "freed" or self._stream and "connection" or self._listener and "listener" or "object"
  return "luassl " .. what
end

--- Creates an object without a context. object:wrap creates its context.
function luassl.create()
  return new(Object)
end

--- Creates an object with a context: wrap(key, certificate, certdir, dhfile, ciphers, verify, options) or
--- wrap{...}.
function luassl.wrap(...)
  local context, message, code = make_context(named(...))
  if not context then
    return nil, message, code
  end
  return new(Object, context)
end

--- For luassl.classic: the methods and constructor of objects, and helpers of wrap.
luassl._internal = {
  Object = Object,
  new = new,
  named = named,
  throw = throw,
  own_source = own_source,
  register = function(class)
    classes[class] = true
  end,
  -- Makes the object the only owner of the connection, which is closed when the object drops it.
  own_connection = function(self)
    self._handed_out = nil
  end,
}

return luassl
