local support = dofile "client-lua/spec/luasec_support.lua"
local alpn = require "luassl.luasec.alpn"
local core = require "luassl_core"
local ssl = require "luassl.luasec"
local context = require "luassl.luasec.context"
local compared = support.compared(it, pending)

describe("the wire format of ALPN", function()
  it("has each name after its length", function()
    assert.equal("\2h2\8http/1.1", alpn.wire { "h2", "http/1.1" })
    assert.equal("\255" .. ("x"):rep(255), alpn.wire { ("x"):rep(255) })
    assert.equal("\3a\0b", alpn.wire { "a\0b" })
  end)

  it("refuses empty and long names and the empty list with the reason", function()
    assert.same({ nil, "invalid ALPN name (empty string)" }, { alpn.wire { "h2", "" } })
    assert.same({ nil, "invalid ALPN name (length > 255)" }, { alpn.wire { ("x"):rep(256) } })
    assert.same({ nil, "invalid ALPN list (empty)" }, { alpn.wire {} })
  end)

  it("refuses what is not a string", function()
    assert.is_nil((alpn.wire { 5 }))
    assert.is_nil((alpn.wire { "h2", {} }))
    assert.is_nil((alpn.wire { true }))
  end)

  it("is parsed into the same list", function()
    for _, list in ipairs { { "h2" }, { "h2", "http/1.1", "a\0b" }, { ("x"):rep(255), "y" } } do
      assert.same(list, alpn.list(alpn.wire(list)))
    end
    assert.same({}, alpn.list "")
  end)

  it("is parsed where it is cut off", function()
    assert.same({ "ab" }, alpn.list "\5ab")
    assert.same({ "ab", "" }, alpn.list "\2ab\9")
    assert.same({ "", "a" }, alpn.list "\0\1a")
  end)
end)

describe("the choice of a protocol", function()
  it("is the first of ours that the peer offers", function()
    assert.equal("h2", alpn.choose({ "h2", "http/1.1" }, { "http/1.1", "h2" }))
    assert.equal("http/1.1", alpn.choose({ "h2", "http/1.1" }, { "spdy", "http/1.1" }))
  end)

  it("is none without a common one", function()
    assert.is_nil(alpn.choose({ "h2" }, { "H2", "h" }))
    assert.is_nil(alpn.choose({}, { "h2" }))
    assert.is_nil(alpn.choose({ "h2" }, {}))
  end)
end)

describe("the protocols of a context", function()
  before_each(function() support.daemon(core) end)
  after_each(support.restore)

  local function chosen(protocols, theirs)
    local ctx = assert(ssl.newcontext { mode = "server", protocol = "any", alpn = protocols })
    return context.protocol(ctx, theirs), context.decides(ctx)
  end

  it("are chosen from a list in the order of the server", function()
    assert.same({ "h2", false }, { chosen({ "h2", "http/1.1" }, { "http/1.1", "h2" }) })
    assert.is_nil((chosen({ "h2" }, { "http/1.1" })))
  end)

  it("are chosen by a function, which gets the list of the peer", function()
    local seen
    local name, decides = chosen(function(theirs) seen = theirs return "http/1.1" end, { "h2", "http/1.1" })
    assert.same({ "h2", "http/1.1" }, seen)
    assert.same({ "http/1.1", true }, { name, decides })
    assert.equal("h2", (chosen(function() return { "spdy", "h2" } end, { "h2", "http/1.1" })))
  end)

  it("are none if the function returns none, or one that the peer does not offer", function()
    for _, result in ipairs { "spdy", 5, true, "", {}, { 5 } } do
      assert.is_nil((chosen(function() return result end, { "h2" })), tostring(result))
    end
    assert.is_nil((chosen(function() end, { "h2" })))
  end)

  it("are not asked for if the peer offers none", function()
    assert.is_falsy((chosen(function() error("called") end, {})))
  end)

  it("are set and replaced in wire format", function()
    local ctx = assert(ssl.newcontext { mode = "client", protocol = "any", alpn = "h2" })
    assert.same({ "h2" }, context.handle(ctx).options.alpn)
    assert.is_true(context.setalpn(ctx, "\1a\2bc"))
    assert.same({ "a", "bc" }, context.handle(ctx).options.alpn)
    assert.is_true(context.setalpn(ctx, ""))
    assert.same({}, context.handle(ctx).options.alpn)
  end)

  it("are refused in a broken wire format and stay as they were", function()
    local ctx = assert(ssl.newcontext { mode = "client", protocol = "any", alpn = "h2" })
    for _, wire in ipairs { "\5ab", "\0", "\2ab\0", "ab" } do
      local good, reason = context.setalpn(ctx, wire)
      assert.is_false(good)
      assert.matches("^error setting ALPN %(", reason)
    end
    assert.same({ "h2" }, context.handle(ctx).options.alpn)
  end)

  compared("are accepted and refused as by LuaSec", function()
    local luasec = support.luasec()
    local values = {
      "h2", "", ("x"):rep(255), ("x"):rep(256), 5, true, {}, { "h2" }, { "h2", "" }, { 5 }, { "h2", 5 }, { {} },
      { ("x"):rep(256) }, { a = "h2" }, function() end,
    }
    for _, mode in ipairs { "client", "server" } do
      for index, value in ipairs(values) do
        local made, reason = luasec.newcontext { mode = mode, protocol = "any", alpn = value }
        local ours, our_reason = ssl.newcontext { mode = mode, protocol = "any", alpn = value }
        assert.same({ made ~= nil, reason }, { ours ~= nil, our_reason }, ("%s, value %d"):format(mode, index))
      end
    end
  end)

  compared("are accepted and refused in wire format as by LuaSec", function()
    local theirs = assert(support.luasec().newcontext { mode = "client", protocol = "any" })
    local ours = assert(ssl.newcontext { mode = "client", protocol = "any" })
    for _, wire in ipairs { "", "\0", "\2h2", "\2h2\0", "\5ab", "\1a\1b", 5 } do
      assert.equal((require("ssl.context").setalpn(theirs, wire)), (context.setalpn(ours, wire)), wire)
    end
  end)
end)
