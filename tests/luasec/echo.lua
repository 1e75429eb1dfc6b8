-- echo.lua PKI: echoes lines to one client after the other; prints its port, then how each connection ended.
local socket = require "socket"
local kit = require "kit"

local context = assert(kit.ssl.newcontext(kit.server_config()))
local listener = assert(socket.bind("127.0.0.1", 0))
print((select(2, listener:getsockname())))
io.stdout:flush()

while true do
  local conn = assert(kit.ssl.wrap(assert(listener:accept()), context))
  local good, reason = conn:dohandshake()
  while good do
    local line
    line, reason = conn:receive "*l"
    good = line and conn:send(line .. "\n")
  end
  print(reason)
  io.stdout:flush()
  conn:close()
end
