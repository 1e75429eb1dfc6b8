-- What the suite is made with. It runs on one `ssl` module for both sides, in one process: a server and a client that
-- take turns, so that nothing waits for another process and every step can be looked at.

local socket = require "socket"
local ssl = require "ssl"

local kit = { ssl = ssl, luassl = package.loaded["luassl.luasec"] ~= nil }

local PKI = arg[1]

--- A file of the development PKI.
function kit.file(name)
  return PKI .. "/" .. name
end

function kit.read(name)
  local file = assert(io.open(name == "names.crt" and arg[2] or kit.file(name), "rb"))
  local bytes = file:read("*a")
  file:close()
  return bytes
end

--- How many descriptors this process has.
function kit.descriptors()
  local list = io.popen("ls /proc/$PPID/fd")
  local count = select(2, list:read("*a"):gsub("\n", ""))
  list:close()
  return count
end

--- Two ends of a TCP connection, without waiting.
function kit.pair()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local client = assert(socket.connect("127.0.0.1", tonumber(port)))
  local server = assert(listener:accept())
  listener:close()
  return server, client
end

local function merged(defaults, given)
  local all = {}
  for name, value in pairs(defaults) do
    all[name] = value
  end
  for name, value in pairs(given or {}) do
    all[name] = value
  end
  return all
end

--- A configuration for a server, with a key, and the values of `given`.
function kit.server_config(given)
  return merged({
    mode = "server", protocol = "any", options = "all", verify = "none",
    key = kit.file("bare/server-rsa.key"), certificate = kit.file("bare/server-rsa.crt"),
  }, given)
end

function kit.client_config(given)
  return merged({
    mode = "client", protocol = "any", options = "all", verify = "none", cafile = kit.file("ca/root.crt"),
  }, given)
end

--- Wrapped ends of a connection, none of which waits. Each argument is a configuration, or a context.
function kit.wrapped(server_config, client_config)
  local server, client = kit.pair()
  server = assert(ssl.wrap(server, type(server_config) == "userdata" and server_config
    or kit.server_config(server_config)))
  client = assert(ssl.wrap(client, type(client_config) == "userdata" and client_config
    or kit.client_config(client_config)))
  server:settimeout(0)
  client:settimeout(0)
  return server, client
end

local WAITS = { wantread = true, wantwrite = true }
local ROUNDS = 1000

--- Drives both handshakes to their ends: the server's results, then the client's, each a list.
function kit.shake(server, client)
  local results = {}
  for _ = 1, ROUNDS do
    for _, conn in ipairs { client, server } do
      if not results[conn] then
        local done, reason = conn:dohandshake()
        if done or not WAITS[reason] then
          results[conn] = { done, reason }
        end
      end
    end
    if results[server] and results[client] then
      break
    end
    socket.select({ server, client }, nil, 0.02)
  end
  return results[server] or { false, "still waiting" }, results[client] or { false, "still waiting" }
end

--- Ends of an established connection.
function kit.connected(server_config, client_config)
  local server, client = kit.wrapped(server_config, client_config)
  local of_server, of_client = kit.shake(server, client)
  assert(of_server[1], of_server[2])
  assert(of_client[1], of_client[2])
  return server, client
end

--- Calls `attempt` until it has a result other than waiting, at most for some seconds: its results, as a list.
function kit.eventually(conn, attempt)
  local results
  for _ = 1, ROUNDS do
    results = { attempt() }
    if results[1] or not WAITS[results[2]] then
      return results
    end
    socket.select({ conn }, nil, 0.02)
  end
  return results
end

--- Everything up to `length` bytes.
function kit.receive(conn, length)
  local parts, have = {}, 0
  for _ = 1, ROUNDS do
    local data, reason, part = conn:receive(length - have)
    parts[#parts + 1] = data or part
    have = have + #parts[#parts]
    if data or not WAITS[reason] then
      return table.concat(parts), reason
    end
    socket.select({ conn }, nil, 0.02)
  end
  return table.concat(parts), "still waiting"
end

-- The tests, in their order.
local tests = {}

function kit.test(name, body)
  tests[#tests + 1] = { name = name, body = body }
end

--- Something that only one of the two does: its name has to be in the list of differences.
function kit.differs(name)
  local differences = require "differences"
  assert(differences[name], "no difference is named " .. name)
  return kit.luassl
end

function kit.equal(got, wanted, what)
  if got ~= wanted then
    error(("%s: got %s (%s), wanted %s (%s)"):format(what or "value", tostring(got), type(got), tostring(wanted),
      type(wanted)), 2)
  end
end

function kit.matches(got, pattern, what)
  if type(got) ~= "string" or not got:find(pattern) then
    error(("%s: got %s, wanted what matches %s"):format(what or "text", tostring(got), pattern), 2)
  end
end

--- The message that a call throws.
function kit.throws(call, ...)
  local good, message = pcall(call, ...)
  if good then
    error("nothing was thrown", 2)
  end
  return tostring(message)
end

--- Runs the tests (those whose name has `only` in it), and ends the program.
function kit.run(only)
  local failed, passed = 0, 0
  for _, test in ipairs(tests) do
    if not only or test.name:find(only, 1, true) then
      local good, trace = xpcall(test.body, debug.traceback)
      collectgarbage()
      if good then
        passed = passed + 1
      else
        failed = failed + 1
        print("FAILED " .. test.name .. "\n" .. trace)
      end
    end
  end
  print(("%d passed, %d failed"):format(passed, failed))
  os.exit(failed == 0 and passed > 0 and 0 or 1)
end

return kit
