-- copas_many.lua PKI COUNT: a server and so many clients at once in one loop of copas, each with some lines and a large
-- piece; how many got everything back is printed.
local copas = require "copas"
local socket = require "socket"
local kit = require "kit"

local count = tonumber(arg[2])
local large = ("x"):rep(100 * 1024)
local good = 0

local server = assert(socket.bind("127.0.0.1", 0))
local port = select(2, server:getsockname())

copas.addserver(server, copas.handler(function(conn)
  while true do
    local line = conn:receive "*l"
    if not line then
      return
    end
    conn:send(line .. "\n")
  end
end, { wrap = assert(kit.ssl.newcontext(kit.server_config())) }))

local ended = 0
for number = 1, count do
  copas.addthread(function()
    local conn = copas.wrap(socket.tcp(), {
      wrap = kit.client_config { verify = "peer" }, sni = { names = "localhost" },
    })
    assert(conn:connect("127.0.0.1", tonumber(port)))
    local same = true
    for _, line in ipairs { "one", "two " .. number, large } do
      conn:send(line .. "\n")
      same = same and conn:receive "*l" == line
    end
    conn:close()
    good = good + (same and 1 or 0)
    ended = ended + 1
    if ended == count then
      copas.removeserver(server)
    end
  end)
end

copas.loop()
print(("%d of %d"):format(good, count))
