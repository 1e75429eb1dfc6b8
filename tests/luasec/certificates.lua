local kit = require "kit"
local ssl, test, equal, matches = kit.ssl, kit.test, kit.equal, kit.matches

local function load(name)
  return assert(ssl.loadcertificate(kit.read(name)))
end

test("what is no certificate is nil", function()
  equal(ssl.loadcertificate("garbage"), nil)
  equal(ssl.loadcertificate(""), nil)
  equal(ssl.loadcertificate(kit.read("bare/server-rsa.key")), nil)
end)

test("a certificate says what it is", function()
  local one = load("bare/server-rsa.crt")
  matches(tostring(one), "^X509 certificate: 0x%x+$")
  local subject = one:subject()
  equal(#subject, 1)
  equal(subject[1].oid, "2.5.4.3")
  equal(subject[1].name, "commonName")
  equal(subject[1].value, "localhost")
  equal(one:issuer()[1].value, "luassl development server CA")
  matches(one:notbefore(), "^%a%a%a [ %d]%d %d%d:%d%d:%d%d %d%d%d%d GMT$")
  matches(one:notafter(), "^%a%a%a [ %d]%d %d%d:%d%d:%d%d %d%d%d%d GMT$")
  matches(one:serial(), "^%x+$")
  matches(one:pem(), "^%-%-%-%-%-BEGIN CERTIFICATE%-%-%-%-%-\n")
  equal(one:getsignaturename(), "RSA-SHA256")
  equal(#one:digest(), 40)
  equal(one:digest("sha1"), one:digest())
  equal(#one:digest("sha256"), 64)
  equal(#one:digest("sha512"), 128)
  local value, reason = one:digest("x")
  equal(value, nil)
  equal(reason, "digest algorithm not supported (x)")
end)

test("public keys", function()
  for name, wanted in pairs {
    ["server-rsa"] = { "RSA", 2048 }, ["server-p256"] = { "EC", 256 }, ["server-ed25519"] = { "Unknown" },
  } do
    local pem, kind, bits = load("bare/" .. name .. ".crt"):pubkey()
    matches(pem, "^%-%-%-%-%-BEGIN PUBLIC KEY%-%-%-%-%-\n")
    equal(kind, wanted[1])
    equal(bits, wanted[2] or bits)
  end
end)

test("validity at a time", function()
  local one = load("bare/server-rsa.crt")
  equal(one:validat(os.time()), true)
  equal(one:validat(0), false)
  equal(one:validat(os.time() + 20 * 365 * 24 * 3600), false)
  matches(kit.throws(one.validat, one, "x"), "number expected, got string")
end)

test("alternative names", function()
  local names = load("bare/server-rsa.crt"):extensions()["2.5.29.17"]
  equal(names.name, "X509v3 Subject Alternative Name")
  equal(table.concat(names.dNSName, " "), "localhost")
  equal(table.concat(names.iPAddress, " "), "127.0.0.1 ::1")
  equal(names.rfc822Name, nil)
  equal(next(load("ca/root.crt"):extensions()), nil)
end)

test("names of every kind, and texts in either encoding", function()
  local one = load("names.crt")
  local names = one:extensions()["2.5.29.17"]
  equal(table.concat(names.dNSName, " "), "a.example *.b.example")
  equal(table.concat(names.rfc822Name, " "), "me@x.example")
  equal(table.concat(names.uniformResourceIdentifier, " "), "https://x/y")
  equal(names["1.3.6.1.5.5.7.8.5"][1], "xmpp.example")
  equal(names["1.3.6.1.5.5.7.8.5"].name, "XmppAddr")
  equal(names["1.3.6.1.5.5.7.8.7"][1], "_xmpp-server.x")
  equal(one:setencode("utf8"), true)
  equal(one:subject()[2].value, "B\195\188cher")
  equal(one:setencode("ai5"), true)
  equal(one:setencode("x"), false)
  equal(one:serial(), "0A0B0C")
end)

test("who issued whom", function()
  local root, between, leaf = load("ca/root.crt"), load("ca/server-ca.crt"), load("bare/server-rsa.crt")
  equal(root:issued(leaf, between), true)
  local good, reason = root:issued(leaf)
  equal(good, nil)
  equal(reason, "unable to get local issuer certificate")
  equal(root:issued(root), true)
  equal(leaf:issued(root), nil)
end)
