-- One source for Lua 5.1 to 5.5 and LuaJIT.
std = "max"
max_line_length = 120
exclude_files = { "build", "target" }

-- luassl.classic puts LuaSSL's global in place; the programs written for it use it.
files["client-lua/lua/luassl/classic.lua"] = { globals = { "ssl" } }
files["examples/quickstart"] = { read_globals = { "ssl" } }
files["demo"] = { globals = { "ssl" } }
files["tests/lua"] = { globals = { "ssl" } }
files["client-lua/spec"] = { std = "max+busted", globals = { "ssl" } }
