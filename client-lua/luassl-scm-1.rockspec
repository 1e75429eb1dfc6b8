rockspec_format = "3.0"
package = "luassl"
version = "scm-1"
-- Built from a checkout: luarocks make client-lua/luassl-scm-1.rockspec
source = { url = "file://." }
description = {
  summary = "LuaSSL's API with TLS and private keys in a daemon",
  detailed = [[
    Lua programs speak TLS through luassld. No private key is in the Lua process, nor in any process that reads from
    the network. The module has no OpenSSL inside.]],
  license = "MIT",
  labels = { "ssl", "tls", "network", "security" },
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.1, < 5.6" }
build_dependencies = { "luarocks-build-rust-mlua >= 0.2.6" }
build = {
  type = "rust-mlua",
  modules = { luassl_core = "luassl_core" },
  target_path = "target",
  default_features = false,
  cargo_extra_args = { "--package", "luassl-lua", "--locked" },
  include = {
    ["client-lua/lua/luassl.lua"] = "luassl.lua",
    ["client-lua/lua/luassl/classic.lua"] = "luassl/classic.lua",
    ["client-lua/lua/luassl/luasec.lua"] = "luassl/luasec.lua",
    ["client-lua/lua/luassl/luasec/alpn.lua"] = "luassl/luasec/alpn.lua",
    ["client-lua/lua/luassl/luasec/certificate.lua"] = "luassl/luasec/certificate.lua",
    ["client-lua/lua/luassl/luasec/config.lua"] = "luassl/luasec/config.lua",
    ["client-lua/lua/luassl/luasec/connection.lua"] = "luassl/luasec/connection.lua",
    ["client-lua/lua/luassl/luasec/context.lua"] = "luassl/luasec/context.lua",
    ["client-lua/lua/luassl/luasec/https.lua"] = "luassl/luasec/https.lua",
    ["client-lua/lua/luassl/luasec/userdata.lua"] = "luassl/luasec/userdata.lua",
  },
  copy_directories = { "client-lua/library" },
}
