-- LuaSec's contexts (ssl.context): a description that may change at any time. The daemon's contexts are created from it
-- and are immutable: after a change, the next connection uses a new one.

local core = require "luassl_core"
local alpn = require "luassl.luasec.alpn"
local check = require "luassl.luasec.check"
local userdata = require "luassl.luasec.userdata"

local context = {}

-- Maps context objects to their descriptions.
local descriptions = setmetatable({}, { __mode = "k" })
local methods = {}
userdata.install_metatable(core.luasec.context_token(), methods, userdata.named("SSL context"), function() end)

-- The daemon's codes for a value that is valid only together with others, such as a key without a certificate, and for
-- a value that is known but not allowed.
local MISUSE, REFUSED = -7, -6

local VERSIONS = {
  any = {}, sslv23 = {},
  tlsv1_2 = { minimum_protocol = "TLSv1.2", maximum_protocol = "TLSv1.2" },
  tlsv1_3 = { minimum_protocol = "TLSv1.3", maximum_protocol = "TLSv1.3" },
}
local OLD = { tlsv1 = true, tlsv1_1 = true }

local VERIFY = {
  none = false,
  peer = "VERIFY_PEER",
  client_once = "VERIFY_CLIENT_ONCE",
  fail_if_no_peer_cert = "VERIFY_FAIL_IF_NO_PEER_CERT",
}

local VERIFY_MORE = {
  lsec_continue = "verify_continue",
  lsec_ignore_purpose = "ignore_purpose",
  crl_check = "crl_check",
  crl_check_chain = "crl_check_chain",
}

-- Maps LuaSec's names of options to luassl's.
local OPTIONS = {}
for name in pairs(core.constants) do
  if name:find("^OP_") then
    OPTIONS[name:sub(4):lower()] = name
  end
end

--- Returns the description of a context; throws if the object is not one.
local function described(object, method)
  local description = descriptions[object]
  if not description then
    local what = ("SSL:Context expected, got %s"):format(type(object))
    error(("bad argument #1 to '%s' (%s)"):format(method, what), 3)
  end
  return description
end

local function check_string(value, position, method)
  if type(value) == "number" then
    value = tostring(value)
  elseif type(value) ~= "string" then
    local got = value == nil and "nil" or type(value)
    error(("bad argument #%d to '%s' (string expected, got %s)"):format(position, method, got), 3)
  end
  return value
end

local function changed(description)
  description.made, description.made_pausing = nil, nil
end

--- Returns whether the daemon accepts these options on their own: true, or false, the reason and its code.
local function is_accepted(options)
  options.trust_none = true
  local made, reason, code = core.luasec.context(options)
  if made then
    return true
  end
  return false, reason, code
end

--- Returns a file's bytes, or nil and the system's reason.
local function read(path)
  local file, reason = io.open(path, "rb")
  if not file then
    return nil, (reason:gsub("^.*: ", ""))
  end
  local bytes, why = file:read("*a")
  file:close()
  if not bytes then
    return nil, (tostring(why):gsub("^.*: ", ""))
  end
  return bytes
end

--- Returns whether a value is a context of luassl.
function context.is(object)
  return descriptions[object] ~= nil
end

function context.create(protocol)
  protocol = check_string(protocol, 1, "create")
  local versions = VERSIONS[protocol]
  if not versions then
    local hint = OLD[protocol] and ": luassl speaks TLS 1.2 and 1.3" or ""
    return nil, ("invalid protocol (%s)"):format(protocol) .. hint
  end
  local object = core.luasec.context_token()
  descriptions[object] = { versions = versions, keys = {}, options = {}, verify = {}, verify_more = {}, psk = {} }
  return object
end

function context.setmode(ctx, mode)
  local description = described(ctx, "ssl.context.setmode")
  mode = check_string(mode, 2, "setmode")
  if mode ~= "server" and mode ~= "client" then
    description.mode = nil
    -- LuaSec accepts any mode here, and refuses to wrap with it.
    return ("invalid mode (%s)"):format(mode)
  end
  description.mode = mode
  return true
end

--- The key names an identity of the daemon, by name, alias or path. The password is ignored: the operator of the daemon
-- configures it.
function context.loadkey(ctx, file, password)
  local description = described(ctx, "ssl.context.loadkey")
  file = check_string(file, 2, "loadkey")
  if password and type(password) ~= "string" and type(password) ~= "function" then
    error("invalid callback value", 2)
  end
  local good, reason, code = is_accepted { key = file }
  if not good and code ~= MISUSE then
    return false, ("error loading private key (%s)"):format(reason)
  end
  description.pending_key = file
  local last = description.keys[#description.keys]
  if last and not last.key then
    last.key, description.pending_key = file, nil
  end
  changed(description)
  return true
end

function context.loadcert(ctx, file)
  local description = described(ctx, "ssl.context.loadcert")
  local bytes, reason = read(check_string(file, 2, "loadcert"))
  if bytes and not check.has_certificate(bytes) then
    bytes, reason = nil, "no start line"
  end
  if not bytes then
    return false, ("error loading certificate (%s)"):format(reason)
  end
  local pair = { key = description.pending_key, chain = bytes }
  description.pending_key = nil
  -- The same key was loaded before: the new chain replaces the old one.
  for index, known in ipairs(description.keys) do
    if known.key == pair.key then
      table.remove(description.keys, index)
      break
    end
  end
  table.insert(description.keys, pair)
  changed(description)
  return true
end

function context.checkkey(ctx)
  local description = described(ctx, "ssl.context.checkkey")
  local pair = description.keys[#description.keys]
  if not (pair and pair.key) then
    return false
  end
  return (is_accepted { key = pair.key, chain = pair.chain })
end

function context.locations(ctx, cafile, capath)
  local description = described(ctx, "ssl.context.locations")
  if cafile == nil and capath == nil then
    return false, "error loading CA locations (neither a file nor a directory)"
  end
  if cafile then
    local bytes, reason = read(check_string(cafile, 2, "locations"))
    local good = bytes ~= nil
    if good then
      good, reason = is_accepted { cafile = bytes }
    end
    if not good then
      return false, ("error loading CA locations (%s)"):format(reason)
    end
    description.authorities = description.authorities or {}
    table.insert(description.authorities, bytes)
  end
  if capath then
    description.capath = check_string(capath, 3, "locations")
  end
  changed(description)
  return true
end

--- Returns a setter that queries the daemon whether the value is valid.
local function setter(method, option, failure)
  return function(ctx, value)
    local description = described(ctx, "ssl.context." .. method)
    value = check_string(value, 2, method)
    local good, reason, code = value == "" and option == "ciphersuites", nil, nil
    if not good then
      good, reason, code = is_accepted { [option] = value }
    end
    if code == REFUSED then
      return false, ("error setting %s (%s)"):format(option == "ciphers" and "cipher list" or option, reason)
    elseif not good then
      return false, failure:format(value)
    end
    description[option] = value ~= "" and value or nil
    changed(description)
    return true
  end
end

context.setcipher = setter("setcipher", "ciphers", "error setting cipher list (no cipher match)")
context.setciphersuites = setter("setciphersuites", "ciphersuites", "error setting cipher list (no cipher match)")

local CURVE = "elliptic curve '%s' not supported"
local set_group = setter("setcurve", "groups", CURVE)

--- Sets one curve.
function context.setcurve(ctx, curve)
  described(ctx, "ssl.context.setcurve")
  curve = check_string(curve, 2, "setcurve")
  if curve:find("[:/?*]") then
    return false, CURVE:format(curve)
  end
  return set_group(ctx, curve)
end

context.setcurveslist = setter("setcurveslist", "groups", "unknown elliptic curve in \"%s\"")

--- Returns the set of names in `list`, or nil and the failure if `known` lacks one.
local function names(known, list, method, failure)
  local found = {}
  for position = 1, list.n do
    local name = check.as_text(list[position])
    if not name then
      name = list[position]
      local got = name == nil and "nil" or type(name)
      error(("bad argument #%d to '%s' (string expected, got %s)"):format(position + 1, method, got), 3)
    end
    if known[name] == nil then
      return nil, failure:format(name)
    end
    found[name] = true
  end
  return found
end

local function pack(...)
  return { n = select("#", ...), ... }
end

function context.setverify(ctx, ...)
  local description = described(ctx, "ssl.context.setverify")
  local found, failure = names(VERIFY, pack(...), "setverify", "invalid verify option (%s)")
  if not found then
    return false, failure
  end
  if next(found) then
    description.verify = found
    changed(description)
  end
  return true
end

function context.setoptions(ctx, ...)
  local description = described(ctx, "ssl.context.setoptions")
  local found, failure = names(OPTIONS, pack(...), "setoptions", "invalid option (%s)")
  if not found then
    return false, failure
  end
  for name in pairs(found) do
    description.options[name] = true
  end
  changed(description)
  return true
end

function context.setdepth(ctx, depth)
  local description = described(ctx, "ssl.context.setdepth")
  local number = tonumber(depth)
  if not number then
    userdata.bad_argument(2, "setdepth", ("number expected, got %s"):format(depth == nil and "nil" or type(depth)))
  end
  description.depth = math.max(0, math.min(100, math.floor(number)))
  changed(description)
  return true
end

--- Calls the callback now, not in a handshake, and always with the same arguments, like LuaSec with OpenSSL 1.1.0 and
-- later.
function context.setdhparam(ctx, callback)
  local description = described(ctx, "ssl.context.setdhparam")
  local parameters = type(callback) == "function" and callback(false, 1024)
  if type(parameters) == "string" and is_accepted { dhfile = parameters } then
    description.dh = parameters
    changed(description)
  end
end

function context.setalpn(ctx, wire)
  local description = described(ctx, "ssl.context.setalpn")
  wire = check_string(wire, 2, "setalpn")
  local list = alpn.list(wire)
  if wire ~= "" and alpn.wire(list) ~= wire then
    return false, "error setting ALPN (not a list of length-prefixed names)"
  end
  description.protocols = list
  changed(description)
  return true
end

--- `callback` receives the peer's list and returns ours, both in wire format.
function context.setalpncb(ctx, callback)
  local description = described(ctx, "ssl.context.setalpncb")
  description.choose = callback
  changed(description)
  return true
end

-- OpenSSL's limit for PSK identities and hints, in bytes.
local MAX_HINT = 256

--- Sets the PSK identity hint of a TLS 1.2 server.
function context.setpskhint(ctx, hint)
  local description = described(ctx, "ssl.context.setpskhint")
  hint = check_string(hint, 2, "setpskhint")
  if #hint > MAX_HINT then
    return false
  end
  description.psk.hint = hint
  changed(description)
  return true
end

--- Returns a setter for the PSK callback of one role.
local function psk_callback_setter(method)
  return function(ctx, callback)
    local description = described(ctx, "ssl.context." .. method)
    description.psk.callback = callback
    changed(description)
    return true
  end
end

--- `callback(identity, max_key)` returns the key, or nil.
context.setserverpskcb = psk_callback_setter("setserverpskcb")
--- `callback(hint or nil, max_identity, max_key)` returns an identity and its key, or nil.
context.setclientpskcb = psk_callback_setter("setclientpskcb")

--- Sets pre-shared keys by identity; a client has one. Returns true, or false and the reason.
function context.setpskkeys(ctx, keys)
  local description = described(ctx, "ssl.context.setpskkeys")
  local list = {}
  for identity, key in pairs(keys) do
    if type(identity) ~= "string" or type(key) ~= "string" then
      return false, "invalid PSK configuration"
    end
    list[#list + 1] = { identity = identity, key = key }
  end
  local good, reason = is_accepted { psk = { keys = list, ask = false } }
  if not good then
    return false, reason
  end
  description.psk.keys = list
  changed(description)
  return true
end

--- Enables verification by TLSA records (DANE) for clients.
function context.setdane(ctx, ...)
  local description = described(ctx, "ssl.context.setdane")
  local flags = false
  for position = 1, select("#", ...) do
    local flag = (select(position, ...))
    if flag ~= "no_ee_namechecks" then
      userdata.bad_argument(position + 1, "setdane", ("invalid option '%s'"):format(tostring(flag)))
    end
    flags = true
  end
  description.dane = { no_ee_namechecks = flags }
  changed(description)
  return true
end

-- Extensions that LuaSec does not have; off by default.

--- Sets trusts by name: those of the daemon's configuration, and `system`.
function context.settrust(ctx, ...)
  local description = described(ctx, "ssl.context.settrust")
  local list = {}
  for position = 1, select("#", ...) do
    list[position] = check_string((select(position, ...)), position + 1, "settrust")
  end
  local good, reason = is_accepted { trust = list }
  if not good then
    return false, ("error loading CA locations (%s)"):format(reason)
  end
  description.trust = list
  changed(description)
  return true
end

local NOT_VERIFIED = "verify_host requires verify = \"peer\": without it the certificate is not verified"

--- Sets the name that the peer's certificate must contain; true for the name of `sni`.
function context.setverifyhost(ctx, host)
  local description = described(ctx, "ssl.context.setverifyhost")
  if host ~= true and type(host) ~= "string" then
    return false, "invalid verify_host: use a name, or true for the name passed to sni"
  elseif not description.verify.peer then
    return false, NOT_VERIFIED
  end
  description.verify_host = host
  return true
end

--- Returns the name that the peer must have, if any; or nil and the reason why a connection must not begin.
function context.expected(ctx, sni)
  local description = descriptions[ctx]
  local host = description.verify_host
  if host and not description.verify.peer then
    return nil, NOT_VERIFIED
  elseif host == true and not sni then
    return nil, "verify_host = true requires a server name: call sni before the handshake, or set verify_host to a name"
  end
  return host == true and sni or host or nil
end

local function switch(method, field)
  context[method] = function(ctx, on)
    local description = described(ctx, "ssl.context." .. method)
    description[field] = on and true or false
    changed(description)
    return true
  end
end

--- Makes a client resume an earlier session with the same server.
switch("setresumption", "resumption")
--- Makes a client request a stapled OCSP response.
switch("setocsp", "ocsp")

--- Makes connections export their TLS secrets, if the grant allows it. Returns true, or false and the reason.
function context.setkeylog(ctx, on)
  local description = described(ctx, "ssl.context.setkeylog")
  local good, reason = is_accepted { key_log = on and true or false }
  if not good then
    return false, reason
  end
  description.keylog = on and true or false
  changed(description)
  return true
end

function methods.setverifyext(ctx, ...)
  local description = described(ctx, "setverifyext")
  local found, failure = names(VERIFY_MORE, pack(...), "setverifyext", "invalid verify option (%s)")
  if not found then
    return false, failure
  end
  description.verify_more = found
  changed(description)
  return true
end

--- Returns the options for creating the daemon's context.
local function options_of(description)
  local more = description.verify_more
  local options = {
    ciphers = description.ciphers,
    ciphersuites = description.ciphersuites,
    groups = description.groups,
    cafile = description.authorities,
    capath = description.capath,
    dhfile = description.dh,
    trust = description.trust,
    staple = description.ocsp,
    key_log = description.keylog,
    alpn = description.protocols,
    alpn_optional = true,
    trust_none = true,
    -- OpenSSL's default.
    depth = description.depth or 100,
    verify = 0,
    options = {},
    minimum_protocol = description.versions.minimum_protocol,
    maximum_protocol = description.versions.maximum_protocol,
  }
  if description.verify.peer then
    options.verify = {}
    for name in pairs(description.verify) do
      table.insert(options.verify, VERIFY[name] or nil)
    end
  end
  local psk = description.psk
  if psk.callback or psk.keys then
    options.psk = { hint = psk.hint, keys = psk.keys or {}, ask = psk.callback ~= nil }
  end
  if description.dane and description.mode == "client" then
    options.dane = description.dane.no_ee_namechecks
  end
  for name in pairs(description.options) do
    table.insert(options.options, OPTIONS[name])
  end
  for name in pairs(more) do
    options[VERIFY_MORE[name]] = true
  end
  if more.crl_check or more.crl_check_chain then
    options.crl_check = true
    options.crlpath = description.capath
    for _, authorities in ipairs(description.authorities or {}) do
      if authorities:find("BEGIN X509 CRL", 1, true) then
        options.crl = options.crl or {}
        table.insert(options.crl, authorities)
      end
    end
  end
  for _, pair in ipairs(description.keys) do
    if pair.key and not options.key then
      options.key, options.chain = pair.key, pair.chain
    elseif pair.key then
      options.additional_identities = options.additional_identities or {}
      table.insert(options.additional_identities, { key = pair.key, chain = pair.chain })
    end
  end
  if description.pending_key and not options.key then
    options.key = description.pending_key
  end
  return options
end

--- Returns the daemon's context for connections of a context object, or nil and the reason. With `pausing`,
-- handshakes of a server stop at the ClientHello.
function context.handle(ctx, pausing)
  local description = descriptions[ctx]
  local slot = pausing and "made_pausing" or "made"
  if not description[slot] then
    local options = options_of(description)
    if pausing then
      options.client_hello = true
    end
    local made, reason, _, collecting_may_help = core.luasec.context(options)
    if not made and collecting_may_help then
      -- Unreferenced contexts exist until they are collected.
      collectgarbage()
      collectgarbage()
      made, reason = core.luasec.context(options)
    end
    if not made then
      return nil, reason
    end
    description[slot] = made
  end
  return description[slot]
end

--- Returns `server`, `client`, or nil.
function context.mode(ctx)
  return descriptions[ctx].mode
end

--- Returns whether a server must make a decision at the ClientHello.
function context.decides(ctx)
  return descriptions[ctx].choose ~= nil
end

--- Returns the PSK callback.
function context.psk_callback(ctx)
  return descriptions[ctx].psk.callback
end

--- Returns whether a connection may be verified by TLSA records.
function context.has_dane(ctx)
  return descriptions[ctx].dane ~= nil and descriptions[ctx].mode == "client"
end

--- Returns whether a client resumes earlier sessions.
function context.resumes(ctx)
  return descriptions[ctx].resumption == true
end

--- Returns whether verification errors are reported individually.
function context.lists_faults(ctx)
  return descriptions[ctx].verify_more.lsec_continue == true
end

--- Returns the application protocol that a server selects for a peer that offers `theirs`.
function context.protocol(ctx, theirs)
  local description = descriptions[ctx]
  local ours = description.protocols
  if description.choose then
    local wire = #theirs > 0 and description.choose(alpn.wire(theirs))
    ours = type(wire) == "string" and alpn.list(wire) or nil
  end
  return ours and alpn.choose(ours, theirs)
end

return context
