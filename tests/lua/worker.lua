-- One of several processes that share a listener: worker.lua HOW NAME
--   HOW   accept (blocking) or poll
--   NAME  a listener of the configuration; or nothing: listens itself, prints its port, and forks three workers
-- A worker says its process id on each connection that it takes, echoes one line if one comes, and holds on to it.
local how, name = arg[1], arg[2]
local ssl = require "luassl"
local posix = require "posix"

local listener = assert(ssl.wrap("keys/server-p256.pem"))
local held = {}

local function take(connection)
  held[#held + 1] = connection
  connection:write(("worker %d\n"):format(posix.pid()))
end

local function serve_blocking()
  while true do
    local connection, message, code = listener:accept()
    if not connection then error(("accept: %s (%s)"):format(message, code)) end
    take(connection)
  end
end

local function serve_polling()
  listener:settimeout(0)
  while true do
    posix.poll({ listener })
    repeat
      local connection, message, code = listener:accept()
      if connection then
        take(connection)
      elseif code ~= -2 then
        error(("accept: %s (%s)"):format(message, code))
      end
    until not connection
  end
end

local serve = how == "poll" and serve_polling or serve_blocking

if name then
  assert(listener:bind { listener = name })
  print("serving")
  io.flush()
  serve()
else
  assert(listener:bind(0))
  local port = listener:getport()
  for _ = 1, 3 do posix.fork(serve) end
  print(port)
  io.flush()
  posix.pause()
end
