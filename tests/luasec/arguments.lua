-- Arguments of the wrong type, and those that Lua's C API takes though they are of another.
local kit = require "kit"
local ssl, test, equal, matches = kit.ssl, kit.test, kit.equal, kit.matches
local context = require "ssl.context"
local core = require "ssl.core"
local x509 = require "ssl.x509"

local PLAIN = {
  "getfd", "dirty", "want", "close", "dohandshake", "receive", "send", "getpeercertificate", "getpeerchain",
  "settimeout", "getpeerverification", "getfinished", "getpeerfinished", "getstats", "setstats", "getsniname",
  "getalpn", "sni", "exportkeyingmaterial", "setdane", "settlsa", "info",
}

test("a method of something else throws a text", function()
  local server, client = kit.connected()
  for _, name in ipairs(PLAIN) do
    local good, message = pcall(client[name], {})
    equal(good, false, name)
    matches(message, "SSL:Connection expected, got table", name)
  end
  server:close()
  client:close()
end)

test("arguments of connections", function()
  local server, client = kit.connected()
  local function throws(pattern, method, ...)
    local good, message = pcall(client[method], client, ...)
    equal(good, false, method)
    matches(message, pattern, method)
  end
  throws("string expected, got no value", "send")
  throws("string expected, got table", "send", {})
  throws("number expected, got string", "send", "abc", "x")
  throws("string expected, got table", "receive", {})
  throws("string expected, got table", "receive", "*l", {})
  throws("invalid receive pattern", "receive", "")
  throws("invalid receive pattern", "receive", -1)
  throws("number expected, got string", "settimeout", "x")
  throws("invalid timeout mode", "settimeout", 0, "x")
  throws("invalid timeout mode", "settimeout", 0, 5)
  throws("number expected, got string", "setstats", "x")
  throws("string expected, got no value", "exportkeyingmaterial")
  throws("number expected, got string", "exportkeyingmaterial", "label", "x")
  throws("number expected, got string", "getpeercertificate", "x")
  throws("string expected, got table", "sni", {})
  equal(client:settimeout("0"), 1)
  equal(client:setstats("5", 6, 7), 1)
  equal(client:send("abc", "2", "3"), 3)
  equal(kit.eventually(server, function() return server:receive("2") end)[1], "bc")
  equal(client:getpeercertificate("1"):pem(), client:getpeercertificate():pem())
  equal(#client:exportkeyingmaterial("label", 2000), 2000)
  matches(select(2, pcall(server.sni, server, { ["a.example"] = 5 })), "SSL:Context expected, got number")
  matches(select(2, pcall(server.sni, server)), "table expected, got no value")
  server:close()
  client:close()
end)

test("arguments of contexts", function()
  for _, wrong in ipairs { 5, "x", {}, io.stdout } do
    matches(select(2, pcall(core.create, wrong)), "invalid context")
  end
  local ctx = assert(ssl.newcontext(kit.server_config()))
  local good, reason = context.setverify(ctx, 5)
  equal(good, false)
  equal(reason, "invalid verify option (5)")
  equal(select(2, context.setoptions(ctx, 5)), "invalid option (5)")
  equal(select(2, ctx:setverifyext(5)), "invalid verify option (5)")
  equal(context.setdepth(ctx, "3"), true)
  good, reason = context.locations(ctx)
  equal(good, false)
  matches(reason, "^error loading CA locations %(")
  good, reason = context.setalpn(ctx, "\5ab")
  equal(good, false)
  matches(reason, "^error setting ALPN %(")
  matches(kit.throws(context.loadkey, ctx, kit.file("bare/server-rsa.key"), 5), "invalid callback value")
end)

test("arguments of certificates", function()
  local certificate = assert(x509.load(kit.read("names.crt")))
  equal(select(2, certificate:digest("SHA1")), "digest algorithm not supported (SHA1)")
  equal(select(2, certificate:digest(5)), "digest algorithm not supported (5)")
  matches(kit.throws(certificate.digest, certificate, {}), "string expected, got table")
  equal(certificate:validat("1"), false)
  matches(kit.throws(certificate.validat, certificate), "number expected, got no value")
  equal(certificate:setencode("utf8 and more"), true)
  equal(certificate:setencode("ai5"), true)
  equal(certificate:setencode("x"), false)
  matches(kit.throws(certificate.setencode, certificate), "string expected, got no value")
  matches(kit.throws(certificate.issued, certificate), "SSL:Certificate expected, got no value")
  matches(kit.throws(certificate.pem, {}), "SSL:Certificate expected, got table")
  equal(x509.load(5), nil)
end)

local MONTHS = { Jan = 1, Feb = 2, Mar = 3, Apr = 4, May = 5, Jun = 6, Jul = 7, Aug = 8, Sep = 9, Oct = 10, Nov = 11,
  Dec = 12 }

--- Seconds since 1970, of a text such as `Nov  3 10:00:00 2026 GMT`.
local function seconds(text)
  local month, day, hour, minute, second, year = text:match("^(%a+) +(%d+) (%d+):(%d+):(%d+) (%d+) GMT$")
  local then_ = { year = year, month = MONTHS[month], day = day, hour = hour, min = minute, sec = second }
  then_.isdst = false
  local here = os.time(then_)
  local utc = os.date("!*t", here)
  utc.isdst = false
  return here + os.difftime(here, os.time(utc))
end

test("a certificate is valid from its first second to its last", function()
  local certificate = assert(x509.load(kit.read("names.crt")))
  local first, last = seconds(certificate:notbefore()), seconds(certificate:notafter())
  equal(certificate:validat(first - 1), false)
  equal(certificate:validat(first), true)
  equal(certificate:validat(last), true)
  equal(certificate:validat(last + 1), false)
end)
