-- Stands before LuaSec in LUA_PATH: `require "ssl.x509"` is luassl's.
return require "luassl.luasec.certificate"
