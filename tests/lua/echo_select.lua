-- An echo server that holds all its connections through LuaSocket's select. Prints its port.
local socket = require "socket"
local ssl = require "luassl"

local listener = assert(ssl.wrap(arg[1] or "keys/server-p256.pem"))
assert(listener:bind(0))
listener:settimeout(0)
print(listener:getport())
io.flush()

local watched = { listener }

local function take_all()
  repeat
    local connection = listener:accept()
    if connection then
      connection:settimeout(10)
      watched[#watched + 1] = connection
    end
  until not connection
end

local function forget(connection)
  for n, object in ipairs(watched) do
    if object == connection then return table.remove(watched, n) end
  end
end

while true do
  for _, object in ipairs((socket.select(watched))) do
    if object == listener then
      take_all()
    else
      local data = object:read()
      if not data or object:write(data) then
        object:close()
        forget(object)
      end
    end
  end
end
