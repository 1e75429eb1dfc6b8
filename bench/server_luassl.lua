-- The server of the benchmarks on luassl: server_luassl.lua WORK. Prints its port.
--   receive     reads until the end of each connection
--   send        writes MiB mebibytes to each (the second argument), then closes
--   echo        sends back whatever comes
--   handshake   closes each connection at once
--   hold        keeps all of them
local work, mebibytes = arg[1], tonumber(arg[2])
local ssl = require "luassl"

local server = assert(ssl.wrap("server-p256"))
assert(server:bind(0, "127.0.0.1"))
print(server:getport())
io.flush()

local block = ("x"):rep(128 * 1024)
local held = {}

local works = {
  receive = function(connection)
    while connection:read() do end
    connection:close()
  end,
  send = function(connection)
    for _ = 1, mebibytes * 8 do connection:write(block) end
    connection:close()
  end,
  echo = function(connection)
    while true do
      local data = connection:read()
      if not data then break end
      connection:write(data)
    end
    connection:close()
  end,
  handshake = function(connection)
    connection:close()
  end,
  hold = function(connection)
    held[#held + 1] = connection
    connection:write("held")
  end,
}

while true do
  works[work](assert(server:accept()))
end
