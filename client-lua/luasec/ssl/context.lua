-- Stands before LuaSec in LUA_PATH: `require "ssl.context"` is luassl's.
return require "luassl.luasec.context"
