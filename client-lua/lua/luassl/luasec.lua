-- LuaSec's API (ssl) over luassld: existing programs run unchanged and hold no keys. See docs/luasec.md.

local alpn = require "luassl.luasec.alpn"
local certificate = require "luassl.luasec.certificate"
local config = require "luassl.luasec.config"
local connection = require "luassl.luasec.connection"
local context = require "luassl.luasec.context"

local unpack = table.unpack or unpack -- luacheck: ignore 143

local luasec = {
  -- The version of LuaSec with this API. Programs compare it.
  _VERSION = "1.3.2",
  _COPYRIGHT = connection.copyright(),
  config = config,
  loadcertificate = certificate.load,
}

--- Calls a setter with one value, or with each value of a list.
local function with_all(setter, ctx, values)
  if type(values) == "table" then
    return setter(ctx, unpack(values))
  end
  return setter(ctx, values)
end

local function load_pair(ctx, pair)
  if pair.key then
    local kind = type(pair.password)
    if pair.password and kind ~= "string" and kind ~= "function" then
      return nil, "invalid password type"
    end
    local good, reason = context.loadkey(ctx, pair.key, pair.password or nil)
    if not good then
      return nil, reason
    end
  end
  if pair.certificate then
    local good, reason = context.loadcert(ctx, pair.certificate)
    if not good then
      return nil, reason
    end
    if pair.key and not context.checkkey(ctx) then
      return nil, "private key does not match public key"
    end
  end
  return true
end

local function load_pairs(ctx, cfg)
  for _, pair in ipairs(cfg.certificates or { cfg }) do
    local good, reason = load_pair(ctx, pair)
    if not good then
      return nil, reason
    end
  end
  return true
end

local function set_client_protocols(ctx, protocols)
  local list = type(protocols) == "string" and { protocols } or protocols
  if type(list) ~= "table" then
    return nil, "invalid ALPN parameter"
  end
  local wire, reason = alpn.wire(list)
  if not wire then
    return nil, reason
  end
  return context.setalpn(ctx, wire)
end

local function set_server_protocols(ctx, protocols)
  if type(protocols) == "table" then
    return set_client_protocols(ctx, protocols)
  elseif type(protocols) ~= "function" then
    return nil, "invalid ALPN parameter"
  end
  return context.setalpncb(ctx, function(wire)
    local chosen = protocols(alpn.list(wire))
    if type(chosen) == "string" then
      chosen = { chosen }
    end
    return type(chosen) == "table" and alpn.wire(chosen) or nil
  end)
end

-- The setters for the keys of a configuration, in LuaSec's order, so that the same error is reported first.
-- The value false counts as unset.
local SETTERS = {
  { "ciphers", context.setcipher },
  { "ciphersuites", context.setciphersuites },
  { "verify", function(ctx, values) return with_all(context.setverify, ctx, values) end },
  { "options", function(ctx, values) return with_all(context.setoptions, ctx, values) end },
  { "depth", context.setdepth },
  { "dhparam", function(ctx, callback)
    if type(callback) ~= "function" then
      return nil, "invalid DH parameter type"
    end
    context.setdhparam(ctx, callback)
    return true
  end },
  { "curve", function(ctx, curve, cfg)
    if cfg.curveslist then
      return true
    end
    return context.setcurve(ctx, curve)
  end },
  { "curveslist", context.setcurveslist },
  { "verifyext", function(ctx, values) return with_all(ctx.setverifyext, ctx, values) end },
}

local WRONG_PSK = "invalid PSK configuration"

--- Sets a client's PSK. LuaSec accepts a function. luassl also accepts `{ identity = text, key = text }`.
local function set_client_psk(ctx, psk)
  if type(psk) == "function" then
    return context.setclientpskcb(ctx, psk)
  elseif type(psk) == "table" and type(psk.identity) == "string" and type(psk.key) == "string" then
    return context.setpskkeys(ctx, { [psk.identity] = psk.key })
  end
  return nil, WRONG_PSK
end

--- Sets a server's PSKs. LuaSec accepts a function, or `{ hint = text, callback = function }`. luassl also accepts
-- `{ keys = { [identity] = key }, hint = text or nil, callback = function or nil }`.
local function set_server_psk(ctx, psk)
  if type(psk) == "function" then
    return context.setserverpskcb(ctx, psk)
  elseif type(psk) ~= "table" then
    return nil, WRONG_PSK
  end
  local with_keys = type(psk.keys) == "table"
  local hinted = type(psk.hint) == "string" or with_keys and not psk.hint
  local asks = type(psk.callback) == "function" or with_keys and not psk.callback
  if not (hinted and asks) then
    return nil, WRONG_PSK
  end
  local good, reason = not psk.hint or context.setpskhint(ctx, psk.hint), nil
  if good and with_keys then
    good, reason = context.setpskkeys(ctx, psk.keys)
  end
  if good and psk.callback then
    good, reason = context.setserverpskcb(ctx, psk.callback)
  end
  return good, reason
end

-- Setters that run after those for ALPN: LuaSec's last ones, and extensions of luassl.
local LATE_SETTERS = {
  { "psk", function(ctx, psk)
    local mode = context.mode(ctx)
    if not mode then
      return true
    end
    return (mode == "server" and set_server_psk or set_client_psk)(ctx, psk)
  end },
  { "dane", function(ctx, flags)
    if type(flags) == "table" then
      return context.setdane(ctx, unpack(flags))
    end
    return context.setdane(ctx)
  end },
  { "trust", function(ctx, names) return with_all(context.settrust, ctx, names) end },
  { "verify_host", context.setverifyhost },
  { "resumption", context.setresumption },
  { "ocsp", context.setocsp },
  { "keylog", context.setkeylog },
}

--- Runs setters until one fails.
local function apply_setters(setters, ctx, cfg, good, reason)
  for _, setter in ipairs(setters) do
    local key, set = setter[1], setter[2]
    if good and cfg[key] then
      good, reason = set(ctx, cfg[key], cfg)
    end
  end
  return good, reason
end

--- Creates a context from a configuration, or returns nil and the reason.
function luasec.newcontext(cfg)
  local ctx, reason = context.create(cfg.protocol)
  if not ctx then
    return nil, reason
  end
  context.setmode(ctx, cfg.mode)
  local good
  good, reason = load_pairs(ctx, cfg)
  if good and (cfg.cafile or cfg.capath) then
    good, reason = context.locations(ctx, cfg.cafile or nil, cfg.capath or nil)
  end
  good, reason = apply_setters(SETTERS, ctx, cfg, good, reason)
  if good and cfg.alpn and cfg.mode == "server" then
    good, reason = set_server_protocols(ctx, cfg.alpn)
  elseif good and cfg.alpn and cfg.mode == "client" then
    good, reason = set_client_protocols(ctx, cfg.alpn)
  end
  good, reason = apply_setters(LATE_SETTERS, ctx, cfg, good, reason)
  if not good then
    return nil, reason
  end
  return ctx
end

--- Creates a connection that takes over a connected socket, or returns nil and the reason.
function luasec.wrap(sock, cfg)
  local ctx = cfg
  if type(cfg) == "table" then
    local made, reason = luasec.newcontext(cfg)
    if not made then
      return nil, reason
    end
    ctx = made
  end
  local conn, reason = connection.create(ctx)
  if not conn then
    return nil, reason
  end
  connection.setfd(conn, sock:getfd())
  sock:setfd(connection.SOCKET_INVALID)
  return conn
end

return luasec
