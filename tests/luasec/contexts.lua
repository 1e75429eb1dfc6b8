local kit = require "kit"
local ssl, test, equal, matches = kit.ssl, kit.test, kit.equal, kit.matches
local context = require "ssl.context"

local function reason_of(config)
  local ctx, reason = ssl.newcontext(config)
  assert(not ctx, "a context was made")
  return reason
end

local function server(given)
  return kit.server_config(given)
end

test("a context is userdata that says what it is", function()
  local ctx = assert(ssl.newcontext(server()))
  equal(type(ctx), "userdata")
  matches(tostring(ctx), "^SSL context: 0x%x+$")
  equal(type(getmetatable(ctx).__index), "table")
  equal(type(ctx.setverifyext), "function")
  equal(ctx.nosuchmethod, nil)
end)

test("an unknown protocol is named", function()
  equal(reason_of { mode = "server", protocol = "x" }, "invalid protocol (x)")
  equal(reason_of { mode = "server", protocol = "sslv3" }, "invalid protocol (sslv3)")
end)

test("a configuration without a protocol is thrown", function()
  matches(kit.throws(ssl.newcontext, { mode = "server" }), "bad argument #1 to 'create' %(string expected, got nil%)")
end)

test("old protocols are there, or are refused by name", function()
  local ctx, reason = ssl.newcontext(server { protocol = "tlsv1_1" })
  if kit.differs "old protocols" then
    matches(reason, "^invalid protocol %(tlsv1_1%)")
  else
    assert(ctx, reason)
  end
end)

test("an invalid mode is found by wrap", function()
  local ctx = assert(ssl.newcontext { mode = "x", protocol = "any" })
  local one, other = kit.pair()
  local conn, reason = ssl.wrap(one, ctx)
  equal(conn, nil)
  equal(reason, "invalid mode")
  assert(one:getfd() >= 0, "the socket is still the program's")
  one:close()
  other:close()
end)

test("a certificate that cannot be loaded is named with a reason", function()
  matches(reason_of(server { certificate = "/nonexistent" }), "^error loading certificate %(.+%)$")
  equal(reason_of(server { certificate = "/etc/passwd" }), "error loading certificate (no start line)")
end)

test("a key that cannot be loaded is named with a reason", function()
  matches(reason_of(server { key = "/nonexistent" }), "^error loading private key %(.+%)$")
  matches(reason_of(server { key = "/etc/passwd" }), "^error loading private key %(.+%)$")
end)

test("authorities that cannot be loaded are named with a reason", function()
  matches(reason_of(server { cafile = "/nonexistent" }), "^error loading CA locations %(.+%)$")
  matches(reason_of(server { cafile = "/etc/passwd" }), "^error loading CA locations %(.+%)$")
  assert(ssl.newcontext(server { capath = "/nonexistent" }))
end)

test("a key and a certificate that do not belong together are refused", function()
  local reason = reason_of(server { certificate = kit.file("bare/server-p256.crt") })
  equal(reason, "private key does not match public key")
end)

test("a password of another type is refused, and a function is not called for a key without one", function()
  equal(reason_of(server { password = 5 }), "invalid password type")
  local called = false
  assert(ssl.newcontext(server { password = function() called = true return "x" end }))
  equal(called, false)
end)

test("a cipher list that selects nothing is refused", function()
  matches(reason_of(server { ciphers = "NONSENSE" }), "^error setting cipher list %(.+%)$")
  matches(reason_of(server { ciphersuites = "NONSENSE" }), "^error setting cipher list %(.+%)$")
  assert(ssl.newcontext(server { ciphers = "HIGH+ECDHE", ciphersuites = "TLS_AES_256_GCM_SHA384" }))
end)

test("unknown words are named", function()
  equal(reason_of(server { verify = "x" }), "invalid verify option (x)")
  equal(reason_of(server { verify = { "peer", "x" } }), "invalid verify option (x)")
  equal(reason_of(server { options = "x" }), "invalid option (x)")
  equal(reason_of(server { options = { "all", "x" } }), "invalid option (x)")
  equal(reason_of(server { verifyext = "x" }), "invalid verify option (x)")
  equal(reason_of(server { curveslist = "x" }), "unknown elliptic curve in \"x\"")
  if kit.differs "curve text" then
    matches(reason_of(server { curve = "x" }), "elliptic curve")
  end
  matches(reason_of(server { curve = "P-256:P-384" }), "elliptic curve")
end)

test("false is none", function()
  assert(ssl.newcontext(server { curve = false, ciphers = false, depth = false, cafile = false, alpn = false }))
end)

test("application protocols are checked", function()
  equal(reason_of(server { alpn = "x" }), "invalid ALPN parameter")
  equal(reason_of(kit.client_config { alpn = 5 }), "invalid ALPN parameter")
  equal(reason_of(kit.client_config { alpn = {} }), "invalid ALPN list (empty)")
  equal(reason_of(kit.client_config { alpn = { "" } }), "invalid ALPN name (empty string)")
  equal(reason_of(kit.client_config { alpn = { ("x"):rep(256) } }), "invalid ALPN name (length > 255)")
end)

test("DH parameters come from a function", function()
  equal(reason_of(server { dhparam = "x" }), "invalid DH parameter type")
  assert(ssl.newcontext(server { dhparam = function(export, length)
    equal(export, false)
    equal(length, 1024)
    return kit.read("keys/dhparams.pem")
  end }))
end)

test("the setters of ssl.context say true, or false and why", function()
  local ctx = assert(ssl.newcontext(server()))
  equal(context.setcipher(ctx, "ECDHE-RSA-AES256-GCM-SHA384"), true)
  local good, reason = context.setcipher(ctx, "NONSENSE")
  equal(good, false)
  matches(reason, "^error setting cipher list %(")
  equal(context.setverify(ctx), true)
  equal(context.setverify(ctx, "peer", "client_once"), true)
  equal(context.setoptions(ctx, "no_ticket"), true)
  equal(context.setdepth(ctx, 3), true)
  equal(ctx:setverifyext("crl_check"), true)
  equal(context.checkkey(ctx), true)
  equal(context.checkkey(assert(ssl.newcontext(kit.client_config()))), false)
  matches(kit.throws(context.setmode, {}, "server"), "SSL:Context expected, got table")
end)

test("a context that was changed is changed for the next connection", function()
  local ctx = assert(ssl.newcontext(server { protocol = "tlsv1_2" }))
  assert(context.setcipher(ctx, "ECDHE-RSA-AES256-GCM-SHA384"))
  local one, other = kit.connected(ctx)
  equal(one:info("cipher"), "ECDHE-RSA-AES256-GCM-SHA384")
  one:close()
  other:close()
  assert(context.setcipher(ctx, "ECDHE-RSA-AES128-GCM-SHA256"))
  one, other = kit.connected(ctx)
  equal(one:info("cipher"), "ECDHE-RSA-AES128-GCM-SHA256")
  one:close()
  other:close()
end)

test("ssl.config tells what there is", function()
  for _, name in ipairs { "all", "no_sslv3", "no_tlsv1_1", "no_ticket", "cipher_server_preference" } do
    equal(ssl.config.options[name], true, name)
  end
  equal(ssl.config.protocols.tlsv1_3, true)
  equal(ssl.config.algorithms.ec, true)
  equal(ssl.config.curves.prime256v1, true)
  equal(ssl.config.curves.X25519, true)
  equal(ssl.config.curves.nonsense, nil)
  equal(ssl.config.capabilities.alpn, true)
  equal(ssl.config.capabilities.curves_list, true)
  matches(ssl._VERSION, "^%d+%.%d+")
end)
