-- Stands before LuaSec in LUA_PATH: `require "ssl.core"` is luassl's.
return require "luassl.luasec.connection"
