-- Stands before LuaSec in LUA_PATH: `require "ssl"` is luassl's.
return require "luassl.luasec"
