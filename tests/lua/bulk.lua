-- bulk.lua receive | bulk.lua send BYTES: one connection, checksummed. Prints its port, then count, checksum and the
-- code that the reading ended with. LuaJIT.
local ffi = require "ffi"
local ssl = require "luassl"

local listener = assert(ssl.wrap("keys/server-p256.pem"))
assert(listener:bind(0))
print(listener:getport())
io.flush()
local connection = assert(listener:accept())

local a, b, count = 1, 0, 0

--- Adler-32, as RFC 1950 has it.
local function add(data)
  local bytes = ffi.cast("const uint8_t *", data)
  local size = #data
  for from = 0, size - 1, 4096 do
    for n = from, math.min(from + 4096, size) - 1 do
      a = a + bytes[n]
      b = b + a
    end
    a, b = a % 65521, b % 65521
  end
  count = count + size
end

local function receive()
  while true do
    local data, code = connection:read()
    if not data then return code end
    add(data)
  end
end

local function send(total)
  local block = {}
  for n = 0, 251 do block[n + 1] = string.char(n) end
  block = table.concat(block):rep(520) -- 252 * 520 bytes: no power of two
  while count < total do
    local data = block:sub(1, total - count)
    local code, message = connection:write(data)
    assert(not code, message)
    add(data)
  end
  connection:shutdown()
  return 0
end

local code = arg[1] == "send" and send(tonumber(arg[2])) or receive()
print(("%d %d %d"):format(count, b * 65536 + a, code))
