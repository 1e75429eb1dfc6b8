-- An echo server on copas 4: copas.lua IDENTITY PORT. (A program for LuaSec needs none of this: docs/luasec.md.)
local copas = require "copas"
local luassl = require "luassl"

local WOULD_BLOCK = -2

-- What copas and LuaSocket's select call for a socket, over an object of luassl's.
local Socket = {}
Socket.__index = Socket
-- By this copas knows that it is no UDP socket.
function Socket:__tostring() return "tcp{luassl}: " .. tostring(self.object) end
function Socket:getfd() return self.object:getfd() end
function Socket:dirty() return self.unread ~= "" end
function Socket:settimeout() return self.object:settimeout(0) end
function Socket:close() return self.object:close() end

function Socket:accept()
  local connection, message, code = self.object:accept()
  if not connection then
    return nil, code == WOULD_BLOCK and "timeout" or message
  end
  return setmetatable({ object = connection, unread = "" }, Socket)
end

--- A line, or so many bytes, as LuaSocket's.
function Socket:receive(pattern, prefix)
  while true do
    local last, after
    if type(pattern) == "number" then
      last = pattern - #(prefix or "")
      after = last + 1
    else
      local newline = self.unread:find("\n", 1, true)
      last, after = newline and newline - 1 or math.huge, newline and newline + 1
    end
    if last <= #self.unread then
      local data = (prefix or "") .. self.unread:sub(1, last)
      self.unread = self.unread:sub(after)
      return data
    end
    local data, code, message = self.object:read()
    if not data then
      local partial = (prefix or "") .. self.unread
      self.unread = ""
      return nil, code == WOULD_BLOCK and "timeout" or code == 0 and "closed" or message, partial
    end
    self.unread = self.unread .. data
  end
end

function Socket:send(data, from, to)
  from, to = from or 1, to or #data
  local code, message, taken = self.object:write(data:sub(from, to))
  if not code then
    return to
  end
  return nil, code == WOULD_BLOCK and "timeout" or message, from - 1 + taken
end

local listener = assert(luassl.wrap(arg[1] or "www"))
assert(listener:bind(arg[2] or 8443))
print(listener:getport())
io.flush()

copas.addserver(setmetatable({ object = listener }, Socket), copas.handler(function(socket)
  for line in function() return (socket:receive "*l") end do
    assert(socket:send(line .. "\n"))
  end
end))
copas.loop()
