-- What can be asked for (ssl.config).

local core = require "luassl_core"

local config = {
  options = {},
  protocols = { tlsv1_2 = true, tlsv1_3 = true },
  algorithms = { ec = true },
  curves = {},
  capabilities = { alpn = true, curves_list = true, ecdh_auto = true },
}

for name in pairs(core.constants) do
  if name:find("^OP_") then
    config.options[name:sub(4):lower()] = true
  end
end

return config
