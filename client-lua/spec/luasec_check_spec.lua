local support = dofile "client-lua/spec/luasec_support.lua"
local check = require "luassl.luasec.check"

-- Calls a check as a method does, one function below the program, in a file of its own. The result is not that of a
-- tail call, which would change the level of what is thrown.
local checked = support.chunk([[
local check = ...
return function(name, ...)
  local value = check[name](...)
  return value
end]], check)

describe("checks of arguments", function()
  it("take numbers as texts", function()
    assert.equal("abc", checked("text", "abc", 1, "m"))
    assert.equal("5", checked("text", 5, 1, "m"))
    assert.equal("1.5", checked("text", 1.5, 1, "m"))
    assert.equal("", checked("text", "", 1, "m"))
  end)

  it("take numeric texts as numbers", function()
    assert.equal(5, checked("number", "5", 1, "m"))
    assert.equal(16, checked("number", "0x10", 1, "m"))
    assert.equal(-1.5, checked("number", -1.5, 1, "m"))
    assert.equal(0, checked("number", nil, 1, "m", 0))
  end)

  it("cut numbers to whole ones, towards zero", function()
    assert.equal(2, checked("whole", 2.9, 1, "m"))
    assert.equal(-2, checked("whole", -2.9, 1, "m"))
    assert.equal(3, checked("whole", "3.5", 1, "m"))
  end)

  it("use the default for nil alone", function()
    assert.equal(7, checked("whole", nil, 1, "m", 7))
    assert.equal(1, checked("whole", 1, 1, "m", 7))
    assert.matches("number expected, got boolean",
      support.thrown(function() local _ = checked("whole", false, 1, "m", 7) end))
    assert.matches("number expected, got boolean",
      support.thrown(function() local _ = checked("number", false, 1, "m", 7) end))
  end)

  it("convert only strings and numbers", function()
    for _, value in ipairs { {}, true, print, io.stdout } do
      assert.is_nil(check.as_text(value))
    end
    assert.is_nil(check.as_text(nil))
  end)

  it("throw the message of Lua at the caller of the method", function()
    local messages = {
      ["bad argument #2 to 'm' (string expected, got table)"] = { "text", {}, 2, "m" },
      ["bad argument #1 to 'm' (string expected, got no value)"] = { "text", nil, 1, "m" },
      ["bad argument #3 to 'm' (number expected, got string)"] = { "number", "x", 3, "m" },
      ["bad argument #4 to 'm' (number expected, got string)"] = { "whole", "", 4, "m" },
      ["bad argument #1 to 'm' (number expected, got no value)"] = { "whole", nil, 1, "m" },
    }
    for message, arguments in pairs(messages) do
      local name, value, position, method = arguments[1], arguments[2], arguments[3], arguments[4]
      local thrown = support.thrown(function() local _ = checked(name, value, position, method) end)
      assert.matches(message, thrown, 1, true)
    end
  end)

  it("find the state of an object", function()
    local object, state = {}, {}
    assert.equal(state, checked("object", object, { [object] = state }, 1, "m", "Thing"))
    local function thrown(value)
      return support.thrown(function() local _ = checked("object", value, { [object] = state }, 1, "m", "Thing") end)
    end
    assert.matches("Thing expected, got table", thrown {})
    assert.matches("Thing expected, got no value", thrown(nil))
    assert.matches("Thing expected, got number", thrown(0 / 0))
  end)

  it("find a certificate in a PEM text by its label", function()
    for _, label in ipairs { "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE" } do
      assert.is_true(check.has_certificate("text\n-----BEGIN " .. label .. "-----\nMIIB\n"), label)
    end
    for _, label in ipairs { "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "CERTIFICAT", "PUBLIC KEY" } do
      assert.is_false(check.has_certificate("-----BEGIN " .. label .. "-----\nMIIB\n"), label)
    end
    assert.is_false(check.has_certificate "")
    assert.is_false(check.has_certificate "-----END CERTIFICATE-----")
  end)
end)
