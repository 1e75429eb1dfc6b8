-- What the specs of luassl.luasec share: LuaSec for comparisons, a stand-in for the daemon, and openssl.

local support = {}

-- The code of the core where it cannot reach the daemon, and the daemon's codes.
local NO_DAEMON = -4
support.REFUSED, support.MISUSE = -6, -7

--- LuaSec's `ssl`, or nil and the reason.
function support.luasec()
  local good, ssl = pcall(require, "ssl")
  if not good then
    return nil, "LuaSec is not installed for " .. (rawget(_G, "jit") and "LuaJIT" or _VERSION)
  elseif not require("ssl.core").copyright():find("^LuaSec") then
    return nil, "`ssl` is the shim of luassl"
  end
  return ssl
end

--- Like `it`, for tests that compare with LuaSec: pending, with the reason, where LuaSec is not installed.
function support.compared(it, pending)
  local luasec, reason = support.luasec()
  return function(name, test)
    if luasec then
      it(name, test)
    else
      pending(("%s (%s)"):format(name, reason))
    end
  end
end

--- A connection of LuaSec before its handshake. It has a socket, because LuaSec does not set the descriptor of one that
-- has none, and closes whatever number is there.
function support.luasec_connection()
  local listener = assert(require("socket").bind("127.0.0.1", 0))
  return (assert(require("ssl").wrap(listener, { mode = "client", protocol = "any" })))
end

local undo = {}

--- Replaces a field until `restore`.
function support.replace(container, name, value)
  local old = container[name]
  table.insert(undo, function() container[name] = old end)
  container[name] = value
end

function support.restore()
  while undo[1] do
    table.remove(undo)()
  end
end

--- The configuration of a LuaSec client, with what is given in addition or instead.
function support.config(given)
  local cfg = { mode = "client", protocol = "any" }
  for name, value in pairs(given or {}) do
    cfg[name] = value
  end
  return cfg
end

--- Stands in for the daemon where it is asked for a context, until `restore`. The core checks the options first, and
-- fails only because there is no daemon. `requests` are those that it has let through. `refuse(options)` returns a
-- reason and a code to refuse one, and whether a collection of garbage may help.
function support.daemon(core)
  local real = core.luasec.context
  local daemon = { requests = {} }
  support.replace(core.luasec, "context", function(options)
    local made, reason, code = real(options)
    if code ~= NO_DAEMON then
      return made, reason, code
    end
    table.insert(daemon.requests, options)
    if daemon.refuse then
      local collecting_may_help
      reason, code, collecting_may_help = daemon.refuse(options)
      if reason then
        return nil, reason, code, collecting_may_help
      end
    end
    return { options = options }
  end)
  return daemon
end

--- How a call ends: `returns` and its results, or `throws` and the message without its position.
function support.outcome(call, ...)
  local function packed(good, ...)
    if good then
      return { "returns", ... }
    end
    return { "throws", (tostring((...)):gsub("^[^:]*:%d+: ", "")) }
  end
  return packed(pcall(call, ...))
end

--- The message that a call throws. It is a string and blames the spec, and no file of luassl.
function support.thrown(call)
  local good, message = pcall(call)
  assert(not good, "nothing was thrown")
  assert(type(message) == "string", "what was thrown is of type " .. type(message))
  assert(message:find("_spec%.lua:%d+: "), "the message does not blame the caller: " .. message)
  return message
end

--- What a text of Lua returns, called with these arguments. What it throws does not blame the spec.
function support.chunk(text, ...)
  return assert((rawget(_G, "loadstring") or load)(text, "=chunk"))(...)
end

--- The output of a command, which must succeed.
function support.output(command)
  local pipe = assert(io.popen(command .. " && echo done", "r"))
  local output = pipe:read("*a")
  pipe:close()
  assert(output:sub(-5) == "done\n", "failed: " .. command)
  return output:sub(1, -6)
end

function support.read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read("*a")
  file:close()
  return bytes
end

function support.write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
  return path
end

--- A new temporary directory; `remove_directory` removes it.
function support.directory()
  return (support.output("mktemp -d"):gsub("\n$", ""))
end

function support.remove_directory(path)
  support.output(("rm -r '%s'"):format(path))
end

local CONFIG = [[
[req]
distinguished_name = dn
prompt = no
string_mask = %s
[dn]
C = DE
O = Bücher
CN = %s
[authority]
basicConstraints = critical, CA:true
[leaf]
subjectAltName = DNS:a.example, DNS:*.b.example, IP:127.0.0.1, email:me@x.example, URI:https://x/y, \
  otherName:1.3.6.1.5.5.7.8.5;UTF8:xmpp.example
]]

--- Makes a key and its certificate in a directory: the paths of both. `given` has the `name`, and may have the `issuer`
-- (another name; otherwise self-signed), `mask` (of strings), `curve`, and `section` of the extensions.
function support.certificate(directory, given)
  local base = directory .. "/" .. given.name
  support.write(base .. ".cnf", CONFIG:format(given.mask or "utf8only", given.name))
  local key = given.curve and "ec -pkeyopt ec_paramgen_curve:" .. given.curve or "rsa:2048"
  local issuer = given.issuer and ("-CA '%s/%s.crt' -CAkey '%s/%s.key'"):format(
    directory, given.issuer, directory, given.issuer) or ""
  support.output(("openssl req -x509 -utf8 -newkey %s -nodes -days 30 -config '%s.cnf' -extensions %s %s "
    .. "-keyout '%s.key' -out '%s.crt' 2>'%s.log'"):format(
    key, base, given.section or "leaf", issuer, base, base, base))
  return base .. ".key", base .. ".crt"
end

return support
