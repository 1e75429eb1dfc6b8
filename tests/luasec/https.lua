-- https.lua PORT: what ssl.https gets from a server on this machine.
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
