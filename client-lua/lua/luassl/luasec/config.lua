-- The supported settings (ssl.config): the names that luassl and the daemon's OpenSSL support.

local core = require "luassl_core"

local config = {
  options = {},
  protocols = { tlsv1_2 = true, tlsv1_3 = true },
  algorithms = { ec = true },
  capabilities = { alpn = true, curves_list = true, ecdh_auto = true, psk = true, dane = { no_ee_namechecks = true } },
}

for name in pairs(core.constants) do
  if name:find("^OP_") then
    config.options[name:sub(4):lower()] = true
  end
end

-- Curves that are always available, for programs that read the list before the daemon runs.
local CURVES = { "prime256v1", "secp384r1", "secp521r1", "P-256", "P-384", "P-521", "X25519", "X448" }

--- Requests the daemon's curves when a program first reads them. They are cached after the daemon has
--- answered.
setmetatable(config, {
  __index = function(self, key)
    if key ~= "curves" then
      return nil
    end
    local groups = core.luasec.describe()
    local curves = {}
    for _, name in ipairs(groups or CURVES) do
      curves[name] = true
    end
    if groups then
      rawset(self, "curves", curves)
    end
    return curves
  end,
})

return config
