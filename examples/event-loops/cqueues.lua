-- An echo server on cqueues: cqueues.lua IDENTITY PORT.
local cqueues = require "cqueues"
local cs = require "cqueues.socket"
local luassl = require "luassl"

local listener = assert(luassl.wrap(arg[1] or "www"))
assert(listener:bind(arg[2] or 8443))
listener:settimeout(0)
print(listener:getport())
io.flush()

local function serve(connection)
  -- A duplicate: cqueues closes its own.
  local socket = cs.dup(connection:getfd())
  socket:setmode("b", "bn")
  local line = socket:read "*L"
  while line and socket:write(line) do
    line = socket:read "*L"
  end
  socket:close()
  -- What was written arrives, and the peer is told that this is the end; without waiting for its own.
  connection:settimeout(0)
  connection:close()
end

local loop = cqueues.new()
loop:wrap(function()
  while true do
    local connection = listener:accept()
    if connection then
      loop:wrap(serve, connection)
    else
      cqueues.poll({ pollfd = listener:getfd(), events = "r" })
    end
  end
end)
assert(loop:loop())
