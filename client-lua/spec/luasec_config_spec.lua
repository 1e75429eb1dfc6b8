local support = dofile "client-lua/spec/luasec_support.lua"
local core = require "luassl_core"
local compared = support.compared(it, pending)

describe("the supported settings", function()
  local config

  before_each(function()
    package.loaded["luassl.luasec.config"] = nil
    config = require "luassl.luasec.config"
  end)
  after_each(support.restore)

  it("have the protocols and capabilities of luassl", function()
    assert.same({ tlsv1_2 = true, tlsv1_3 = true }, config.protocols)
    assert.same({ ec = true }, config.algorithms)
    for _, name in ipairs { "alpn", "curves_list", "ecdh_auto", "psk" } do
      assert.is_true(config.capabilities[name], name)
    end
    assert.same({ no_ee_namechecks = true }, config.capabilities.dane)
    assert.is_nil(config.nothing)
  end)

  it("have each option of the core under LuaSec's name", function()
    local count = 0
    for name in pairs(core.constants) do
      if name:find("^OP_") then
        count = count + 1
        assert.is_true(config.options[name:sub(4):lower()], name)
      end
    end
    assert.is_true(count > 20)
    for name, value in pairs(config.options) do
      count = count - 1
      assert.is_true(value)
      assert.equal(name:lower(), name)
    end
    assert.equal(0, count)
    assert.is_nil(config.options.verify_peer)
  end)

  it("have some curves while there is no daemon, and ask again", function()
    for _, name in ipairs { "prime256v1", "P-256", "secp384r1", "X25519", "X448" } do
      assert.is_true(config.curves[name], name)
    end
    assert.is_nil(config.curves.brainpoolP256r1)
    assert.is_nil(rawget(config, "curves"))
  end)

  it("have the curves of the daemon, which is asked once", function()
    local asked = 0
    support.replace(core.luasec, "describe", function()
      asked = asked + 1
      return { "P-256", "brainpoolP256r1" }
    end)
    assert.equal(0, asked)
    assert.same({ ["P-256"] = true, brainpoolP256r1 = true }, config.curves)
    assert.same({ ["P-256"] = true, brainpoolP256r1 = true }, config.curves)
    assert.equal(1, asked)
    assert.is_nil(config.other)
    assert.equal(1, asked)
  end)

  compared("have each option, algorithm and capability of LuaSec", function()
    local theirs = support.luasec().config
    for _, part in ipairs { "options", "algorithms", "capabilities" } do
      for name, value in pairs(theirs[part]) do
        assert.is_not_nil(config[part][name], part .. "." .. name)
        assert.equal(type(value), type(config[part][name]), part .. "." .. name)
      end
    end
  end)

  compared("have no protocol that LuaSec does not have", function()
    for name in pairs(config.protocols) do
      assert.is_true(support.luasec().config.protocols[name], name)
    end
  end)

  compared("have no curve without a daemon that LuaSec does not have", function()
    for name in pairs(config.curves) do
      assert.is_true(support.luasec().config.curves[name], name)
    end
  end)
end)
