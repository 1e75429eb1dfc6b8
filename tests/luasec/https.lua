-- https.lua PORT [their file]: what ssl.https gets from `openssl s_server -www` on this machine. With `their file` it
-- is LuaSec's https.lua, over whatever `ssl` is.
if arg[2] then
  package.preload["ssl.https"] = assert(loadfile "/usr/share/lua/5.4/ssl/https.lua")
end
local https = require "ssl.https"
local ltn12 = require "ltn12"
local address = "https://localhost:" .. arg[1] .. "/"

local body, code, headers, status = https.request(address)
assert(body and body:find("s_server", 1, true), tostring(code))
assert(type(headers) == "table" and status:find("200"))

local chunks = {}
local good
good, code = https.request { url = address, sink = ltn12.sink.table(chunks), cafile = "ca/root.crt", verify = "peer" }
assert(good == 1, code)
assert(table.concat(chunks):find("s_server", 1, true))

good, code = https.request { url = address, verify = "peer" }
assert(good == nil and code == "certificate verify failed", tostring(code))

good, code = https.request { url = address, proxy = "http://localhost:1" }
assert(good == nil and code == "proxy not supported")
print(200)
