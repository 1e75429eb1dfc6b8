local ssl = require "luassl"

local DAEMON, MISUSE = -4, -7

-- Every method, with arguments that are good.
local methods = {
  accept = {}, bind = { 0 }, clear = {}, close = {}, connect = { "localhost", 1 }, export = { "label", 1 },
  free = {}, getfd = {}, getpeername = {}, getport = {}, getsockname = {}, info = {}, new = {}, peercertificate = {},
  pending = {}, read = {}, renegotiate = {}, settimeout = { 1 }, setoption = { "keepalive", true }, shutdown = {},
  wrap = { "server" }, write = { "data" }, attach = { 0, { role = "server" } },
}

-- Those that succeed at any time.
local harmless = { clear = true, close = true, free = true, settimeout = true, shutdown = true }

local unpack = table.unpack or unpack

describe("luassl without a daemon", function()
  it("loads and says what it is", function()
    assert.matches("^luassl %d+%.%d+%.%d+$", ssl._VERSION)
  end)

  it("sets no global", function()
    assert.is_nil(rawget(_G, "luassl"))
  end)

  it("names the socket path and the remedy", function()
    local object, message, code = ssl.wrap("server")
    assert.is_nil(object)
    assert.matches("/nonexistent/luassl.sock", message, 1, true)
    assert.matches("LUASSL_SOCKET", message, 1, true)
    assert.equal(DAEMON, code)
  end)
end)

describe("constants", function()
  it("are those of LuaSSL 1.0", function()
    local names = [[OP_MICROSOFT_SESS_ID_BUG OP_NETSCAPE_CHALLENGE_BUG OP_NETSCAPE_REUSE_CIPHER_CHANGE_BUG
      OP_SSLREF2_REUSE_CERT_TYPE_BUG OP_MICROSOFT_BIG_SSLV3_BUFFER OP_MSIE_SSLV2_RSA_PADDING
      OP_SSLEAY_080_CLIENT_DH_BUG OP_TLS_D5_BUG OP_TLS_BLOCK_PADDING_BUG OP_DONT_INSERT_EMPTY_FRAGMENTS OP_ALL
      OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION OP_SINGLE_DH_USE OP_EPHEMERAL_RSA OP_CIPHER_SERVER_PREFERENCE
      OP_TLS_ROLLBACK_BUG OP_NO_SSLv2 OP_NO_SSLv3 OP_NO_TLSv1 OP_PKCS1_CHECK_1 OP_PKCS1_CHECK_2
      OP_NETSCAPE_CA_DN_BUG OP_NETSCAPE_DEMO_CIPHER_CHANGE_BUG VERIFY_NONE VERIFY_PEER
      VERIFY_FAIL_IF_NO_PEER_CERT VERIFY_CLIENT_ONCE FAIL_IF_NO_PEER_CERT]]
    for name in names:gmatch("%S+") do
      assert.is_number(ssl[name], name)
    end
  end)

  it("make sums that stay whole", function()
    local sum = ssl.OP_ALL + ssl.OP_NO_TLSv1_3 + ssl.OP_SINGLE_DH_USE
    assert.equal(0, sum % 1)
    assert.equal(ssl.OP_ALL, sum - ssl.OP_NO_TLSv1_3 - ssl.OP_SINGLE_DH_USE)
  end)
end)

describe("options of wrap", function()
  local function refused(options, pattern)
    local object, message, code = ssl.wrap(options)
    assert.is_nil(object)
    assert.matches(pattern, message)
    assert.equal(MISUSE, code)
  end

  it("are thrown where there is none of that name", function()
    assert.error_matches(function() ssl.wrap { keys = "server" } end, "wrap has no option 'keys'")
    assert.error_matches(function() ssl.wrap { "server" } end, "wrap takes named options")
  end)

  it("are thrown where the type is wrong", function()
    assert.error_matches(function() ssl.wrap { key = 1 } end, "'key' of wrap: string expected")
    assert.error_matches(function() ssl.wrap { alpn = 1 } end, "'alpn' of wrap: string or table of strings expected")
    assert.error_matches(function() ssl.wrap { sni_strict = 1 } end, "'sni_strict' of wrap: boolean expected")
    assert.error_matches(function() ssl.wrap { sni = "a" } end, "'sni' of wrap: table of names and identities")
    assert.error_matches(function() ssl.wrap { options = true } end, "'options' of wrap: sum of constants")
    assert.error_matches(function() ssl.wrap(1) end, "'key' of wrap: string expected")
  end)

  it("refuse sums that cannot be and names that are not", function()
    refused({ options = ssl.OP_ALL - 3 }, "cannot be subtracted")
    refused({ options = 0.5 }, "not a sum of constants")
    refused({ verify = -1 }, "not a sum of constants")
    refused({ options = { "OP_NO_TLSv4" } }, "OP_NO_TLSv1")
    refused({ verify = "nobody" }, "VERIFY_")
  end)

  it("refuse values by name", function()
    refused({ minimum_protocol = "SSLv3" }, "unknown version 'SSLv3'")
    refused({ depth = -1 }, "whole number from 0 to 100")
  end)

  it("name the file that cannot be read", function()
    refused({ certificate = "/nonexistent/ca.pem" }, "cannot read /nonexistent/ca.pem")
    refused({ cafile = "/nonexistent/ca.pem" }, "cannot read /nonexistent/ca.pem")
    refused({ certdir = "/nonexistent" }, "option 'certdir': cannot read /nonexistent")
    refused({ cafile = "/nonexistent" }, "option 'cafile': cannot read /nonexistent")
  end)

  it("refuse files without what they are for, by option and file", function()
    local file = "client-lua/spec/runner.lua"
    local labels = { cafile = "CERTIFICATE", chain = "CERTIFICATE", crl = "X509 CRL", dhfile = "DH PARAMETERS" }
    for option, label in pairs(labels) do
      local named = "option '" .. option .. "': " .. file:gsub("%p", "%%%0")
      refused({ [option] = file }, named .. " has no PEM block .*BEGIN " .. label)
    end
    refused({ cafile = "-----BEGIN PUBLIC KEY-----" }, "option 'cafile': the given text has no PEM block")
    local large = os.tmpname()
    local handle = assert(io.open(large, "w"))
    handle:write(("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"):rep(50000))
    handle:close()
    refused({ cafile = large }, "option 'cafile': " .. large:gsub("%p", "%%%0") .. " is above the limit of %d+ bytes")
    os.remove(large)
  end)

  it("refuse a missing file of parameters", function()
    local _, message = ssl.wrap("server", nil, nil, "/nonexistent/dh.pem")
    assert.matches("cannot read /nonexistent/dh.pem", message, 1, true)
  end)

  it("come by position too", function()
    assert.error_matches(function() ssl.wrap(nil, nil, nil, nil, 1) end, "'ciphers' of wrap")
    local object, message = ssl.wrap(nil, nil, nil, nil, nil, 1.5)
    assert.is_nil(object)
    assert.matches("'verify'", message)
  end)
end)

describe("an object", function()
  it("has every method", function()
    local object = ssl.create()
    for name in pairs(methods) do
      assert.is_function(object[name], name)
    end
  end)

  it("without a context answers every method with a message and a code", function()
    for name, arguments in pairs(methods) do
      local object = ssl.create()
      local results = { object[name](object, unpack(arguments)) }
      if name == "wrap" then
        assert.same({ nil, results[2], DAEMON }, results)
      elseif name == "write" then
        assert.equal(MISUSE, results[1])
        assert.is_string(results[2])
      elseif name == "read" then
        assert.same({ nil, MISUSE, results[3] }, results)
        assert.is_string(results[3])
      elseif harmless[name] then
        assert.same({ true }, results, name)
      else
        assert.is_nil(results[1], name)
        assert.is_string(results[2], name)
        assert.equal(MISUSE, results[3], name)
      end
    end
  end)

  it("that was freed answers every method with a message and a code", function()
    for name, arguments in pairs(methods) do
      local object = ssl.create()
      object:free()
      local results = { object[name](object, unpack(arguments)) }
      if harmless[name] then
        assert.same({ true }, results, name)
      elseif name == "write" then
        assert.same({ MISUSE, "the object is freed", 0 }, results)
      elseif name == "read" then
        assert.same({ nil, MISUSE, "the object is freed" }, results)
      else
        assert.same({ nil, "the object is freed", MISUSE }, results, name)
      end
    end
  end)

  it("remembers why it has no connection", function()
    local object = ssl.create()
    local _, message, code = object:connect("localhost", 1)
    assert.same({ nil, code, message }, { object:read() })
    assert.same({ code, message, 0 }, { object:write("never sent") })
  end)

  it("can be closed and freed any number of times", function()
    local object = ssl.create()
    for _ = 1, 3 do
      assert.is_true(object:shutdown())
      assert.is_true(object:close())
      assert.is_true(object:clear())
      assert.is_true(object:free())
    end
  end)

  it("says what it is", function()
    local object = ssl.create()
    assert.equal("luassl object", tostring(object))
    object:free()
    assert.equal("luassl freed", tostring(object))
  end)
end)

describe("misuse", function()
  -- The message blames this file, and no file of the module.
  local function thrown(call, pattern)
    local ok, message = pcall(call)
    assert.is_false(ok)
    assert.is_string(message)
    assert.matches(pattern, message)
    assert.matches("luassl_spec%.lua:%d+:", message)
  end

  it("is thrown as a string that blames the caller", function()
    local object = ssl.create()
    thrown(function() object:read(0) end, "bad argument #1 to 'read' %(whole number above 0 expected, got 0%)")
    thrown(function() object:read(1.5) end, "'read'")
    thrown(function() object:write() end, "bad argument #1 to 'write' %(string expected, got nil%)")
    thrown(function() object:bind("https") end, "bad argument #1 to 'bind' %(port from 0 to 65535")
    thrown(function() object:bind(65536) end, "got 65536")
    thrown(function() object:bind({ listener = 1 }) end, "listener's name")
    thrown(function() object:bind(1, 2) end, "bad argument #2 to 'bind'")
    thrown(function() object:connect(1, 2) end, "bad argument #1 to 'connect'")
    thrown(function() object:connect("localhost") end, "bad argument #2 to 'connect'")
    thrown(function() object:connect("localhost", 1, true) end, "name or false expected, got boolean")
    thrown(function() object:accept(1) end, "bad argument #1 to 'accept'")
    thrown(function() object:settimeout("1") end, "bad argument #1 to 'settimeout'")
    thrown(function() object:export("label", 2000) end, "whole number from 1 to 1024")
    thrown(function() object:setoption("keepalive", 1) end, "bad argument #2 to 'setoption'")
    thrown(function() object:attach(1) end, "role = 'client' or 'server'")
    thrown(function() object:attach(1, { role = "client" }) end, "host = NAME")
    thrown(function() object:attach({}, { role = "server" }) end, "LuaSocket object or descriptor")
    for _, number in ipairs { 1e300, -1e300, 2 ^ 31, 0.5, 1 / 0, 0 / 0 } do
      thrown(function() object:attach(number, { role = "server" }) end,
        "bad argument #1 to 'attach' %(LuaSocket object or descriptor expected, got ")
    end
    thrown(function() object:settimeout(0 / 0) end, "bad argument #1 to 'settimeout'")
    thrown(function() ssl.wrap({ sni = { "a", "b" } }) end, "keys must be server names")
    thrown(function() ssl.wrap({ sni = { ["www.example.org"] = 1 } }) end, "table of names and identities")
    thrown(function() ssl.wrap({ bad = 1 }) end, "wrap has no option 'bad'")
  end)

  it("is thrown for a method without its object", function()
    local object = ssl.create()
    for name in pairs(methods) do
      thrown(function() object[name]() end, "calling '" .. (name == "close" and "shutdown" or name) .. "'")
      thrown(function() object[name]({}) end, "on a bad self")
    end
  end)
end)
