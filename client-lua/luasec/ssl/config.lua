-- Stands before LuaSec in LUA_PATH: `require "ssl.config"` is luassl's.
return require "luassl.luasec.config"
