-- LuaSec's connections (ssl.core). This process keeps the TCP socket; the daemon does the I/O on it.

local core = require "luassl_core"
local certificate = require "luassl.luasec.certificate"
local check = require "luassl.luasec.check"
local context = require "luassl.luasec.context"
local userdata = require "luassl.luasec.userdata"

local raw = core.tls_socket
local connection = { SOCKET_INVALID = -1 }

-- The state of each connection: its context, and the settings made before the handshake.
local states = setmetatable({}, { __mode = "k" })
local methods = {}

local function tostring_of(self)
  return ("SSL connection: %s%s"):format(core.luasec.address(self), raw.closed(self) and " (closed)" or "")
end

userdata.install_metatable(raw.new(), methods, tostring_of, raw.close)

--- Returns the state of a connection; throws if the object is not one.
local function state_of(object, method, above)
  return states[object] or check.object(object, states, 1, method, "SSL:Connection", 1 + (above or 0))
end

function connection.copyright()
  return "luassl: LuaSec's API over luassld"
end

--- Creates a connection without a socket from a context, or returns nil and the reason.
function connection.create(ctx)
  if not context.is(ctx) then
    if userdata.is_of_luaossl(ctx) then
      return nil, "contexts of luaossl are not supported: use ssl.newcontext"
    end
    userdata.bad_argument(1, "create", "invalid context")
  end
  if not context.mode(ctx) then
    return nil, "invalid mode"
  end
  local handle, reason = context.handle(ctx)
  if not handle then
    return nil, reason
  end
  local conn = raw.new()
  states[conn] = { context = ctx, handle = handle, server = context.mode(ctx) == "server" }
  return conn
end

-- The largest C int.
local MAX_DESCRIPTOR = 2147483647

--- Sets the socket of a new connection.
function connection.setfd(conn, number)
  state_of(conn, "ssl.core.setfd")
  if raw.begun(conn) or raw.closed(conn) then
    userdata.bad_argument(1, "ssl.core.setfd", "invalid SSL object state")
  end
  number = check.whole(number, 2, "ssl.core.setfd")
  if not (number >= -MAX_DESCRIPTOR and number <= MAX_DESCRIPTOR) then
    userdata.bad_argument(2, "ssl.core.setfd", "number has no integer representation")
  end
  raw.adopt(conn, number)
end

--- Adds a method to all connections.
function connection.setmethod(name, method)
  methods[name] = method
end

--- Returns nil for an open connection, because TLS compression is not used.
function connection.compression(conn)
  state_of(conn, "compression")
  if not raw.connected(conn) then
    return nil, "closed"
  end
  return nil
end

--- Returns cipher description, strength in bits, key length in bits and protocol; nothing before the
--- handshake.
function connection.info(conn)
  state_of(conn, "info")
  local facts = raw.connected(conn) and raw.facts(conn)
  if facts then
    return facts.cipher, facts.bits, facts.algorithm_bits, facts.protocol
  end
end

--- Passes the socket to the daemon. Returns true, or nil and the reason.
local function begin(self, state)
  local handle = state.handle
  if state.server and (state.names or context.decides(state.context)) then
    local pausing, reason = context.handle(state.context, true)
    if not pausing then
      return nil, reason
    end
    handle = pausing
  end
  local host, reason = context.expected(state.context, state.name)
  if reason then
    return nil, reason
  end
  local resume = not state.server and context.resumes(state.context)
  local options = { sni = state.name, host = host, resume = resume, dane = state.dane }
  return raw.begin(self, handle, state.server, options)
end

--- Chooses the context and the application protocol after the ClientHello.
local function decide(self, state, name, theirs)
  state.asked = name
  local chosen = name and state.names and state.names[name]
  if not context.is(chosen) then
    chosen = nil
    if name and state.names and state.strict then
      return raw.decide(self, nil, nil, true)
    end
  end
  local handle, reason
  if chosen then
    state.chosen = chosen
    handle, reason = context.handle(chosen)
    if not handle then
      return false, reason
    end
  end
  return raw.decide(self, handle, context.protocol(chosen or state.context, theirs), false)
end

--- Supplies a pre-shared key. An error of the callback is rethrown after the daemon has received the answer.
local function share(self, state, named, max_key, max_identity)
  local callback = context.psk_callback(state.chosen or state.context) or context.psk_callback(state.context)
  local good, first, second
  if state.server then
    good, first = pcall(callback, named, max_key)
    second = first
  else
    good, first, second = pcall(callback, named, max_identity, max_key)
  end
  if not good then
    raw.share(self)
    error(first, 0)
  end
  first, second = check.as_text(first), check.as_text(second)
  if not (first and second) then
    return raw.share(self)
  end
  return raw.share(self, not state.server and first or nil, second)
end

local HANDLERS = { hello = decide, psk = share }

function methods.dohandshake(self)
  local state = state_of(self, "dohandshake")
  if raw.closed(self) then
    return false, "closed"
  elseif raw.getfd(self) < 0 then
    return false, "Bad file descriptor"
  end
  if not raw.begun(self) then
    local begun, reason = begin(self, state)
    if not begun then
      return false, reason
    end
  end
  local done, reason, first, second, third = raw.handshake(self)
  while done == nil do
    done, reason, first, second, third = HANDLERS[reason](self, state, first, second, third)
  end
  if done then
    return true
  end
  return false, reason
end

local LINE, ALL = -1, -2

function methods.receive(self, pattern, prefix)
  state_of(self, "receive")
  prefix = prefix ~= nil and check.text(prefix, 2, "receive") or nil
  local what = tonumber(pattern)
  if pattern == nil then
    what = LINE
  elseif what then
    what = what >= 0 and what or nil
  else
    local start = check.text(pattern, 1, "receive"):sub(1, 2)
    what = start == "*l" and LINE or start == "*a" and ALL or nil
  end
  if not what then
    userdata.bad_argument(1, "receive", "invalid receive pattern")
  end
  return raw.receive(self, what, prefix)
end

-- Positions are limited to the numbers that floats represent exactly.
local MAX_POSITION = 2 ^ 53

--- Returns the number of a range that is nearest to a number; the lowest one for NaN.
local function within(number, lowest, highest)
  return number > highest and highest or number >= lowest and number or lowest
end

function methods.send(self, data, first, last)
  state_of(self, "send")
  data = check.text(data, 1, "send")
  first, last = check.whole(first, 2, "send", 1), check.whole(last, 3, "send", -1)
  if first < 0 then
    first = #data + first + 1
  end
  if last < 0 then
    last = #data + last + 1
  end
  return raw.send(self, data, within(first, 1, MAX_POSITION), within(last, 0, #data))
end

local WHOLE = { b = false, t = true, r = true }

function methods.settimeout(self, seconds, mode)
  state_of(self, "settimeout")
  local number = seconds == nil and -1 or check.number(seconds, 1, "settimeout")
  local whole = WHOLE[mode == nil and "b" or check.text(mode, 2, "settimeout"):sub(1, 1)]
  if whole == nil then
    userdata.bad_argument(2, "settimeout", "invalid timeout mode")
  end
  raw.settimeout(self, number, whole)
  -- The result is a float, like LuaSec's, on Lua versions with integers.
  return 1.0
end

--- Defines a method without arguments.
local function plain(name, method)
  methods[name] = function(self)
    state_of(self, name)
    return method(self)
  end
end

plain("getfd", raw.getfd)
plain("dirty", raw.dirty)
plain("want", raw.want)
plain("close", raw.close)
plain("getstats", raw.statistics)
plain("getpeername", raw.peername)
plain("getsockname", raw.sockname)
-- Sends close_notify. Returns true if the peer's has been received, otherwise false; nil and "wantread" or "wantwrite"
-- if it would block. The TCP connection stays open.
plain("shutdown", raw.shutdown)

--- Sets the statistics. Values that are nil are not changed, and neither is an age that is not a number, like
--- in LuaSec.
function methods.setstats(self, received, sent, age)
  state_of(self, "setstats")
  local received_now, sent_now, age_now = raw.statistics(self)
  received = check.number(received, 1, "setstats", received_now)
  sent = check.number(sent, 2, "setstats", sent_now)
  raw.set_statistics(self, received, sent, tonumber(age) or age_now)
  return 1.0
end

--- Sets a client's server name, or a server's contexts by name. The contexts are looked up in each handshake.
function methods.sni(self, names, strict)
  local state = state_of(self, "sni")
  if raw.closed(self) then
    return
  end
  if state.server then
    if type(names) ~= "table" then
      userdata.bad_argument(1, "sni", ("table expected, got %s"):format(names == nil and "no value" or type(names)))
    end
    for name, ctx in pairs(names) do
      check.text(name, 1, "sni")
      if not context.is(ctx) then
        userdata.bad_argument(1, "sni", ("SSL:Context expected, got %s"):format(type(ctx)))
      end
    end
    state.names, state.strict = names, strict and true or false
  else
    state.name = check.text(names, 1, "sni")
  end
end

function methods.getsniname(self)
  local state = state_of(self, "getsniname")
  if not state.server then
    return state.name
  end
  local _, name = raw.info(self)
  return name or state.asked
end

function methods.getalpn(self)
  state_of(self, "getalpn")
  return (raw.info(self))
end

--- Returns all information about a connected session, or nil.
local function facts_of(self, method)
  state_of(self, method, 1)
  return raw.connected(self) and raw.facts(self) or nil
end

local CIPHER = "^(%S+)%s+(%S+)%s+Kx=(%S+)%s+Au=(%S+)%s+Enc=(%S+)%s+Mac=(%S+)"

function methods.info(self, field)
  local facts = facts_of(self, "info")
  if not facts then
    return nil, "closed"
  end
  local info = { bits = facts.bits, algbits = facts.algorithm_bits }
  info.cipher, info.protocol, info.key, info.authentication, info.encryption, info.mac = facts.cipher:match(CIPHER)
  info.export = false
  info.protocol = facts.protocol
  local _, _, _, _, group, reused = raw.info(self)
  info.group, info.reused = group, reused
  if field then
    return info[field]
  end
  return info
end

--- Returns the peer's certificates, leaf first.
local function peer_chain(facts, server)
  if not server then
    return facts.peer_chain
  end
  local chain = { facts.peer }
  for _, der in ipairs(facts.peer_chain) do
    chain[#chain + 1] = der
  end
  return chain
end

--- Returns `chain[n]` as an object, or nil.
local function nth(chain, n)
  if n < 1 then
    return nil, "invalid certificate index"
  end
  return chain[n] and certificate.of(chain[n]) or nil
end

local function objects(chain)
  local list = {}
  for index, der in ipairs(chain) do
    list[index] = certificate.of(der)
  end
  return list
end

function methods.getpeercertificate(self, n)
  local facts = facts_of(self, "getpeercertificate")
  if not facts then
    return nil, "closed"
  end
  return nth(peer_chain(facts, states[self].server), check.whole(n, 1, "getpeercertificate", 1))
end

function methods.getpeerchain(self)
  local facts = facts_of(self, "getpeerchain")
  if not facts then
    return nil, "closed"
  end
  return objects(peer_chain(facts, states[self].server))
end

function methods.getlocalcertificate(self, n)
  local facts = facts_of(self, "getlocalcertificate")
  if not facts then
    return nil, "closed"
  end
  return nth(facts.local_chain, check.whole(n, 1, "getlocalcertificate", 1))
end

function methods.getlocalchain(self)
  local facts = facts_of(self, "getlocalchain")
  if not facts then
    return nil, "closed"
  end
  return objects(facts.local_chain)
end

--- Returns true; or false and the error: a string, or with lsec_continue a table of lists of strings by depth
--- + 1.
function methods.getpeerverification(self)
  local facts = facts_of(self, "getpeerverification")
  if not facts then
    return false, "closed"
  elseif facts.verify_code == 0 then
    return true
  elseif not context.lists_faults(states[self].context) or #facts.faults == 0 then
    return false, facts.verify_text
  end
  local faults = {}
  for _, fault in ipairs(facts.faults) do
    local depth = fault[1] + 1
    faults[depth] = faults[depth] or {}
    table.insert(faults[depth], fault[2])
  end
  return false, faults
end

-- An upper bound on the output of TLS exporters, in bytes.
local MAX_EXPORT = 65535

local function finished(field, method)
  methods[method] = function(self)
    local facts = facts_of(self, method)
    if not facts then
      return nil, "closed"
    end
    if facts[field] ~= "" then
      return facts[field]
    end
  end
end

finished("finished", "getfinished")
finished("peer_finished", "getpeerfinished")

function methods.exportkeyingmaterial(self, label, length, bound)
  state_of(self, "exportkeyingmaterial")
  if not raw.connected(self) then
    return
  end
  label = check.text(label, 1, "exportkeyingmaterial")
  length = check.whole(length, 2, "exportkeyingmaterial")
  bound = bound ~= nil and check.text(bound, 3, "exportkeyingmaterial") or nil
  if not (length >= 0 and length <= MAX_EXPORT) then
    return nil, "error exporting keying material"
  end
  local data = raw.export(self, label, length, bound)
  if not data then
    return nil, "error exporting keying material"
  end
  return data
end

--- Sets the host of the TLSA records before the handshake. Returns whether the connection uses DANE.
function methods.setdane(self, host)
  local state = state_of(self, "setdane")
  host = check.text(host, 1, "setdane")
  if not context.has_dane(state.context) or state.dane or raw.begun(self) or raw.closed(self) then
    return false
  end
  state.dane = { host = host }
  return true
end

-- The data length of a TLSA record by matching type. Full data is DER and has a minimum length.
local LENGTHS = { [1] = 32, [2] = 64 }
local MIN_FULL_DATA = 16
-- The daemon's limits: the number of records of one connection, and the number of bytes of one record's data.
local MAX_RECORDS, MAX_RECORD_DATA = 64, 16384

--- Adds a TLSA record before the handshake. Returns whether the record is usable.
function methods.settlsa(self, usage, selector, matching, data)
  local state = state_of(self, "settlsa")
  usage, selector = check.whole(usage, 1, "settlsa") % 256, check.whole(selector, 2, "settlsa") % 256
  matching = check.whole(matching, 3, "settlsa") % 256
  data = check.text(data, 4, "settlsa")
  local fits = #data == LENGTHS[matching] or matching == 0 and #data >= MIN_FULL_DATA and #data <= MAX_RECORD_DATA
  local records = state.dane
  if not (records and fits and usage <= 3 and selector <= 1) or #records >= MAX_RECORDS or raw.begun(self) then
    return false
  end
  records[#records + 1] = { usage, selector, matching, data }
  return true
end

--- Returns the status of the peer's certificate in a stapled OCSP response (`good`, `revoked`, `unknown`) and the
-- response in DER; or nil, the reason, and the response if there is one.
function methods.ocsp(self)
  local facts = facts_of(self, "ocsp")
  if not facts then
    return nil, "closed"
  elseif not facts.staple then
    return nil, "no response"
  end
  local why = facts.staple_status:match("^invalid: (.*)")
  if why then
    return nil, why, facts.staple
  end
  return facts.staple_status, facts.staple
end

--- Returns the secrets of the session in SSLKEYLOGFILE format; requires a context with keylog.
function methods.keylog(self)
  local facts = facts_of(self, "keylog")
  if not facts then
    return nil, "closed"
  elseif not facts.key_log then
    return nil, "the context was made without keylog"
  end
  return facts.key_log
end

return connection
