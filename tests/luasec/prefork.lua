-- prefork.lua PKI CHILDREN ROUNDS: a server that forks: one listener and contexts of before, so many children that wrap
-- what they accept, and the parent as their client, with a context of before as well.
local kit = require "kit"
local socket = require "socket"
local unistd = require "posix.unistd"
local wait = require("posix.sys.wait").wait

local CHILDREN, ROUNDS = tonumber(arg[2]), tonumber(arg[3])
local of_server = assert(kit.ssl.newcontext(kit.server_config()))
local of_client = assert(kit.ssl.newcontext(kit.client_config { verify = "peer" }))

--- Runs `body` in a child: its process id.
local function fork(body)
  io.stdout:flush()
  local pid = assert(unistd.fork())
  if pid ~= 0 then
    return pid
  end
  local good, trace = xpcall(body, debug.traceback)
  if not good then
    io.stderr:write(trace, "\n")
  end
  -- Closes the Lua state, and with it whatever was the parent's.
  os.exit(good and 0 or 1, true)
end

local function ended_well(pid)
  local _, how, status = wait(pid)
  assert(how == "exited" and status == 0, ("child %d: %s %s"):format(pid, tostring(how), tostring(status)))
end

--- One connection: every line is answered with the process that did, until one that says `quit`.
local function serve(conn)
  local quit = false
  for line in function() return (conn:receive "*l") end do
    quit = quit or line == "quit"
    assert(conn:send(("%d %s\n"):format(unistd.getpid(), line)))
  end
  conn:close()
  return quit
end

local function accept(listener)
  local conn = assert(kit.ssl.wrap(assert(listener:accept()), of_server))
  assert(conn:dohandshake())
  return conn
end

local function child(listener)
  local before
  repeat
    local quit = serve(accept(listener))
    collectgarbage()
    local now = kit.descriptors()
    before = before or now
    -- One more or less: an end of the pipe to `ls`.
    assert(now <= before + 1, ("%d descriptors before, %d after"):format(before, now))
  until quit
end

local function connect(port)
  local conn = assert(kit.ssl.wrap(assert(socket.connect("127.0.0.1", port)), of_client))
  assert(conn:dohandshake())
  return conn
end

--- Says `line` on connections open at once, one for each child: how many processes answered.
local function ask(port, line)
  local conns, answered, count = {}, {}, 0
  for number = 1, CHILDREN do
    conns[number] = connect(port)
  end
  for _, conn in ipairs(conns) do
    assert(conn:send(line .. "\n"))
    local pid, said = assert(conn:receive "*l"):match "^(%d+) (.*)$"
    assert(said == line)
    count = count + (answered[pid] and 0 or 1)
    answered[pid] = true
    conn:close()
  end
  return count
end

local function a_server_that_forks()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local port = select(2, listener:getsockname())
  local children = {}
  for number = 1, CHILDREN do
    children[number] = fork(function() child(listener) end)
  end
  for _ = 1, ROUNDS do
    kit.equal(ask(port, "line"), CHILDREN, "processes that answered")
  end
  kit.equal(ask(port, "quit"), CHILDREN, "processes that answered")
  for _, pid in ipairs(children) do
    ended_well(pid)
  end
  return listener
end

--- A connection of before the fork goes on in the child, and the other one in the parent.
local function connections_of_before()
  local server, client = kit.connected(of_server, of_client)
  server:settimeout(5)
  client:settimeout(5)
  local pid = fork(function()
    -- Without the parent's: LuaSec would say close_notify on it.
    if not kit.luassl then
      unistd.close(client:getfd())
    end
    kit.equal(server:receive "*l", "to the child")
    assert(server:send "from the child\n")
  end)
  assert(client:send "to the child\n")
  kit.equal(client:receive "*l", "from the child")
  ended_well(pid)
end

--- However a program says it, a time that is not over waits for a peer that takes its time.
local function waits_in_every_form()
  local forms = { {}, { -1 }, { 20 }, { 20, "b" }, { 20, "t" }, { 20, "r" }, { "20" }, { -1, "t" } }
  local listener = assert(socket.bind("127.0.0.1", 0))
  local pid = fork(function()
    local conn = accept(listener)
    for _ in ipairs(forms) do
      conn:receive "*l"
      socket.sleep(0.05)
      conn:send "late\n"
    end
    conn:receive "*l"
  end)
  local conn = connect((select(2, listener:getsockname())))
  for _, form in ipairs(forms) do
    conn:settimeout(-1)
    conn:settimeout(-1, "t")
    kit.equal(conn:settimeout((table.unpack or unpack)(form)), 1)
    assert(conn:send "now\n")
    kit.equal(conn:receive "*l", "late")
  end
  conn:close()
  ended_well(pid)
end

local listener = a_server_that_forks()
connections_of_before()
waits_in_every_form()

-- The parent itself may serve as well, and fork again.
local pid = fork(function() serve(connect((select(2, listener:getsockname())))) end)
local conn = accept(listener)
assert(conn:send "a line\n")
assert(assert(conn:receive "*l"):find "a line")
conn:close()
ended_well(pid)
print "children and parent"
