local support = dofile "client-lua/spec/luasec_support.lua"
local core = require "luassl_core"
local context = require "luassl.luasec.context"
local ssl = require "luassl.luasec"
local compared = support.compared(it, pending)

local DIRECTORY, KEY, CERTIFICATE, OTHER_KEY, OTHER_CERTIFICATE
local daemon

local function prepare()
  DIRECTORY = support.directory()
  KEY, CERTIFICATE = support.certificate(DIRECTORY, { name = "one", curve = "P-256" })
  OTHER_KEY, OTHER_CERTIFICATE = support.certificate(DIRECTORY, { name = "other", curve = "P-256" })
end

local function remove()
  support.remove_directory(DIRECTORY)
end

local function stand_in()
  daemon = support.daemon(core)
end

local function new(given)
  return ssl.newcontext(support.config(given))
end

--- The options that the daemon gets for a configuration.
local function options(given)
  local ctx, reason = new(given)
  assert.is_nil(reason)
  local handle, failure = context.handle(ctx)
  assert.is_nil(failure)
  return handle.options
end

local function reason_of(given)
  local ctx, reason = new(given)
  assert.is_nil(ctx)
  return reason
end

local function sorted(list)
  table.sort(list)
  return list
end

describe("a configuration for luassl.luasec", function()
  setup(prepare)
  teardown(remove)
  before_each(stand_in)
  after_each(support.restore)

  it("has the defaults of OpenSSL", function()
    assert.same({
      alpn_optional = true, trust_none = true, depth = 100, verify = 0, options = {},
    }, options())
  end)

  it("is let through by the core in every option", function()
    local full = {
      mode = "server", key = KEY, certificate = CERTIFICATE, cafile = CERTIFICATE, capath = DIRECTORY,
      ciphers = "HIGH", ciphersuites = "TLS_AES_128_GCM_SHA256", curveslist = "P-256:X25519", depth = 3,
      verify = { "peer", "client_once", "fail_if_no_peer_cert" }, options = { "all", "no_ticket" },
      verifyext = { "lsec_continue", "lsec_ignore_purpose", "crl_check", "crl_check_chain" },
      alpn = { "h2" }, psk = { hint = "hint", callback = function() end }, trust = "system", ocsp = true, keylog = true,
      resumption = true,
    }
    assert.equal("HIGH", options(full).ciphers)
    full.mode, full.psk, full.dane = "client", function() end, { "no_ee_namechecks" }
    assert.is_true(options(full).dane)
  end)

  it("chooses the versions", function()
    local function versions(protocol)
      local made = options { protocol = protocol }
      return { made.minimum_protocol or "lowest", made.maximum_protocol or "highest" }
    end
    assert.same({ "lowest", "highest" }, versions "any")
    assert.same({ "lowest", "highest" }, versions "sslv23")
    assert.same({ "TLSv1.2", "TLSv1.2" }, versions "tlsv1_2")
    assert.same({ "TLSv1.3", "TLSv1.3" }, versions "tlsv1_3")
  end)

  it("is refused with an unknown or old protocol", function()
    for _, protocol in ipairs { "x", "", "sslv2", "sslv3", "TLSv1.2", "tlsv1_4", 5 } do
      assert.equal(("invalid protocol (%s)"):format(protocol), reason_of { protocol = protocol })
    end
    for _, protocol in ipairs { "tlsv1", "tlsv1_1" } do
      assert.equal(("invalid protocol (%s): luassl speaks TLS 1.2 and 1.3"):format(protocol),
        reason_of { protocol = protocol })
    end
    assert.matches("bad argument #1 to 'create' %(string expected, got nil%)",
      support.outcome(ssl.newcontext, { mode = "client" })[2])
    assert.matches("string expected, got table", support.outcome(ssl.newcontext, { protocol = {} })[2])
  end)

  it("translates verify", function()
    assert.equal(0, options { verify = "none" }.verify)
    assert.same({ "VERIFY_PEER" }, options { verify = "peer" }.verify)
    assert.same({ "VERIFY_PEER" }, options { verify = { "none", "peer" } }.verify)
    assert.same({ "VERIFY_CLIENT_ONCE", "VERIFY_FAIL_IF_NO_PEER_CERT", "VERIFY_PEER" },
      sorted(options { verify = { "peer", "fail_if_no_peer_cert", "client_once" } }.verify))
    -- As in OpenSSL, the others have no effect alone.
    assert.equal(0, options { verify = "client_once" }.verify)
  end)

  it("translates options and adds those of setoptions", function()
    assert.same({ "OP_ALL", "OP_NO_SSLv3", "OP_NO_TICKET" },
      sorted(options { options = { "no_sslv3", "all", "no_ticket" } }.options))
    local ctx = assert(new { options = "all" })
    assert.is_true(context.setoptions(ctx, "no_ticket"))
    assert.same({ "OP_ALL", "OP_NO_TICKET" }, sorted(context.handle(ctx).options.options))
    for name in pairs(ssl.config.options) do
      assert.equal(name, options { options = name }.options[1]:sub(4):lower())
    end
  end)

  it("translates verifyext, and loads CRLs from the authorities", function()
    local made = options { verifyext = { "lsec_continue", "lsec_ignore_purpose" } }
    assert.same({ true, true }, { made.verify_continue, made.ignore_purpose })
    assert.is_nil(made.crl_check)
    local crl = "-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n"
    local file = support.write(DIRECTORY .. "/with_crl.pem", support.read(CERTIFICATE) .. crl)
    made = options { verifyext = "crl_check_chain", cafile = file, capath = DIRECTORY }
    assert.same({ true, true }, { made.crl_check, made.crl_check_chain })
    assert.equal(DIRECTORY, made.crlpath)
    assert.same({ support.read(file) }, made.crl)
    assert.is_nil(options { verifyext = "crl_check", cafile = CERTIFICATE }.crl)
    assert.is_nil(options { cafile = file }.crl)
  end)

  it("names the first unknown word", function()
    assert.equal("invalid verify option (x)", reason_of { verify = "x" })
    assert.equal("invalid verify option (x)", reason_of { verify = { "peer", "x", "y" } })
    assert.equal("invalid verify option (PEER)", reason_of { verify = "PEER" })
    assert.equal("invalid verify option (5)", reason_of { verify = 5 })
    assert.equal("invalid option (x)", reason_of { options = { "all", "x" } })
    assert.equal("invalid option (OP_ALL)", reason_of { options = "OP_ALL" })
    assert.equal("invalid verify option (crl)", reason_of { verifyext = { "crl_check", "crl" } })
  end)

  it("limits the depth as OpenSSL does", function()
    for given, wanted in pairs { [0] = 0, [3] = 3, ["7"] = 7, [2.5] = 2, [-1] = 0, [1000] = 100, [1 / 0] = 100 } do
      assert.equal(wanted, options { depth = given }.depth)
    end
    assert.matches("number expected, got string", support.outcome(new, { depth = "x" })[2])
    assert.matches("number expected, got table", support.outcome(new, { depth = {} })[2])
  end)

  it("reads certificate and authorities and sends their bytes", function()
    local made = options { key = KEY, certificate = CERTIFICATE, cafile = CERTIFICATE, capath = DIRECTORY }
    assert.equal(KEY, made.key)
    assert.equal(support.read(CERTIFICATE), made.chain)
    assert.same({ support.read(CERTIFICATE) }, made.cafile)
    assert.equal(DIRECTORY, made.capath)
  end)

  it("takes several pairs of key and certificate", function()
    local made = options { certificates = {
      { key = KEY, certificate = CERTIFICATE }, { key = OTHER_KEY, certificate = OTHER_CERTIFICATE },
    } }
    assert.equal(KEY, made.key)
    assert.equal(support.read(CERTIFICATE), made.chain)
    assert.same({ { key = OTHER_KEY, chain = support.read(OTHER_CERTIFICATE) } }, made.additional_identities)
  end)

  it("takes a key without a certificate, and replaces the chain of the same key", function()
    assert.equal("www", options { key = "www" }.key)
    local ctx = assert(new { key = KEY, certificate = CERTIFICATE })
    assert.is_true(context.loadkey(ctx, KEY))
    assert.is_true(context.loadcert(ctx, OTHER_CERTIFICATE))
    local made = context.handle(ctx).options
    assert.equal(support.read(OTHER_CERTIFICATE), made.chain)
    assert.is_nil(made.additional_identities)
  end)

  it("is refused with a certificate that cannot be read or has none", function()
    assert.equal("error loading certificate (No such file or directory)", reason_of { certificate = "/nonexistent" })
    assert.equal("error loading certificate (Is a directory)", reason_of { certificate = DIRECTORY })
    local file = DIRECTORY .. "/file"
    for _, text in ipairs { "", "text", "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n", support.read(KEY) } do
      support.write(file, text)
      assert.equal("error loading certificate (no start line)", reason_of { certificate = file })
    end
    support.write(file, (support.read(CERTIFICATE):gsub("CERTIFICATE", "X509 CERTIFICATE")))
    assert.equal(support.read(file), options { key = KEY, certificate = file }.chain)
  end)

  it("is refused with authorities that cannot be read or have none", function()
    assert.equal("error loading CA locations (No such file or directory)", reason_of { cafile = "/nonexistent" })
    assert.matches("^error loading CA locations %(.*no PEM block", reason_of { cafile = KEY })
    assert.equal("/nonexistent", options { capath = "/nonexistent" }.capath)
  end)

  it("asks the daemon for the key, and gives its reason", function()
    daemon.refuse = function(asked)
      if asked.key == "unknown" then
        return "no identity 'unknown'", support.REFUSED
      elseif asked.key == KEY and asked.chain and asked.chain ~= support.read(CERTIFICATE) then
        return "the chain is of another key", support.MISUSE
      end
    end
    assert.equal("error loading private key (no identity 'unknown')", reason_of { key = "unknown" })
    assert.equal("private key does not match public key", reason_of { key = KEY, certificate = OTHER_CERTIFICATE })
    local ctx = assert(new { key = KEY, certificate = CERTIFICATE })
    assert.is_true(context.checkkey(ctx))
    assert.is_false(context.checkkey(assert(new())))
  end)

  it("takes a key that needs its certificate to be used", function()
    daemon.refuse = function(asked)
      if asked.key and not asked.chain then
        return "the identity has no certificate", support.MISUSE
      end
    end
    assert.equal(KEY, options { key = KEY, certificate = CERTIFICATE }.key)
  end)

  it("takes a password as text or function, and never calls it", function()
    assert.equal(KEY, options { key = KEY, certificate = CERTIFICATE, password = "text" }.key)
    assert.equal(KEY, options { key = KEY, password = function() error("called") end }.key)
    assert.equal("invalid password type", reason_of { key = KEY, password = 5 })
    assert.equal("invalid password type", reason_of { key = KEY, password = {} })
  end)

  it("gives the failures of ciphers and curves in LuaSec's words", function()
    daemon.refuse = function(asked)
      for _, name in ipairs { "ciphers", "ciphersuites", "groups" } do
        if asked[name] == "NONSENSE" then
          return "nothing is selected", support.MISUSE
        elseif asked[name] == "WEAK" then
          return "level 0 is not allowed", support.REFUSED
        end
      end
    end
    assert.equal("error setting cipher list (no cipher match)", reason_of { ciphers = "NONSENSE" })
    assert.equal("error setting cipher list (no cipher match)", reason_of { ciphersuites = "NONSENSE" })
    assert.equal("error setting cipher list (level 0 is not allowed)", reason_of { ciphers = "WEAK" })
    assert.equal("error setting ciphersuites (level 0 is not allowed)", reason_of { ciphersuites = "WEAK" })
    assert.equal("unknown elliptic curve in \"NONSENSE\"", reason_of { curveslist = "NONSENSE" })
    assert.equal("elliptic curve 'NONSENSE' not supported", reason_of { curve = "NONSENSE" })
    -- The first error is that of LuaSec's order, in which curves come late.
    assert.equal("invalid option (x)", reason_of { curve = "NONSENSE", options = "x" })
    assert.equal("invalid DH parameter type", reason_of { curve = "NONSENSE", dhparam = 5 })
    assert.equal("elliptic curve 'NONSENSE' not supported", reason_of { curve = "NONSENSE", verifyext = "x" })
  end)

  it("takes one curve, or a list, which has precedence", function()
    assert.equal("P-256", options { curve = "P-256" }.groups)
    assert.equal("X25519:P-256", options { curve = "P-384", curveslist = "X25519:P-256" }.groups)
    for _, curve in ipairs { "P-256:P-384", "P-256/P-384", "?P-256", "*P-256" } do
      assert.equal(("elliptic curve '%s' not supported"):format(curve), reason_of { curve = curve })
    end
  end)

  it("takes empty ciphersuites as none", function()
    assert.is_nil(options { ciphersuites = "" }.ciphersuites)
    daemon.refuse = function(asked) return asked.ciphersuites == "" and "empty", support.MISUSE end
    local ctx = assert(new { ciphersuites = "TLS_AES_128_GCM_SHA256" })
    assert.equal("TLS_AES_128_GCM_SHA256", context.handle(ctx).options.ciphersuites)
    assert.is_true(context.setciphersuites(ctx, ""))
    assert.is_nil(context.handle(ctx).options.ciphersuites)
  end)

  it("takes false as unset", function()
    assert.same(options(), options {
      curve = false, curveslist = false, ciphers = false, ciphersuites = false, depth = false, cafile = false,
      capath = false, alpn = false, verify = false, options = false, verifyext = false, dhparam = false, psk = false,
      dane = false, key = false, certificate = false, trust = false, verify_host = false, resumption = false,
      ocsp = false, keylog = false,
    })
  end)

  it("calls dhparam once, with the arguments of LuaSec", function()
    local calls = {}
    local pem = "-----BEGIN DH PARAMETERS-----\nAA==\n-----END DH PARAMETERS-----\n"
    local made = options { dhparam = function(...) table.insert(calls, { ... }) return pem end }
    assert.same({ { false, 1024 } }, calls)
    assert.equal(pem, made.dhfile)
    assert.is_nil(options { dhparam = function() end }.dhfile)
    assert.is_nil(options { dhparam = function() return "no PEM" end }.dhfile)
    assert.equal("invalid DH parameter type", reason_of { dhparam = "x" })
  end)

  it("takes a function for a psk, which is asked", function()
    local function callback() end
    local ctx = assert(new { psk = callback })
    assert.equal(callback, context.psk_callback(ctx))
    assert.same({ keys = {}, ask = true }, context.handle(ctx).options.psk)
    ctx = assert(new { mode = "server", psk = { hint = "hint", callback = callback } })
    assert.equal(callback, context.psk_callback(ctx))
    assert.same({ hint = "hint", keys = {}, ask = true }, context.handle(ctx).options.psk)
  end)

  it("takes keys for a psk, which are not asked", function()
    assert.same({ keys = { { identity = "me", key = "secret" } }, ask = false },
      options { psk = { identity = "me", key = "secret" } }.psk)
    assert.same({ hint = "hint", keys = { { identity = "you", key = "\0k" } }, ask = false },
      options { mode = "server", psk = { hint = "hint", keys = { you = "\0k" } } }.psk)
    local made = options { mode = "server", psk = { keys = { you = "k" }, callback = function() end } }.psk
    assert.same({ keys = { { identity = "you", key = "k" } }, ask = true }, made)
  end)

  it("is refused with a psk of another form", function()
    local wrong = {
      client = { 5, "x", {}, { identity = "me" }, { key = "k" }, { identity = 5, key = "k" }, { callback = print } },
      server = {
        5, "x", {}, { hint = "h" }, { callback = print }, { hint = 5, callback = print }, { hint = "h", callback = 5 },
        { keys = { "k" } }, { keys = { a = 5 } }, { keys = { a = "k" }, hint = 5 }, { keys = 5 },
      },
    }
    for mode, values in pairs(wrong) do
      for index, value in ipairs(values) do
        assert.equal("invalid PSK configuration", reason_of { mode = mode, psk = value }, mode .. index)
      end
    end
    local ctx = assert(new { mode = "server" })
    assert.is_true(context.setpskhint(ctx, ("h"):rep(256)))
    assert.is_false(context.setpskhint(ctx, ("h"):rep(257)))
  end)

  it("takes dane for clients", function()
    assert.is_false(options { dane = true }.dane)
    assert.is_false(options { dane = {} }.dane)
    assert.is_true(options { dane = { "no_ee_namechecks" } }.dane)
    assert.is_nil(options { mode = "server", dane = true }.dane)
    assert.is_true(context.has_dane(assert(new { dane = true })))
    assert.is_false(context.has_dane(assert(new { mode = "server", dane = true })))
    assert.is_false(context.has_dane(assert(new())))
    assert.equal("bad argument #3 to 'setdane' (invalid option 'x')",
      support.outcome(new, { dane = { "no_ee_namechecks", "x" } })[2])
  end)

  it("refuses a flag of dane and a trust after nil", function()
    local ctx = assert(new())
    assert.matches("bad argument #2 to 'setdane' %(invalid option 'nil'%)",
      support.thrown(function() local _ = context.setdane(ctx, nil, "x") end))
    assert.matches("bad argument #2 to 'settrust' %(string expected, got nil%)",
      support.thrown(function() local _ = context.settrust(ctx, nil, "system") end))
  end)

  it("takes trusts by name", function()
    assert.same({ "system" }, options { trust = "system" }.trust)
    assert.same({ "system", "own" }, options { trust = { "system", "own" } }.trust)
    daemon.refuse = function(asked) return asked.trust and "no trust 'own'", support.REFUSED end
    assert.equal("error loading CA locations (no trust 'own')", reason_of { trust = "own" })
  end)

  it("takes verify_host with verify alone", function()
    local without = "verify_host requires verify = \"peer\": without it the certificate is not verified"
    assert.equal(without, reason_of { verify_host = "a.example" })
    assert.equal("invalid verify_host: use a name, or true for the name passed to sni",
      reason_of { verify = "peer", verify_host = 5 })
    local ctx = assert(new { verify = "peer", verify_host = "a.example" })
    assert.equal("a.example", context.expected(ctx, "b.example"))
    assert.is_true(context.setverify(ctx, "none"))
    assert.same({ nil, without }, { context.expected(ctx, "b.example") })
    ctx = assert(new { verify = "peer", verify_host = true })
    assert.equal("b.example", context.expected(ctx, "b.example"))
    assert.matches("^verify_host = true requires a server name", select(2, context.expected(ctx, nil)))
    assert.same({}, { context.expected(assert(new()), "b.example") })
  end)

  it("has switches that are off by default", function()
    assert.same({ true, true }, { options { ocsp = true }.staple, options { keylog = true }.key_log })
    assert.is_true(context.resumes(assert(new { resumption = true })))
    assert.is_false(context.resumes(assert(new())))
    daemon.refuse = function(asked) return asked.key_log and "the grant has no key_log", support.REFUSED end
    assert.equal("the grant has no key_log", reason_of { keylog = true })
  end)

  compared("is accepted, refused and thrown as by LuaSec", function()
    local luasec = support.luasec()
    -- The answers of OpenSSL for nonsense.
    daemon.refuse = function(asked)
      for _, name in ipairs { "ciphers", "ciphersuites", "groups" } do
        if tostring(asked[name]):find("NONSENSE") then
          return "nothing is selected", support.MISUSE
        end
      end
    end
    local configurations = {
      {}, { verify = "none" }, { verify = "x" }, { verify = { "peer", "x" } }, { verify = {} }, { verify = 5 },
      { verify = { "peer", "client_once", "fail_if_no_peer_cert", "none" } }, { verify = { {} } }, { verify = true },
      { options = "all" }, { options = { "all", "no_ticket" } }, { options = "x" }, { options = {} },
      { options = { "all", 5 } }, { options = "" }, { options = true }, { options = { true } },
      { verifyext = "lsec_continue" }, { verifyext = { "lsec_ignore_purpose", "crl_check", "crl_check_chain" } },
      { verifyext = "peer" }, { verifyext = {} }, { verifyext = { {} } }, { protocol = "tlsv1_2" },
      { protocol = "tlsv1_3" }, { protocol = "sslv23" }, { protocol = "x" }, { protocol = "" }, { protocol = 5 },
      { protocol = {} }, { protocol = false }, { depth = 5 }, { depth = "5" }, { depth = "x" }, { depth = {} },
      { depth = -1 }, { curve = "P-256" }, { curve = "prime256v1" }, { curve = "P-256:P-384" }, { curve = "NONSENSE" },
      { curveslist = "P-256:P-384" }, { curveslist = "NONSENSE" }, { curve = "NONSENSE", curveslist = "P-256" },
      { curve = {} }, { curveslist = {} }, { ciphers = "HIGH" }, { ciphers = {} }, { ciphersuites = {} },
      { ciphersuites = "" }, { ciphersuites = "TLS_AES_128_GCM_SHA256" },
      { dhparam = "x" }, { dhparam = function() end }, { dhparam = {} }, { dane = true }, { dane = {} },
      { dane = { "x" } }, { key = {} }, { certificate = {} },
      { key = KEY, password = 5 }, { key = KEY, certificate = CERTIFICATE }, { key = KEY, certificate = CERTIFICATE,
        password = function() end }, { certificate = CERTIFICATE }, { certificate = "/nonexistent" },
      { cafile = CERTIFICATE }, { cafile = "/nonexistent" }, { cafile = KEY }, { capath = "/nonexistent" },
      { cafile = {} }, { capath = {} }, { certificates = {} },
      { certificates = { { key = KEY, certificate = CERTIFICATE } } },
      { curve = "NONSENSE", options = "x" }, { curve = "NONSENSE", dhparam = 5 },
      { curve = "NONSENSE", verifyext = "x" }, { verify = "x", options = "y" }, { depth = "x", options = "y" },
      { curveslist = "NONSENSE", alpn = 5 }, { alpn = 5, verifyext = "x" },
    }
    for index, given in ipairs(configurations) do
      for _, mode in ipairs { "client", "server" } do
        local cfg = { mode = mode, protocol = "any" }
        for name, value in pairs(given) do
          cfg[name] = value
        end
        local theirs, ours = support.outcome(luasec.newcontext, cfg), support.outcome(ssl.newcontext, cfg)
        local label = ("configuration %d for a %s: %s"):format(index, mode, tostring(theirs[3] or theirs[2]))
        assert.equal(theirs[1], ours[1], label)
        if theirs[1] == "throws" then
          -- LuaSec has ? or the name of a local variable in place of the name.
          assert.equal(theirs[2]:match("%(.*"), ours[2]:match("%(.*"), label)
        else
          -- LuaSec returns false for false in place of nil.
          assert.equal(theirs[2] and true or false, ours[2] and true or false, label)
          -- In parentheses are the words of OpenSSL.
          assert.equal(theirs[3] and theirs[3]:match("^error [^(]*") or theirs[3],
            ours[3] and ours[3]:match("^error [^(]*") or ours[3], label)
        end
      end
    end
  end)
end)

describe("a context of luassl.luasec", function()
  setup(prepare)
  teardown(remove)
  before_each(stand_in)
  after_each(support.restore)

  it("is made in the daemon once, and again after a change", function()
    local ctx = assert(new())
    local first = context.handle(ctx)
    assert.equal(first, context.handle(ctx))
    local changes = {
      function() return context.setcipher(ctx, "HIGH") end,
      function() return context.setciphersuites(ctx, "TLS_AES_128_GCM_SHA256") end,
      function() return context.setcurve(ctx, "P-256") end,
      function() return context.setcurveslist(ctx, "P-256") end,
      function() return context.setverify(ctx, "peer") end,
      function() return context.setoptions(ctx, "all") end,
      function() return context.setdepth(ctx, 3) end,
      function() return context.setalpn(ctx, "\2h2") end,
      function() return context.setalpncb(ctx, print) end,
      function() return context.setpskhint(ctx, "hint") end,
      function() return context.setserverpskcb(ctx, print) end,
      function() return context.setclientpskcb(ctx, print) end,
      function() return context.setpskkeys(ctx, { a = "k" }) end,
      function() return context.setdane(ctx) end,
      function() return context.settrust(ctx, "system") end,
      function() return context.setresumption(ctx, true) end,
      function() return context.setocsp(ctx, true) end,
      function() return context.setkeylog(ctx, true) end,
      function() return ctx:setverifyext("crl_check") end,
      function() return context.locations(ctx, CERTIFICATE) end,
      function() return context.loadkey(ctx, KEY) end,
      function() return context.loadcert(ctx, CERTIFICATE) end,
    }
    for index, change in ipairs(changes) do
      local before = context.handle(ctx)
      assert.is_true(change(), index)
      assert.are_not.equal(before, context.handle(ctx), index)
    end
  end)

  it("is not changed by what is refused", function()
    local ctx = assert(new { verify = "peer", options = "all", ciphers = "HIGH" })
    local before = context.handle(ctx)
    daemon.refuse = function(asked) return asked.ciphers == "NONSENSE" and "none", support.MISUSE end
    assert.is_false((context.setcipher(ctx, "NONSENSE")))
    assert.is_false((context.setverify(ctx, "x")))
    assert.is_false((context.setoptions(ctx, "no_ticket", "x")))
    assert.is_false((ctx:setverifyext("x")))
    assert.is_false((context.setpskkeys(ctx, { 5 })))
    assert.is_false((context.locations(ctx)))
    assert.is_false((context.loadcert(ctx, KEY)))
    assert.is_true(context.setverify(ctx))
    assert.equal(before, context.handle(ctx))
    assert.same({ "VERIFY_PEER" }, before.options.verify)
  end)

  it("has another context in the daemon that stops at the ClientHello", function()
    local ctx = assert(new { mode = "server" })
    local plain, pausing = context.handle(ctx), context.handle(ctx, true)
    assert.is_nil(plain.options.client_hello)
    assert.is_true(pausing.options.client_hello)
    assert.equal(pausing, context.handle(ctx, true))
    assert.is_true(context.setdepth(ctx, 1))
    assert.are_not.equal(pausing, context.handle(ctx, true))
  end)

  it("frees contexts that are not used if the daemon has too many, and asks again", function()
    local ctx = assert(new())
    local freed = setmetatable({ {} }, { __mode = "v" })
    daemon.refuse = function()
      return freed[1] and "the limit of 16 contexts is reached", support.REFUSED, true
    end
    assert.is_table(context.handle(ctx))
    assert.equal(2, #daemon.requests)
    daemon.refuse = function() return "the limit of 16 contexts is reached", support.REFUSED, true end
    assert.same({ nil, "the limit of 16 contexts is reached" }, { context.handle(assert(new())) })
    assert.equal(4, #daemon.requests)
    daemon.refuse = function() return "no grant", support.REFUSED, false end
    assert.same({ nil, "no grant" }, { context.handle(assert(new())) })
    assert.equal(5, #daemon.requests, "nothing else is asked again")
  end)

  it("has a mode, or the answer of LuaSec for an invalid one", function()
    local ctx = assert(new { mode = "server" })
    assert.equal("server", context.mode(ctx))
    assert.equal("invalid mode (x)", context.setmode(ctx, "x"))
    assert.is_nil(context.mode(ctx))
    assert.is_true(context.setmode(ctx, "client"))
    assert.equal("client", context.mode(ctx))
  end)

  it("lists the faults of a verification with lsec_continue", function()
    assert.is_true(context.lists_faults(assert(new { verifyext = "lsec_continue" })))
    assert.is_false(context.lists_faults(assert(new { verifyext = "crl_check" })))
  end)

  it("throws wrong arguments at the caller", function()
    local ctx = assert(new())
    local wrong = {
      setmode = {}, loadkey = {}, loadcert = {}, setcipher = {}, setciphersuites = {}, setcurve = {},
      setcurveslist = {}, setverify = {}, setoptions = {}, setalpn = {}, setpskhint = {}, settrust = {}, locations = {},
    }
    for name, value in pairs(wrong) do
      local message = support.thrown(function() local _ = context[name](ctx, value) end)
      assert.matches("bad argument #2 to '" .. name .. "' (string expected, got table)", message, 1, true)
    end
    assert.matches("bad argument #3 to 'setverify' (string expected, got nil)",
      support.thrown(function() local _ = context.setverify(ctx, "peer", nil) end), 1, true)
    assert.matches("bad argument #2 to 'setverifyext' (string expected, got boolean)",
      support.thrown(function() local _ = ctx:setverifyext(true) end), 1, true)
    assert.matches("bad argument #2 to 'setdepth' (number expected, got nil)",
      support.thrown(function() local _ = context.setdepth(ctx) end), 1, true)
    assert.matches("bad argument #2 to 'setdane' (invalid option 'x')",
      support.thrown(function() local _ = context.setdane(ctx, "x") end), 1, true)
    assert.matches("invalid callback value",
      support.thrown(function() local _ = context.loadkey(ctx, KEY, 5) end), 1, true)
    assert.matches("bad argument #1 to 'create' (string expected, got nil)",
      support.thrown(function() local _ = context.create() end), 1, true)
  end)

  it("is required by each setter, which blames the caller", function()
    for name, setter in pairs(context) do
      if name:find("^set") or name:find("^load") or name == "checkkey" or name == "locations" then
        for _, value in ipairs { {}, 5, "x" } do
          local message = support.thrown(function() local _ = setter(value, "x") end)
          assert.matches(("(SSL:Context expected, got %s)"):format(type(value)), message, 1, true)
          assert.matches("bad argument #1 to 'ssl.context." .. name .. "'", message, 1, true)
        end
      end
    end
  end)

  it("gives the reason why there is no daemon", function()
    support.restore()
    local ctx = assert(new())
    local handle, reason = context.handle(ctx)
    assert.is_nil(handle)
    assert.matches("/nonexistent/luassl.sock", reason, 1, true)
    assert.matches("^error loading private key %(.*/nonexistent/luassl.sock", reason_of { key = "www" })
  end)

  compared("has setters that answer as LuaSec's", function()
    local theirs = require "ssl.context"
    daemon.refuse = function(asked) return asked.groups == "x" and "none", support.MISUSE end
    local calls = {
      { "setverify" }, { "setverify", "peer" }, { "setverify", 5 }, { "setverify", "peer", "x" }, { "setverify", {} },
      { "setoptions" }, { "setoptions", "all" }, { "setoptions", "x" }, { "setoptions", true }, { "setdepth", 3 },
      { "setdepth", "3" }, { "setdepth", -3 }, { "setdepth" }, { "setdepth", {} }, { "setmode", "client" },
      { "setmode", "x" }, { "setmode" }, { "setalpn", "" }, { "setalpn", "\2h2" }, { "setalpn", "\5ab" }, { "setalpn" },
      { "setcurve", "P-256" }, { "setcurve", "x" }, { "setcurve" }, { "setcurveslist", "x" }, { "setcipher" },
      { "setdhparam", 5 }, { "setdhparam", function() end }, { "setalpncb", function() end }, { "checkkey" },
      { "locations" }, { "locations", "/nonexistent" }, { "locations", CERTIFICATE }, { "locations", {} },
      { "loadcert", CERTIFICATE }, { "loadcert", KEY }, { "loadcert" }, { "loadkey" }, { "loadkey", KEY, 5 },
      { "loadkey", KEY, {} }, { "setdane", "x" }, { "setdane", {} }, { "create", "x" },
    }
    local their_ctx = assert(support.luasec().newcontext { mode = "client", protocol = "any" })
    local our_ctx = assert(new())
    for index, call in ipairs(calls) do
      local label = ("call %d, %s"):format(index, call[1])
      local wanted = support.outcome(theirs[call[1]], their_ctx, call[2], call[3])
      local got = support.outcome(context[call[1]], our_ctx, call[2], call[3])
      assert.equal(wanted[1], got[1], label)
      if wanted[1] == "returns" then
        assert.equal(wanted[2], got[2], label)
      end
    end
  end)
end)
