-- many_wraps.lua PKI COUNT: wraps sockets and closes or forgets them, and has as many descriptors as before.
local kit = require "kit"

local contexts = { assert(kit.ssl.newcontext(kit.server_config())), assert(kit.ssl.newcontext(kit.client_config())) }

local function turn(number)
  local server, client = kit.wrapped(contexts[1], contexts[2])
  client:dohandshake()
  if number % 100 == 0 then
    kit.shake(server, client)
  end
  if number % 2 == 0 then
    server:close()
    client:close()
  end
end

turn(1)
collectgarbage()
local before = kit.descriptors()
for number = 1, tonumber(arg[2]) do
  turn(number)
  if number % 200 == 0 then
    collectgarbage()
  end
end
collectgarbage()
collectgarbage()
local after = kit.descriptors()
assert(after <= before + 1, ("%d descriptors before, %d after"):format(before, after))
print(after)
