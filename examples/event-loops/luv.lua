-- An echo server on luv: luv.lua IDENTITY PORT. Its polls watch descriptors and leave them to luassl.
local uv = require "luv"
local luassl = require "luassl"

local WOULD_BLOCK = -2

local listener = assert(luassl.wrap(arg[1] or "www"))
assert(listener:bind(arg[2] or 8443))
listener:settimeout(0)
print(listener:getport())
io.flush()

local function serve(connection)
  connection:settimeout(0)
  local poll = uv.new_poll(connection:getfd())
  local unsent = ""

  local function finish(clean)
    -- The poll ends before the descriptor does.
    poll:stop()
    poll:close(function()
      if clean then
        connection:close()
      else
        connection:clear()
      end
    end)
  end

  local watch

  --- Writes what there is to write: false where the connection has ended.
  local function flush()
    local code, _, taken = connection:write(unsent)
    unsent = code and unsent:sub(taken + 1) or ""
    if code and code ~= WOULD_BLOCK then
      finish(false)
      return false
    end
    return true
  end

  --- Reads again only when everything is written.
  function watch()
    poll:start(unsent == "" and "r" or "w", function()
      if unsent == "" then
        local data, code = connection:read()
        if not data and code ~= WOULD_BLOCK then
          return finish(code == 0)
        end
        unsent = data or ""
      end
      if flush() then
        watch()
      end
    end)
  end
  watch()
end

uv.new_poll(listener:getfd()):start("r", function()
  local connection = listener:accept()
  while connection do
    serve(connection)
    connection = listener:accept()
  end
end)
uv.run()
