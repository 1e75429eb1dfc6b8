-- The server of the benchmarks on LuaSec: server_luasec.lua WORK, with the works of server_luassl.lua.
local work, mebibytes = arg[1], tonumber(arg[2])
local socket = require "socket"
local ssl = require "ssl"

local context = assert(ssl.newcontext {
  mode = "server", protocol = "any", options = "all",
  key = "keys/server-p256.pem", certificate = "keys/server-p256.pem",
})
local server = assert(socket.bind("127.0.0.1", 0))
print((select(2, server:getsockname())))
io.flush()

local block = ("x"):rep(128 * 1024)
local held = {}

local works = {
  receive = function(connection)
    while connection:receive(64 * 1024) do end
    connection:close()
  end,
  send = function(connection)
    for _ = 1, mebibytes * 8 do connection:send(block) end
    connection:close()
  end,
  echo = function(connection)
    while true do
      local data = connection:receive(64)
      if not data then break end
      connection:send(data)
    end
    connection:close()
  end,
  handshake = function(connection)
    connection:close()
  end,
  hold = function(connection)
    held[#held + 1] = connection
    connection:send("held")
  end,
}

while true do
  local plain = assert(server:accept())
  plain:setoption("tcp-nodelay", true)
  local connection = assert(ssl.wrap(plain, context))
  if connection:dohandshake() then works[work](connection) end
end
