-- https_nginx.lua FIRST SECOND PLAIN [their file]: what ssl.https, and LuaSocket's http with it, get from nginx on this
-- machine. With `their file` it is LuaSec's https.lua, over whatever `ssl` is.
if arg[4] then
  package.preload["ssl.https"] = assert(loadfile "/usr/share/lua/5.4/ssl/https.lua")
end
local http = require "socket.http"
local https = require "ssl.https"
local ltn12 = require "ltn12"

local FIRST, SECOND = "https://localhost:" .. arg[1], "https://localhost:" .. arg[2]
local PLAIN = "http://localhost:" .. arg[3]

local function equal(got, wanted, what)
  assert(got == wanted, ("%s: got %s, wanted %s"):format(what, tostring(got), tostring(wanted)))
end

--- A request as a table, that verifies: the body, or nil, then what `request` gave.
local function get(address, more)
  local chunks = {}
  local request = {
    url = address, sink = ltn12.sink.table(chunks), verify = "peer", cafile = "ca/root.crt", protocol = "any",
  }
  for name, value in pairs(more or {}) do
    request[name] = value
  end
  local good, code, headers, status = https.request(request)
  return good and table.concat(chunks), code, headers, status
end

-- What comes back, from an address and from a table.
local body, code, headers, status = https.request(FIRST .. "/")
equal(body, "first HTTP/1.1 GET\n", "an address")
equal(code, 200, "an address")
equal(status, "HTTP/1.1 200 OK", "an address")
equal(headers["content-type"], "text/plain", "an address")
equal(get(FIRST .. "/"), "first HTTP/1.1 GET\n", "a table")
equal(get(FIRST .. "/", { method = "HEAD" }), "", "HEAD")
equal(select(2, get(FIRST .. "/nothing")), 404, "nothing there")
equal(#assert(get(FIRST .. "/large")), 64000, "a large body")
equal(get(FIRST .. "/name"), "localhost TLSv1.3\n", "the server's name")
equal(get(FIRST .. "/name", { protocol = "tlsv1_2" }), "localhost TLSv1.2\n", "TLS 1.2")

-- A body of the program's.
body, code, headers = https.request(FIRST .. "/post", "one=1&two=2")
equal(body, "plain\n", "POST")
equal(code, 200, "POST")
equal(headers["x-body"], "one=1&two=2", "POST")
body, code, headers = get(FIRST .. "/post", {
  method = "PUT", source = ltn12.source.string "put", headers = { ["content-length"] = 3 },
})
equal(body, "plain\n", "PUT")
equal(code, 200, "PUT")
equal(headers["x-body"], "put", "PUT")

-- A certificate of the program's.
equal(get(FIRST .. "/who"), "\n", "nobody")
local own = { key = "keys/client.pem", certificate = "keys/client.pem" }
assert(assert(get(FIRST .. "/who", own)):find("CN=", 1, true), "a client's certificate")

-- Redirects: to https they are followed, with the same parameters; from https to http they are not, and LuaSocket 3.1
-- takes an address without a scheme for such a one.
equal(select(2, get(FIRST .. "/relative")), 302, "a relative redirect")
equal(get(FIRST .. "/absolute"), "first HTTP/1.1 GET\n", "an absolute redirect")
body, code, headers = get(FIRST .. "/far")
equal(body, "second\n", "a redirect to another port")
equal(code, 200, "a redirect to another port")
equal(headers.location, SECOND .. "/", "where the redirect went")
equal(get(FIRST .. "/steps"), "second\n", "a redirect to a redirect")
equal(https.request(FIRST .. "/far"), "second\n", "a redirect of an address")
equal(select(2, https.request(FIRST .. "/far", "a=b")), 307, "a redirect of a POST")
equal(select(2, get(FIRST .. "/far", { cafile = false })), "certificate verify failed", "a wrong root")
equal(select(2, get(FIRST .. "/loop")), 302, "a redirect without end")
equal(select(2, get(FIRST .. "/absolute", { maxredirects = 0 })), 301, "no redirects at all")
body, code, headers = get(FIRST .. "/down")
assert(body and not body:find("plain", 1, true), "a redirect to http was followed")
equal(code, 302, "a redirect to http")
equal(headers.location, PLAIN .. "/", "a redirect to http")

-- What LuaSec does not take.
for _, value in ipairs { "all", true } do
  equal(select(2, get(FIRST .. "/", { redirect = value })), "redirect not supported", "redirect")
end
equal(get(FIRST .. "/", { redirect = false }), "first HTTP/1.1 GET\n", "redirect = false")
equal(select(2, get(FIRST .. "/absolute", { redirect = false })), 301, "redirect = false")
equal(select(2, get(FIRST .. "/", { create = function() end })), "create function not permitted", "create")
equal(select(2, get(FIRST .. "/", { proxy = PLAIN })), "proxy not supported", "a proxy")
http.PROXY = PLAIN
equal(select(2, https.request(FIRST .. "/")), "proxy not supported", "a proxy of LuaSocket's")
http.PROXY = nil

-- LuaSocket's http comes to ssl.https by itself: by an address, and by a redirect.
equal(http.request(FIRST .. "/"), "first HTTP/1.1 GET\n", "http.request of https")
equal(http.request(PLAIN .. "/up"), "first HTTP/1.1 GET\n", "a redirect from http to https")
equal(select(2, http.request(FIRST .. "/down")), 302, "a redirect from https to http")
equal(select(2, http.request {
  url = FIRST .. "/", verify = "peer", sink = ltn12.sink.null(),
}), "certificate verify failed", "http.request of https with parameters")

-- Its own constructor, and what is there beside.
local made = https.tcp { verify = "peer", cafile = "ca/root.crt" }
equal(http.request { url = FIRST .. "/", create = made, sink = ltn12.sink.null() }, 1, "https.tcp")
equal(https.PORT, 443, "PORT")
equal(https.TIMEOUT, 60, "TIMEOUT")

-- A server that does not speak TLS.
equal(get("https://localhost:" .. arg[3] .. "/"), nil, "a server without TLS")
equal(select(2, get("https://localhost:1/")), "connection refused", "nobody listens")
print "every request"
