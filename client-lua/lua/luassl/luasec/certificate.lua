-- LuaSec's certificates (ssl.x509). The daemon parses them, because this process has no OpenSSL.

local core = require "luassl_core"
local check = require "luassl.luasec.check"
local userdata = require "luassl.luasec.userdata"

local certificate = {}
local methods = {}

-- Maps certificate objects to their DER bytes and, once requested, their contents.
local states = setmetatable({}, { __mode = "k" })
userdata.install_metatable(core.luasec.certificate_token(), methods, userdata.named("X509 certificate"), function() end)

local function new(state)
  local object = core.luasec.certificate_token()
  state.encoding = "value"
  states[object] = state
  return object
end

--- Returns the object for DER bytes.
function certificate.of(der)
  return new { der = der }
end

--- Returns the certificate in a PEM text, or nil.
function certificate.load(pem)
  pem = check.text(pem, 1, "load")
  if not check.has_certificate(pem) then
    return nil
  end
  local facts = core.luasec.certificate(pem)
  if not facts then
    return nil
  end
  return new { der = facts.der, facts = facts }
end

--- Returns the state of a certificate; throws if the object is not one. Not a tail call, because that would
--- change the level.
local function state_of(object, position, method, above)
  local state = check.object(object, states, position, method, "SSL:Certificate", 1 + (above or 0))
  return state
end

--- Returns the contents of a certificate. They are requested from the daemon once. Throws if it cannot be
--- reached.
local function facts_of(object, method)
  local state = state_of(object, 1, method, 1)
  if not state.facts then
    local facts, reason = core.luasec.certificate(state.der)
    if not facts then
      error(reason, 3)
    end
    state.facts = facts
  end
  return state.facts, state.encoding
end

--- Defines a method that returns one field.
local function text(method, field)
  methods[method] = function(self)
    return facts_of(self, method)[field]
  end
end

text("pem", "pem")
text("serial", "serial")
text("notbefore", "notbefore")
text("notafter", "notafter")
text("getsignaturename", "signature")

local function name(method)
  methods[method] = function(self)
    local facts, encoding = facts_of(self, method)
    local list = {}
    for index, part in ipairs(facts[method]) do
      list[index] = { oid = part.oid, name = part.name, value = part[encoding] }
    end
    return list
  end
end

name "subject"
name "issuer"

local ALTERNATIVE_NAMES = "2.5.29.17"

--- Returns the subject alternative names by type. Other extensions are not included.
function methods.extensions(self)
  local facts, encoding = facts_of(self, "extensions")
  local extensions = {}
  if #facts.names > 0 then
    local names = { name = "X509v3 Subject Alternative Name" }
    for _, one in ipairs(facts.names) do
      local list = names[one.oid]
      if not list then
        list = { name = one.name ~= "" and one.name or nil }
        names[one.oid] = list
      end
      list[#list + 1] = one[encoding]
    end
    extensions[ALTERNATIVE_NAMES] = names
  end
  return extensions
end

local DIGESTS = { sha1 = true, sha256 = true, sha512 = true }

function methods.digest(self, algorithm)
  local facts = facts_of(self, "digest")
  algorithm = algorithm == nil and "sha1" or check.text(algorithm, 1, "digest")
  if not DIGESTS[algorithm] then
    return nil, ("digest algorithm not supported (%s)"):format(algorithm)
  end
  return (facts[algorithm]:gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

function methods.pubkey(self)
  local facts = facts_of(self, "pubkey")
  return facts.public_key, facts.key_type, facts.key_bits
end

function methods.validat(self, time)
  time = check.whole(time, 1, "validat")
  local facts = facts_of(self, "validat")
  -- The last second is included (RFC 5280, 4.1.2.5).
  return time >= facts.valid_from and time <= facts.valid_to
end

--- Returns whether `issued` verifies with this certificate as the only trust anchor and the others between
--- them.
function methods.issued(self, issued, ...)
  local between = {}
  for index = 1, select("#", ...) do
    between[index] = state_of((select(index, ...)), index + 1, "issued").der
  end
  local anchor, certified = state_of(self, 1, "issued").der, state_of(issued, 1, "issued").der
  local good, reason = core.luasec.check_issued(anchor, certified, between)
  if good then
    return true
  end
  return nil, reason
end

--- Sets the encoding of texts: unchanged ("ai5") or UTF-8.
function methods.setencode(self, encoding)
  local state = state_of(self, 1, "setencode")
  encoding = check.text(encoding, 1, "setencode")
  local field = encoding:find("^ai5") and "value" or encoding:find("^utf8") and "utf8"
  state.encoding = field or state.encoding
  return field and true or false
end

return certificate
