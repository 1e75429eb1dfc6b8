local support = dofile "client-lua/spec/luasec_support.lua"
local core = require "luassl_core"
local http = require "socket.http"
local socket = require "socket"
local https = require "luassl.luasec.https"
local ssl = require "luassl.luasec"
local compared = support.compared(it, pending)

local raw = core.tls_socket

--- Records the requests that LuaSocket's http gets, and answers each.
local function requests(...)
  local list, answer, unpack = {}, { ... }, table.unpack or unpack
  support.replace(http, "request", function(request)
    table.insert(list, request)
    return unpack(answer, 1, 4)
  end)
  return list
end

--- What a source of ltn12 yields.
local function drained(source)
  local parts = {}
  for part in source do
    table.insert(parts, part)
  end
  return table.concat(parts)
end

--- What can be compared of a request.
local function plain(request)
  local shown = {}
  for name, value in pairs(request) do
    if name == "source" then
      shown[name] = drained(value)
    else
      shown[name] = type(value) == "function" and "function" or value
    end
  end
  shown.sink = request.sink and "sink" or nil
  return shown
end

describe("luassl.luasec.https", function()
  after_each(support.restore)

  it("has the settings of LuaSec's", function()
    assert.same({ 443, 60 }, { https.PORT, https.TIMEOUT })
    assert.equal(ssl._VERSION, https._VERSION)
    assert.equal(ssl._COPYRIGHT, https._COPYRIGHT)
  end)

  it("asks with GET, or with POST for a body", function()
    local list = requests(1, 200, {}, "HTTP/1.1 200 OK")
    https.request("https://a.example/x?y=1#z")
    https.request("https://a.example:8443/", "a=1")
    assert.equal("GET", list[1].method)
    assert.equal("https://a.example:443/x?y=1#z", list[1].url)
    assert.is_nil(list[1].source)
    assert.is_nil(list[1].headers)
    assert.equal("POST", list[2].method)
    assert.equal("https://a.example:8443/", list[2].url)
    assert.equal("a=1", drained(list[2].source))
    assert.same({ ["content-length"] = 3, ["content-type"] = "application/x-www-form-urlencoded" }, list[2].headers)
  end)

  it("returns the body for a bare address", function()
    support.replace(http, "request", function(request)
      request.sink("one ")
      request.sink("two")
      request.sink(nil)
      return 1, 200, { server = "x" }, "HTTP/1.1 200 OK"
    end)
    assert.same({ "one two", 200, { server = "x" }, "HTTP/1.1 200 OK" }, { https.request "https://a.example/" })
  end)

  it("returns what http returns for a table", function()
    requests(1, 404, {}, "HTTP/1.1 404 Not Found")
    assert.same({ 1, 404, {}, "HTTP/1.1 404 Not Found" }, { https.request { url = "https://a.example/" } })
  end)

  it("returns nil and the failure", function()
    requests(nil, "connection refused")
    assert.same({ nil, "connection refused" }, { https.request "https://a.example/" })
    assert.same({ nil, "connection refused" }, { https.request { url = "https://a.example/" } })
  end)

  it("adds the port and LuaSec's defaults to a table, and keeps what is set", function()
    local list = requests(1)
    https.request { url = "https://a.example/" }
    assert.same({
      url = "https://a.example:443/", mode = "client", protocol = "any", verify = "none", create = "function",
      options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1" },
    }, plain(list[1]))
    https.request { url = "https://a.example/", verify = "peer", protocol = "tlsv1_3", options = "all",
      mode = "server", cafile = "ca.pem", method = "PUT" }
    assert.same({
      url = "https://a.example:443/", mode = "client", protocol = "tlsv1_3", verify = "peer", create = "function",
      options = "all", cafile = "ca.pem", method = "PUT",
    }, plain(list[2]))
  end)

  it("refuses proxies, redirects of tables and functions for sockets", function()
    local list = requests(1)
    local url = "https://a.example/"
    assert.same({ nil, "proxy not supported" }, { https.request { url = url, proxy = "http://proxy/" } })
    assert.same({ nil, "redirect not supported" }, { https.request { url = url, redirect = true } })
    assert.same({ nil, "create function not permitted" }, { https.request { url = url, create = print } })
    support.replace(http, "PROXY", "http://proxy/")
    assert.same({ nil, "proxy not supported" }, { https.request(url) })
    assert.same({}, list)
  end)

  it("makes a context that luassl takes", function()
    local daemon = support.daemon(core)
    local params = {}
    assert.is_function(https.tcp(params))
    assert.is_userdata((ssl.newcontext(params)))
    assert.is_function(https.tcp())
    assert.same({}, daemon.requests)
  end)

  compared("describes requests as LuaSec's", function()
    local theirs = require "ssl.https"
    local arguments = {
      { "https://a.example" }, { "https://a.example/" }, { "https://a.example:1/x", "body" }, { "a.example" }, { "" },
      { "http://a.example/" }, { "https://user:word@a.example/x;p?q#f" }, { "https://a.example/", "" }, { "//a/b" },
      { { url = "https://a.example/x" } }, { { url = "https://a.example/x", verify = "peer", protocol = "tlsv1_2" } },
      { { url = "https://a.example/x", verify = false, options = {}, mode = "server" } },
      { { url = "x", proxy = "y" } }, { { url = "x", redirect = true } }, { { url = "x", redirect = false } },
      { { url = "x", create = print } },
    }
    local function copy(value)
      local new = {}
      for name, one in pairs(type(value) == "table" and value or {}) do
        new[name] = one
      end
      return type(value) == "table" and new or value
    end
    for index, one in ipairs(arguments) do
      local list = requests(1, 200)
      local wanted = support.outcome(theirs.request, copy(one[1]), one[2])
      local got = support.outcome(https.request, copy(one[1]), one[2])
      assert.same(wanted, got, "request " .. index)
      assert.is_true(#list == 0 or #list == 2)
      if list[1] then
        assert.same(plain(list[1]), plain(list[2]), "request " .. index)
      end
      support.restore()
    end
  end)
end)

describe("a socket of luassl.luasec.https", function()
  local listener, port

  before_each(function()
    listener = assert(socket.bind("127.0.0.1", 0))
    port = tonumber((select(2, listener:getsockname())))
  end)
  after_each(function()
    support.restore()
    listener:close()
  end)

  local function connect(object)
    return socket.protect(function() return object:connect("127.0.0.1", port) end)()
  end

  it("gives the reason why there is no daemon", function()
    local result, reason = connect(https.tcp {}())
    assert.is_nil(result)
    assert.matches("/nonexistent/luassl.sock", reason, 1, true)
    result, reason = https.request(("https://127.0.0.1:%d/"):format(port))
    assert.is_nil(result)
    assert.matches("/nonexistent/luassl.sock", reason, 1, true)
  end)

  it("gives the reason why parameters are refused", function()
    assert.same({ nil, "invalid protocol (sslv3)" }, { connect(https.tcp { protocol = "sslv3" }()) })
    local url = ("https://127.0.0.1:%d/"):format(port)
    assert.same({ nil, "invalid option (x)" }, { https.request { url = url, options = "x" } })
  end)

  it("gives the reason why it cannot connect", function()
    listener:close()
    assert.same({ nil, "connection refused" }, { connect(https.tcp {}()) })
  end)

  it("shakes hands with the name of the host, and has the methods of the connection", function()
    support.daemon(core)
    local begun, timeouts, sent = {}, {}, {}
    support.replace(raw, "begin", function(_, _, server, options)
      table.insert(begun, { server, options.sni })
      return true
    end)
    support.replace(raw, "handshake", function() return true end)
    support.replace(raw, "settimeout", function(_, seconds) table.insert(timeouts, seconds) end)
    support.replace(raw, "send", function(_, data) table.insert(sent, data) return #data end)
    local object = https.tcp {}()
    assert.equal(1, object:settimeout(5))
    assert.equal(1, connect(object))
    assert.same({ { false, "127.0.0.1" } }, begun)
    assert.same({ 60 }, timeouts)
    assert.matches("^SSL connection: ", tostring(object.sock))
    assert.equal(4, object:send("text"))
    assert.same({ "text" }, sent)
    assert.equal("127.0.0.1", object:getsniname())
    for name in pairs(getmetatable(object.sock).__index) do
      assert.is_function(object[name], name)
    end
    object:close()
    assert.matches(" %(closed%)$", tostring(object.sock))
  end)

  it("is refused where the handshake fails", function()
    support.daemon(core)
    support.replace(raw, "begin", function() return true end)
    support.replace(raw, "handshake", function() return false, "certificate verify failed" end)
    assert.same({ nil, "certificate verify failed" }, { connect(https.tcp { verify = "peer" }()) })
  end)
end)
