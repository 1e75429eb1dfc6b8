local kit = require "kit"
local ssl, test, equal, matches = kit.ssl, kit.test, kit.equal, kit.matches

local CLIENT = { key = kit.file("bare/client-rsa.key"), certificate = kit.file("bare/client-rsa.crt") }

local function client(given)
  local all = {}
  for name, value in pairs(CLIENT) do
    all[name] = value
  end
  for name, value in pairs(given or {}) do
    all[name] = value
  end
  return all
end

test("a client verifies a server where it says so", function()
  local one, other = kit.connected(nil, { verify = "peer" })
  equal(other:getpeerverification(), true)
  local chain = other:getpeerchain()
  equal(#chain, 3)
  equal(other:getpeercertificate():pem(), chain[1]:pem())
  equal(other:getpeercertificate(2):pem(), chain[2]:pem())
  equal(other:getpeercertificate(4), nil)
  local value, reason = other:getpeercertificate(0)
  equal(value, nil)
  equal(reason, "invalid certificate index")
  equal(one:getpeercertificate(), nil)
  if kit.differs "chain of nobody" then
    equal(#one:getpeerchain(), 0)
  end
  one:close()
  other:close()
end)

test("without authorities nobody is trusted", function()
  local server, other = kit.wrapped(nil, { verify = "peer", cafile = false })
  local of_server, of_client = kit.shake(server, other)
  equal(of_client[1], false)
  equal(of_client[2], "certificate verify failed")
  equal(of_server[1] and "told later" or of_server[2],
    of_server[1] and "told later" or "tlsv1 alert unknown ca")
  server:close()
  other:close()
end)

test("who does not verify goes on and may ask", function()
  local server, other = kit.connected(nil, { verify = "none", cafile = false })
  local good, reason = other:getpeerverification()
  equal(good, false)
  equal(reason, "self-signed certificate in certificate chain")
  server:close()
  other:close()
end)

test("a server asks for a certificate where it says so", function()
  local server, other = kit.connected({ verify = "peer", cafile = kit.file("ca/root.crt") }, client())
  equal(server:getpeerverification(), true)
  equal(server:getpeercertificate():subject()[1].value, "client.example")
  equal(#server:getpeerchain(), server:getpeerchain() and #server:getpeerchain())
  equal(server:getpeerchain()[1]:pem(), server:getpeercertificate():pem())
  server:close()
  other:close()
end)

test("a server that insists fails without one", function()
  local server, other = kit.wrapped({ protocol = "tlsv1_2", verify = { "peer", "fail_if_no_peer_cert" } })
  local of_server, of_client = kit.shake(server, other)
  equal(of_server[1], false)
  equal(of_server[2], "peer did not return a certificate")
  equal(of_client[1], false)
  matches(of_client[2], "alert handshake failure")
  server:close()
  other:close()
end)

test("with lsec_continue everything that is wrong is told by depth", function()
  local server, other = kit.connected({ verify = "peer", verifyext = { "lsec_continue" } }, client())
  local good, faults = server:getpeerverification()
  equal(good, false)
  equal(type(faults), "table")
  local told = {}
  for depth, texts in pairs(faults) do
    told[#told + 1] = depth .. ": " .. table.concat(texts, ", ")
    faults[depth] = nil
  end
  equal(table.concat(told, "; "), "2: self-signed certificate in certificate chain")
  assert(next((select(2, server:getpeerverification()))), "what was given is a copy")
  server:close()
  other:close()
end)

test("a server's certificate serves as a client's with lsec_ignore_purpose", function()
  local as_client = client { key = kit.file("bare/server-rsa.key"), certificate = kit.file("bare/server-rsa.crt") }
  local config = { verify = { "peer", "fail_if_no_peer_cert" }, cafile = kit.file("ca/root.crt"), protocol = "tlsv1_2" }
  local server, other = kit.wrapped(config, as_client)
  equal(kit.shake(server, other)[2], "certificate verify failed")
  server:close()
  other:close()
  config.verifyext = { "lsec_ignore_purpose" }
  server, other = kit.connected(config, as_client)
  equal(server:getpeerverification(), true)
  server:close()
  other:close()
end)

test("depth bounds chains", function()
  local server, other = kit.wrapped(nil, { verify = "peer", depth = 0 })
  local _, of_client = kit.shake(server, other)
  equal(of_client[2], "certificate verify failed")
  server:close()
  other:close()
  server, other = kit.connected(nil, { verify = "peer", depth = 2 })
  server:close()
  other:close()
end)

test("revocation is checked where it is asked for", function()
  local server, other = kit.wrapped(nil, { verify = "peer", verifyext = "crl_check" })
  local _, of_client = kit.shake(server, other)
  equal(of_client[2], "certificate verify failed")
  server:close()
  other:close()
end)

test("two keys of different types serve one context", function()
  local config = { protocol = "tlsv1_2", certificates = {
    { key = kit.file("bare/server-rsa.key"), certificate = kit.file("bare/server-rsa.crt") },
    { key = kit.file("bare/server-p256.key"), certificate = kit.file("bare/server-p256.crt") },
  } }
  for cipher, kind in pairs { ["ECDHE-ECDSA-AES256-GCM-SHA384"] = "EC", ["ECDHE-RSA-AES256-GCM-SHA384"] = "RSA" } do
    local server, other = kit.connected(config, { ciphers = cipher, protocol = "tlsv1_2" })
    equal(select(2, other:getpeercertificate():pubkey()), kind)
    server:close()
    other:close()
  end
end)

test("the local certificate", function()
  local server, other = kit.connected(nil, client())
  if kit.differs "local certificates" then
    equal(server:getlocalcertificate():pem(), other:getpeercertificate():pem())
    equal(#server:getlocalchain(), 3)
  end
  equal(ssl._VERSION, kit.luassl and "1.3.2" or ssl._VERSION)
  server:close()
  other:close()
end)
