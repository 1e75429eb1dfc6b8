-- Before a sample of LuaSec's (lua -l sample): it uses port 8888, and here the one that SAMPLE_PORT says; standard error
-- hears when it listens, and what it prints comes at once.
local socket = require "socket"

local PORT = tonumber(os.getenv "SAMPLE_PORT")
local methods = getmetatable(socket.tcp()).__index
local bind, connect, listen = methods.bind, methods.connect, methods.listen

function methods.bind(self, address, port)
  return bind(self, address, port == 8888 and PORT or port)
end

function methods.connect(self, address, port)
  return connect(self, address, port == 8888 and PORT or port)
end

function methods.listen(self, ...)
  local good, reason = listen(self, ...)
  io.stderr:write "listening\n"
  return good, reason
end

io.stdout:setvbuf "line"
