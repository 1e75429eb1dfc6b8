local support = dofile "client-lua/spec/luasec_support.lua"
local core = require "luassl_core"
local userdata = require "luassl.luasec.userdata"
local certificate = require "luassl.luasec.certificate"
local connection = require "luassl.luasec.connection"
local ssl = require "luassl.luasec"
local compared = support.compared(it, pending)

describe("the objects of luassl.luasec", function()
  local objects

  before_each(function()
    support.daemon(core)
    local ctx = assert(ssl.newcontext { mode = "client", protocol = "any" })
    objects = {
      ["SSL context"] = ctx,
      ["SSL connection"] = assert(connection.create(ctx)),
      ["X509 certificate"] = certificate.of "der",
    }
  end)
  after_each(support.restore)

  it("are userdata that say what they are, each with its own address", function()
    for name, object in pairs(objects) do
      assert.equal("userdata", type(object), name)
      assert.matches("^" .. name .. ": 0x%x+$", tostring(object))
    end
    assert.are_not.equal(tostring(certificate.of "a"), tostring(objects["X509 certificate"]))
    assert.equal(tostring(objects["SSL context"]), tostring(objects["SSL context"]))
  end)

  it("have a metatable that can be read, with a plain table of methods", function()
    local methods = {
      ["SSL context"] = "setverifyext", ["SSL connection"] = "dohandshake", ["X509 certificate"] = "pem",
    }
    for name, method in pairs(methods) do
      local metatable = getmetatable(objects[name])
      assert.equal("table", type(metatable.__index), name)
      assert.equal(objects[name][method], metatable.__index[method], name)
      assert.is_function(metatable.__index[method], name)
      assert.equal(tostring(objects[name]), metatable.__tostring(objects[name]))
      assert.is_function(metatable.__close)
      assert.is_nil(objects[name].nosuchmethod)
    end
  end)

  it("do not show their finaliser, and cannot be changed through the copy of the metatable", function()
    for name, object in pairs(objects) do
      local copy = getmetatable(object)
      assert.is_nil(copy.__gc, name)
      assert.are_not.equal(copy, debug.getmetatable(object), name)
      local before = tostring(object)
      local old = copy.__tostring
      copy.__tostring = function() return "changed" end
      assert.equal(before, tostring(object), name)
      copy.__tostring = old
      assert.is_false(pcall(setmetatable, object, {}))
    end
  end)

  it("take new methods, like LuaSec's", function()
    local conn = objects["SSL connection"]
    getmetatable(conn).__index.nameofspec = function(self) return self end
    assert.equal(conn, conn:nameofspec())
    getmetatable(conn).__index.nameofspec = nil
    connection.setmethod("nameofspec", function() return "set" end)
    assert.equal("set", conn:nameofspec())
    connection.setmethod("nameofspec", nil)
    assert.is_nil(conn.nameofspec)
  end)

  it("are not registered under LuaSec's names, which cqueues takes for pointers", function()
    local registry = debug.getregistry()
    for _, name in ipairs { "SSL:Context", "SSL:Connection", "SSL:Certificate" } do
      for _, object in pairs(objects) do
        assert.are_not.equal(registry[name] or false, debug.getmetatable(object))
      end
    end
  end)

  it("are refused where another kind of object is expected", function()
    local context = require "luassl.luasec.context"
    local ctx, conn, cert = objects["SSL context"], objects["SSL connection"], objects["X509 certificate"]
    assert.matches("SSL:Context expected, got userdata", support.thrown(function() context.setmode(conn, "client") end))
    assert.matches("SSL:Connection expected, got userdata", support.thrown(function() conn.getfd(ctx) end))
    assert.matches("SSL:Certificate expected, got userdata", support.thrown(function() cert.pem(conn) end))
    assert.is_false(context.is(conn))
    assert.is_true(context.is(ctx))
  end)

  it("need the debug library", function()
    local real = debug
    support.replace(_G, "debug", nil)
    local good, message = pcall(userdata.install_metatable, objects["SSL context"], {}, tostring, print)
    support.restore()
    assert.equal(real, debug)
    assert.is_false(good)
    assert.equal("luassl.luasec requires the debug library to set the metatables of its objects", message)
  end)

  compared("have the metamethods of LuaSec's objects", function()
    local theirs = assert(support.luasec().newcontext { mode = "client", protocol = "any" })
    local names = { ["SSL context"] = theirs, ["SSL connection"] = support.luasec_connection() }
    for name, object in pairs(names) do
      for _, field in ipairs { "__index", "__tostring", "__close" } do
        assert.equal(type(getmetatable(object)[field]), type(getmetatable(objects[name])[field]), name .. field)
      end
      assert.equal((tostring(object):gsub("0x%x+", "")), (tostring(objects[name]):gsub("0x%x+", "")))
    end
  end)

  compared("have each method of LuaSec's objects", function()
    local theirs = assert(support.luasec().newcontext { mode = "client", protocol = "any" })
    for name, object in pairs { ["SSL context"] = theirs, ["SSL connection"] = support.luasec_connection() } do
      for method in pairs(getmetatable(object).__index) do
        assert.is_function(objects[name][method], name .. "." .. method)
      end
    end
  end)

  compared("have each function of LuaSec's modules", function()
    local modules = { core = "connection", context = "context", x509 = "certificate" }
    for theirs, ours in pairs(modules) do
      for name in pairs(require("ssl." .. theirs)) do
        assert.is_not_nil(require("luassl.luasec." .. ours)[name], theirs .. "." .. name)
      end
    end
    for name in pairs(support.luasec()) do
      assert.is_not_nil(ssl[name], name)
    end
  end)
end)

describe("objects of luaossl", function()
  after_each(support.restore)

  it("are known by the registered name of their metatable", function()
    local object = io.tmpfile()
    assert.is_false(userdata.is_of_luaossl(object))
    for _, name in ipairs { "SSL_CTX*", "SSL*" } do
      support.replace(debug.getregistry(), name, debug.getmetatable(object))
      assert.is_true(userdata.is_of_luaossl(object))
      assert.same({ nil, "contexts of luaossl are not supported: use ssl.newcontext" }, { connection.create(object) })
      support.restore()
    end
    object:close()
  end)

  it("are not other values", function()
    for _, value in ipairs { 5, "SSL*", {}, print, true } do
      assert.is_false(userdata.is_of_luaossl(value))
    end
    assert.is_false(userdata.is_of_luaossl(nil))
  end)
end)

describe("bad_argument", function()
  it("throws the message of Lua at the caller of the method", function()
    local method = support.chunk([[
local userdata = ...
return function()
  userdata.bad_argument(2, "method", "wrong")
end]], userdata)
    assert.matches("bad argument #2 to 'method' %(wrong%)$", support.thrown(function() local _ = method() end))
  end)
end)
