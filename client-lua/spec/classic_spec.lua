describe("luassl.classic", function()
  local luassl, classic

  setup(function()
    luassl = require "luassl"
    classic = require "luassl.classic"
  end)

  it("is the global ssl", function()
    assert.equal(classic, rawget(_G, "ssl"))
  end)

  it("has luassl's constants", function()
    assert.equal(luassl.OP_ALL, ssl.OP_ALL)
    assert.equal(luassl.VERIFY_PEER + luassl.FAIL_IF_NO_PEER_CERT, ssl.VERIFY_PEER + ssl.FAIL_IF_NO_PEER_CERT)
  end)

  it("throws the failures of wrap, bind, accept and connect as strings that blame the caller", function()
    local object = ssl.create()
    for name, call in pairs {
      wrap = function() ssl.wrap("server") end,
      method = function() object:wrap("server") end,
      bind = function() object:bind(0) end,
      accept = function() object:accept() end,
      connect = function() object:connect("localhost", 1) end,
    } do
      local ok, message = pcall(call)
      assert.is_false(ok, name)
      assert.is_string(message, name)
      assert.matches("classic_spec%.lua:%d+:", message, nil, nil, name)
    end
  end)

  it("returns the failures of read and write", function()
    local object = ssl.create()
    local data, code = object:read()
    assert.is_nil(data)
    assert.is_true(code < 0)
    assert.is_true(object:write("text") < 0)
  end)

  it("returns nothing where LuaSSL returned nothing", function()
    local object = ssl.create()
    for _, name in ipairs { "shutdown", "clear", "renegotiate", "free" } do
      assert.equal(0, select("#", object[name](object)), name)
    end
  end)
end)
