-- An echo server that holds all its connections through poll on getfd(): echo_poll.lua [IDENTITY [LISTENER]].
-- Prints its port, or `serving` for a listener of the configuration. LuaJIT.
local posix = require "posix"
local ssl = require "luassl"

local listener = assert(ssl.wrap(arg[1] or "keys/server-p256.pem"))
assert(listener:bind(arg[2] and { listener = arg[2] } or 0))
listener:settimeout(0)
print(arg[2] and "serving" or listener:getport())
io.flush()

local watched = { listener }

while true do
  local gone = {}
  for _, object in ipairs(posix.poll(watched)) do
    if object == listener then
      repeat
        local connection = listener:accept()
        if connection then
          connection:settimeout(10)
          watched[#watched + 1] = connection
        end
      until not connection
    else
      local data = object:read()
      if not data or object:write(data) then
        object:close()
        gone[object] = true
      end
    end
  end
  for n = #watched, 1, -1 do
    if gone[watched[n]] then table.remove(watched, n) end
  end
end
