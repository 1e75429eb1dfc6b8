-- A client that misbehaves: hostile.lua HOW PORT, where PORT has an echo server. Says `ready` once it has done its
-- worst, and stays. LuaJIT.
local posix = require "posix"
local socket = require "socket"
local ssl = require "luassl"

local how, port = arg[1], tonumber(arg[2])
local context = assert(ssl.wrap(nil, "keys/rootcert.pem"))
local worst = {}

local function connect()
  local object = context:new()
  assert(object:connect("localhost", port))
  return object
end

--- Its sockets wait: the connection's, and the TCP socket of which it kept a copy.
function worst.clears_nonblock()
  local plain = assert(socket.connect("127.0.0.1", port))
  local copy = posix.dup(plain:getfd())
  local object = context:new()
  assert(object:attach(plain, { role = "client", host = "localhost" }))
  posix.make_blocking(copy)
  posix.make_blocking(object:getfd())
  object:settimeout(0.2)
  for _ = 1, 200 do object:write(("x"):rep(65536)) end
  return object, copy
end

--- A listener of its own that waits in accept4 for everybody who shares it.
function worst.blocking_listener()
  local object = assert(ssl.wrap("keys/server-p256.pem"))
  assert(object:bind(0))
  object:settimeout(0)
  posix.make_blocking(object:getfd())
  for fd = 3, 64 do pcall(posix.make_blocking, fd) end
  return object
end

--- The server echoes, and nobody reads it.
function worst.never_reads()
  local objects = {}
  for n = 1, 5 do
    objects[n] = connect()
    objects[n]:settimeout(0.2)
    for _ = 1, 100 do
      if objects[n]:write(("x"):rep(65536)) then break end
    end
  end
  return objects
end

--- A FIFO and a file in place of a connection.
function worst.passes_a_fifo()
  local path = os.tmpname()
  os.remove(path)
  local fifo = posix.fifo(path)
  for _ = 1, 20 do
    local object = context:new()
    local ok, message, code = object:attach(posix.dup(fifo), { role = "client", host = false })
    assert(not ok and code == -7, tostring(message))
    ok, message, code = object:attach(posix.open("/dev/zero"), { role = "client", host = false })
    assert(not ok and code == -7, tostring(message))
  end
  os.remove(path)
end

--- Peers that begin a handshake and say no more.
function worst.stalls()
  local stalled = {}
  for n = 1, 50 do
    stalled[n] = assert(socket.connect("127.0.0.1", port))
    stalled[n]:send("\22\3\1\2\0\1\0\1\252\3\3")
  end
  return stalled
end

local kept = { worst[how]() }
print "ready"
io.flush()
posix.pause()
return kept
