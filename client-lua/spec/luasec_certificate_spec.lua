local support = dofile "client-lua/spec/luasec_support.lua"
local core = require "luassl_core"
local certificate = require "luassl.luasec.certificate"
local compared = support.compared(it, pending)

local function unhex(text)
  return (text:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end))
end

-- What openssl says about a certificate, in the form of the core, which asks the daemon. The names are those of the
-- configuration in luasec_support.lua.
local function facts_of(path, given)
  local function field(option)
    return support.output(("openssl x509 -noout -in '%s' %s"):format(path, option)):match("=(.-)\n")
  end
  local function date(option)
    -- `date` prints the seconds, and openssl the text that LuaSec has.
    local text = field(option)
    return text, tonumber((support.output(("date -u -d '%s' +%%s"):format(text))))
  end
  local der = support.output(("openssl x509 -in '%s' -outform DER -out '%s.der'"):format(path, path)) and
    support.read(path .. ".der")
  local facts = {
    der = der,
    pem = support.output(("openssl x509 -in '%s'"):format(path)),
    serial = field "-serial",
    public_key = support.output(("openssl x509 -noout -pubkey -in '%s'"):format(path)),
    key_type = given.key_type, key_bits = given.key_bits, signature = given.signature,
    names = given.names or {},
  }
  facts.notbefore, facts.valid_from = date "-startdate"
  facts.notafter, facts.valid_to = date "-enddate"
  for _, digest in ipairs { "sha1", "sha256", "sha512" } do
    facts[digest] = unhex((field("-fingerprint -" .. digest):gsub(":", "")))
  end
  local function name(common_name)
    local organisation = given.organisation or "B\195\188cher"
    return {
      { oid = "2.5.4.6", name = "countryName", value = "DE", utf8 = "DE" },
      { oid = "2.5.4.10", name = "organizationName", value = organisation, utf8 = "B\195\188cher" },
      { oid = "2.5.4.3", name = "commonName", value = given.encoded and given.encoded(common_name) or common_name,
        utf8 = common_name },
    }
  end
  facts.subject, facts.issuer = name(given.name), name(given.issuer or given.name)
  return facts
end

-- UTF-16 of a text in ASCII.
local function wide(text)
  return (text:gsub(".", "\0%0"))
end

local function alternative(oid, name, value)
  return { oid = oid, name = name, value = value, utf8 = value }
end

local NAMES = {
  alternative("dNSName", "", "a.example"),
  alternative("dNSName", "", "*.b.example"),
  alternative("iPAddress", "", "127.0.0.1"),
  alternative("rfc822Name", "", "me@x.example"),
  alternative("uniformResourceIdentifier", "", "https://x/y"),
  alternative("1.3.6.1.5.5.7.8.5", "XmppAddr", "xmpp.example"),
}

local CERTIFICATES = {
  { name = "root", section = "authority", key_type = "RSA", key_bits = 2048, signature = "RSA-SHA256" },
  { name = "leaf.example", issuer = "root", curve = "P-256", key_type = "EC", key_bits = 256,
    signature = "RSA-SHA256", names = NAMES },
  { name = "wide", mask = "MASK:0x800", section = "authority", curve = "P-256", key_type = "EC", key_bits = 256,
    signature = "ecdsa-with-SHA256", organisation = "\0B\0\252\0c\0h\0e\0r", encoded = wide },
}

describe("a certificate", function()
  local directory
  -- By name: the path, the facts, and how often they were asked for.
  local known, asked = {}, {}

  setup(function()
    directory = support.directory()
    for _, given in ipairs(CERTIFICATES) do
      local _, path = support.certificate(directory, given)
      known[given.name] = { path = path, pem = support.read(path), facts = facts_of(path, given) }
    end
  end)

  teardown(function()
    support.remove_directory(directory)
  end)

  before_each(function()
    asked = {}
    support.replace(core.luasec, "certificate", function(data)
      for name, one in pairs(known) do
        if data == one.facts.der or data == one.pem then
          asked[name] = (asked[name] or 0) + 1
          return one.facts
        end
      end
      return nil, "not a certificate", -7
    end)
    -- openssl verifies in place of the daemon.
    support.replace(core.luasec, "check_issued", function(anchor, certified, between)
      local function pem(name, ders)
        local all = {}
        for index, der in ipairs(ders) do
          local file = support.write(("%s/%s%d.der"):format(directory, name, index), der)
          all[index] = support.output(("openssl x509 -inform DER -in '%s'"):format(file))
        end
        return support.write(directory .. "/" .. name .. ".pem", table.concat(all))
      end
      local untrusted = between[1] and ("-untrusted '%s'"):format(pem("between", between)) or ""
      local said = support.output(("{ openssl verify -CAfile '%s' %s '%s' 2>&1; true; }"):format(
        pem("anchor", { anchor }), untrusted, pem("certified", { certified })))
      return said:find(": OK") ~= nil, said:match("error %d+ at %d+ depth lookup: ([^\n]*)")
    end)
  end)
  after_each(support.restore)

  local function load(name)
    -- In parentheses: the assert of busted returns more values than one.
    return (assert(certificate.load(known[name].pem)))
  end

  it("is loaded from PEM, and asks the daemon once", function()
    local one = load "root"
    assert.equal(known.root.facts.serial, one:serial())
    assert.equal(known.root.pem, one:pem())
    assert.equal("2.5.4.6", one:subject()[1].oid)
    assert.same({ root = 1 }, asked)
  end)

  it("is made of DER without the daemon, which is asked once when something is read", function()
    local one = certificate.of(known.root.facts.der)
    assert.same({}, asked)
    assert.equal(known.root.facts.serial, one:serial())
    assert.equal(known.root.facts.notafter, one:notafter())
    assert.same({ root = 1 }, asked)
  end)

  it("is nil for texts without one, which do not reach the daemon", function()
    local reached = false
    support.replace(core.luasec, "certificate", function() reached = true return known.root.facts end)
    for _, text in ipairs { "", "garbage", "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n", 5 } do
      assert.is_nil((certificate.load(text)))
    end
    assert.is_nil((certificate.load(support.read(directory .. "/root.key"))))
    assert.is_false(reached)
  end)

  it("is nil if the daemon finds none in the text", function()
    assert.is_nil((certificate.load("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")))
  end)

  it("throws why nothing can be read, at the caller", function()
    support.restore()
    local one = certificate.of(known.root.facts.der)
    for _, method in ipairs { "pem", "serial", "subject", "extensions", "digest", "pubkey", "notbefore" } do
      local message = support.thrown(function() local _ = one[method](one) end)
      assert.matches("/nonexistent/luassl.sock", message, 1, true)
    end
  end)

  it("has subject and issuer as lists of texts with their types", function()
    local one = load "leaf.example"
    assert.same({
      { oid = "2.5.4.6", name = "countryName", value = "DE" },
      { oid = "2.5.4.10", name = "organizationName", value = "B\195\188cher" },
      { oid = "2.5.4.3", name = "commonName", value = "leaf.example" },
    }, one:subject())
    assert.same({ "B\195\188cher", "root" }, { one:issuer()[2].value, one:issuer()[3].value })
    assert.same(load("root"):subject(), one:issuer())
  end)

  it("has lists that are the program's own", function()
    local one = load "leaf.example"
    one:subject()[1].value = "changed"
    one:extensions()["2.5.29.17"].dNSName[1] = "changed"
    assert.equal("DE", one:subject()[1].value)
    assert.equal("a.example", one:extensions()["2.5.29.17"].dNSName[1])
  end)

  it("has texts unchanged or as UTF-8, each certificate for itself", function()
    local one, other = load "wide", load "wide"
    assert.equal("\0B\0\252\0c\0h\0e\0r", one:subject()[2].value)
    assert.is_true(one:setencode "utf8")
    assert.equal("B\195\188cher", one:subject()[2].value)
    assert.equal("\0B\0\252\0c\0h\0e\0r", other:subject()[2].value)
    assert.is_false(one:setencode "x")
    assert.equal("B\195\188cher", one:subject()[2].value)
    assert.is_true(one:setencode "ai5")
    assert.equal("\0B\0\252\0c\0h\0e\0r", one:subject()[2].value)
  end)

  it("has alternative names by type, and no extensions without them", function()
    local names = load("leaf.example"):extensions()["2.5.29.17"]
    assert.same({
      name = "X509v3 Subject Alternative Name",
      dNSName = { "a.example", "*.b.example" },
      iPAddress = { "127.0.0.1" },
      rfc822Name = { "me@x.example" },
      uniformResourceIdentifier = { "https://x/y" },
      ["1.3.6.1.5.5.7.8.5"] = { "xmpp.example", name = "XmppAddr" },
    }, names)
    assert.same({}, load("root"):extensions())
  end)

  it("has digests in hexadecimal, SHA-1 by default", function()
    local one = load "root"
    for _, algorithm in ipairs { "sha1", "sha256", "sha512" } do
      local said = support.output(("openssl dgst -%s -r '%s.der'"):format(algorithm, known.root.path))
      assert.equal(said:match("^%x+"), one:digest(algorithm))
    end
    assert.equal(one:digest "sha1", one:digest())
    for _, algorithm in ipairs { "SHA1", "md5", "", 5, "serial" } do
      local digest, reason = one:digest(algorithm)
      assert.is_nil(digest)
      assert.equal(("digest algorithm not supported (%s)"):format(algorithm), reason)
    end
  end)

  it("has its key with type and size", function()
    assert.same({ known.root.facts.public_key, "RSA", 2048 }, { load("root"):pubkey() })
    assert.same({ known["leaf.example"].facts.public_key, "EC", 256 }, { load("leaf.example"):pubkey() })
    assert.matches("^%-%-%-%-%-BEGIN PUBLIC KEY%-%-%-%-%-\n", (load("root"):pubkey()))
  end)

  it("is valid from its first second to its last", function()
    local one, facts = load "root", known.root.facts
    assert.is_false(one:validat(facts.valid_from - 1))
    assert.is_true(one:validat(facts.valid_from))
    assert.is_true(one:validat(tostring(facts.valid_to)))
    assert.is_true(one:validat(facts.valid_to + 0.5))
    assert.is_false(one:validat(facts.valid_to + 1))
  end)

  it("says whether it has issued others, or why not", function()
    local _, path = support.certificate(directory, { name = "other", section = "authority", curve = "P-256" })
    local other = certificate.of(facts_of(path, { name = "other" }).der)
    assert.is_true(load("root"):issued(load "root"))
    assert.is_true(load("root"):issued(load "leaf.example"))
    assert.is_nil((load("leaf.example"):issued(load "root")))
    local good, reason = load("root"):issued(other)
    assert.is_nil(good)
    assert.is_string(reason)
  end)

  it("passes the certificates between the issuer and the issued", function()
    local seen
    support.replace(core.luasec, "check_issued", function(...) seen = { ... } return true end)
    assert.is_true(certificate.of("a"):issued(certificate.of "b", certificate.of "c", certificate.of "d"))
    assert.same({ "a", "b", { "c", "d" } }, seen)
    support.replace(core.luasec, "check_issued", function() return nil, "no daemon", -4 end)
    assert.same({ nil, "no daemon" }, { certificate.of("a"):issued(certificate.of "b") })
  end)

  it("throws wrong arguments at the caller", function()
    local one = load "root"
    local function thrown(message, method, ...)
      local arguments = { ... }
      local text = support.thrown(function() local _ = one[method](one, arguments[1], arguments[2]) end)
      assert.matches(message, text, 1, true)
    end
    thrown("bad argument #1 to 'digest' (string expected, got table)", "digest", {})
    thrown("bad argument #1 to 'validat' (number expected, got no value)", "validat")
    thrown("bad argument #1 to 'validat' (number expected, got string)", "validat", "x")
    thrown("bad argument #1 to 'setencode' (string expected, got no value)", "setencode")
    thrown("bad argument #2 to 'issued' (SSL:Certificate expected, got table)", "issued", one, {})
    thrown("SSL:Certificate expected, got no value", "issued")
    assert.matches("bad argument #1 to 'load' %(string expected, got table%)",
      support.thrown(function() local _ = certificate.load {} end))
    for name, method in pairs(getmetatable(one).__index) do
      local message = support.thrown(function() local _ = method({}, 1) end)
      assert.matches("bad argument #1 to '" .. name .. "' (SSL:Certificate expected, got table)", message, 1, true)
    end
  end)

  compared("says what LuaSec's says", function()
    local x509 = require "ssl.x509"
    for name, one in pairs(known) do
      local theirs, ours = assert(x509.load(one.pem)), load(name)
      for method in ("pem serial notbefore notafter subject issuer digest extensions"):gmatch "%S+" do
        assert.same(theirs[method](theirs), ours[method](ours), name .. ":" .. method)
      end
      for _, algorithm in ipairs { "sha1", "sha256", "sha512", "SHA1", "x" } do
        assert.same({ theirs:digest(algorithm) }, { ours:digest(algorithm) })
      end
      assert.same({ theirs:pubkey() }, { ours:pubkey() })
      for _, time in ipairs { 0, one.facts.valid_from, one.facts.valid_from - 1, one.facts.valid_to + 1 } do
        assert.equal(theirs:validat(time), ours:validat(time))
      end
      for _, encoding in ipairs { "utf8", "x", "ai5", "utf8 and more" } do
        assert.equal(theirs:setencode(encoding), ours:setencode(encoding))
        assert.same(theirs:subject(), ours:subject(), name .. " in " .. encoding)
        assert.same(theirs:extensions(), ours:extensions(), name .. " in " .. encoding)
      end
    end
  end)

  compared("is refused where LuaSec refuses it", function()
    local x509 = require "ssl.x509"
    local pem = known.root.pem
    local texts = {
      "", "garbage", 5, pem, "before\n" .. pem, (pem:gsub("CERTIFICATE", "CERTIFICATE REQUEST")),
      support.read(directory .. "/root.key"),
    }
    support.replace(core.luasec, "certificate", function() return known.root.facts end)
    for index, text in ipairs(texts) do
      assert.equal(x509.load(text) ~= nil, certificate.load(text) ~= nil, "text " .. index)
    end
    assert.equal("throws", support.outcome(x509.load, {})[1])
  end)

  compared("has issued what LuaSec says that it has", function()
    local x509 = require "ssl.x509"
    for issued, issuer in pairs { root = "root", ["leaf.example"] = "root", wide = "leaf.example" } do
      local theirs = x509.load(known[issuer].pem):issued(x509.load(known[issued].pem))
      assert.equal(theirs, (load(issuer):issued(load(issued))), issuer .. " and " .. issued)
    end
  end)
end)
