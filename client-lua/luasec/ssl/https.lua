-- Stands before LuaSec in LUA_PATH: `require "ssl.https"` is luassl's.
return require "luassl.luasec.https"
