-- Verification by TLSA records.
local kit = require "kit"
local ssl, test, equal, matches = kit.ssl, kit.test, kit.equal, kit.matches

local function bytes_of(hex)
  return (hex:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end))
end

--- The certificates of a file, as objects.
local function certificates(name)
  local list = {}
  for pem in kit.read(name):gmatch("%-+BEGIN CERTIFICATE.-END CERTIFICATE%-+") do
    list[#list + 1] = assert(ssl.loadcertificate(pem))
  end
  return list
end

local CHAIN = certificates("bare/server-rsa.crt")
local LEAF, ROOT = bytes_of(CHAIN[1]:digest("sha256")), bytes_of(CHAIN[#CHAIN]:digest("sha256"))

--- Ends of a connection whose client verifies by `records`, each { usage, selector, matching, data }.
local function wrapped(records, host, given)
  local config = { verify = "peer", dane = true, cafile = false }
  for name, value in pairs(given or {}) do
    config[name] = value
  end
  local server, client = kit.wrapped(nil, config)
  equal(client:setdane(host or "localhost"), true)
  for _, record in ipairs(records) do
    equal(client:settlsa(record[1], record[2], record[3], record[4]), true)
  end
  return server, client
end

local function outcome(...)
  local server, client = wrapped(...)
  local _, of_client = kit.shake(server, client)
  local verified = of_client[1] and client:getpeerverification()
  server:close()
  client:close()
  return of_client[1], of_client[2], verified
end

test("ssl.config knows dane", function()
  equal(ssl.config.capabilities.dane.no_ee_namechecks, true)
end)

test("a record of the certificate verifies a server that nobody else vouches for", function()
  local done, reason, verified = outcome { { 3, 0, 1, LEAF } }
  equal(done, true, reason)
  equal(verified, true)
end)

test("a record of an issuer verifies what it signed, for the name alone", function()
  equal(outcome { { 2, 0, 1, ROOT } }, true)
  local done, reason = outcome({ { 2, 0, 1, ROOT } }, "other.example")
  equal(done, false)
  equal(reason, "certificate verify failed")
end)

test("one record that fits is enough, and one that does not fit is refused", function()
  equal(outcome { { 3, 0, 1, ("x"):rep(32) }, { 3, 0, 1, LEAF } }, true)
  local done, reason = outcome { { 3, 0, 1, ("x"):rep(32) } }
  equal(done, false)
  equal(reason, "certificate verify failed")
end)

test("the certificate of a record of usage 3 needs the name, unless it is left out", function()
  equal(outcome({ { 3, 0, 1, LEAF } }, "other.example"), false)
  equal(outcome({ { 3, 0, 1, LEAF } }, "other.example", { dane = { "no_ee_namechecks" } }), true)
end)

test("without a record the authorities decide", function()
  equal(outcome({}, "localhost", { cafile = kit.file("ca/root.crt") }), true)
  equal(outcome({}, "localhost"), false)
end)

test("records that cannot be used are refused at once", function()
  local server, client = kit.wrapped(nil, { verify = "peer", dane = true })
  equal(client:settlsa(3, 0, 1, LEAF), false, "before setdane")
  equal(client:setdane("localhost"), true)
  equal(client:setdane("localhost"), false)
  equal(client:settlsa(4, 0, 1, LEAF), false)
  equal(client:settlsa(3, 2, 1, LEAF), false)
  equal(client:settlsa(3, 0, 3, LEAF), false)
  equal(client:settlsa(3, 0, 1, "short"), false)
  equal(client:settlsa(3, 0, 0, "no certificate"), false)
  matches(kit.throws(client.settlsa, client, "x"), "number expected, got string")
  server:close()
  client:close()
end)

test("who did not ask for dane has none", function()
  local server, client = kit.wrapped(nil, { verify = "peer" })
  equal(client:setdane("localhost"), false)
  server:close()
  client:close()
end)

test("a flag of dane that there is not is thrown", function()
  matches(kit.throws(ssl.newcontext, kit.client_config { dane = { "x" } }), "bad argument #2 to 'setdane'")
end)
