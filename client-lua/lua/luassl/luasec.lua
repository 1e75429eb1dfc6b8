-- LuaSec's API (ssl) over luassld: programs that exist run unchanged, and hold no key. See docs/luasec.md.

local alpn = require "luassl.luasec.alpn"
local certificate = require "luassl.luasec.certificate"
local config = require "luassl.luasec.config"
local connection = require "luassl.luasec.connection"
local context = require "luassl.luasec.context"

local unpack = table.unpack or unpack -- luacheck: ignore 143

local luasec = {
  -- The version of LuaSec whose API this is: programs compare it.
  _VERSION = "1.3.2",
  _COPYRIGHT = connection.copyright(),
  config = config,
  loadcertificate = certificate.load,
}

--- Calls a setter with one value, or with each of a list.
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

-- What the keys of a configuration do, in the order in which LuaSec looks at them: the first that is bad is told. A
-- value of false is none.
local STEPS = {
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
  { "curveslist", context.setcurveslist },
  { "verifyext", function(ctx, values) return with_all(ctx.setverifyext, ctx, values) end },
  { "psk", function() return nil, "PSK is not supported by luassl yet" end },
  { "dane", function() return nil, "DANE is not supported by luassl yet" end },
}

--- A context of a configuration, or nil and why there is none.
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
  if good and cfg.curve and not cfg.curveslist then
    good, reason = context.setcurve(ctx, cfg.curve)
  end
  for _, step in ipairs(STEPS) do
    if good and cfg[step[1]] then
      good, reason = step[2](ctx, cfg[step[1]])
    end
  end
  if good and cfg.alpn and cfg.mode == "server" then
    good, reason = set_server_protocols(ctx, cfg.alpn)
  elseif good and cfg.alpn and cfg.mode == "client" then
    good, reason = set_client_protocols(ctx, cfg.alpn)
  end
  if not good then
    return nil, reason
  end
  return ctx
end

--- A connection on a connected socket, which is the connection's from then on; or nil and why there is none.
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
