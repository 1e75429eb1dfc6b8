-- Certificates as LuaSec has them (ssl.x509). They are read by the daemon: there is no OpenSSL in this process.

local core = require "luassl_core"
local userdata = require "luassl.luasec.userdata"

local certificate = {}
local methods = {}

-- Certificate objects to their DER bytes and what has been asked about them.
local states = setmetatable({}, { __mode = "k" })
userdata.dress(core.luasec.certificate_token(), methods, userdata.named("X509 certificate"), function() end)

--- The object for DER bytes.
function certificate.of(der)
  local object = core.luasec.certificate_token()
  states[object] = { der = der }
  return object
end


--- The certificate of a PEM text; nil where there is none.
function certificate.load()
  error("certificates are not read yet", 2)
end

return certificate
