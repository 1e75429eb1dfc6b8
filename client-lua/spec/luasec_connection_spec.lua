local support = dofile "client-lua/spec/luasec_support.lua"
local core = require "luassl_core"
local socket = require "socket"
local certificate = require "luassl.luasec.certificate"
local connection = require "luassl.luasec.connection"
local context = require "luassl.luasec.context"
local ssl = require "luassl.luasec"
local compared = support.compared(it, pending)

local raw = core.tls_socket

local METHODS = {
  "close", "dirty", "dohandshake", "exportkeyingmaterial", "getalpn", "getfd", "getfinished", "getlocalcertificate",
  "getlocalchain", "getpeercertificate", "getpeerchain", "getpeerfinished", "getpeername", "getpeerverification",
  "getsniname", "getsockname", "getstats", "info", "keylog", "ocsp", "receive", "send", "setdane", "setstats",
  "settimeout", "settlsa", "shutdown", "sni", "want",
}

--- Two ends of a TCP connection.
local function pair()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local client = assert(socket.connect("127.0.0.1", tonumber(port)))
  local server = assert(listener:accept())
  listener:close()
  return client, server
end

local function new(given)
  local ctx, reason = ssl.newcontext(support.config(given))
  assert.is_nil(reason)
  return connection.create(ctx)
end

--- Makes the connections of the core answer as connected ones, with these facts.
local function connected(facts)
  support.replace(raw, "connected", function() return true end)
  support.replace(raw, "facts", function() return facts end)
end

--- Makes handshakes of the core ask these questions, each a list, and records how they are answered.
local function handshakes(questions)
  local log = { begun = {}, decided = {}, shared = {} }
  local unpack = table.unpack or unpack
  local function nextquestion()
    return unpack(table.remove(questions, 1) or { true }, 1, 5)
  end
  support.replace(raw, "begin", function(_, handle, server, options)
    table.insert(log.begun, { handle = handle, server = server, options = options })
    return true
  end)
  support.replace(raw, "getfd", function() return 3 end)
  support.replace(raw, "handshake", nextquestion)
  support.replace(raw, "decide", function(_, handle, protocol, refuse)
    table.insert(log.decided, { handle = handle, protocol = protocol, refuse = refuse })
    return nextquestion()
  end)
  support.replace(raw, "share", function(_, identity, key)
    table.insert(log.shared, { identity = identity, key = key })
    return nextquestion()
  end)
  return log
end

describe("a connection of luassl.luasec without a socket", function()
  local conn

  before_each(function()
    support.daemon(core)
    conn = new()
  end)
  after_each(support.restore)

  it("is made from a context alone", function()
    for _, value in ipairs { 5, "x", {}, io.stdout, true } do
      local message = support.thrown(function() local _ = connection.create(value) end)
      assert.matches("bad argument #1 to 'create' (invalid context)", message, 1, true)
    end
    assert.matches("invalid context", support.thrown(function() local _ = connection.create() end))
  end)

  it("is refused for a context without a valid mode", function()
    for _, mode in ipairs { "x", "" } do
      local ctx = assert(ssl.newcontext { mode = mode, protocol = "any" })
      assert.same({ nil, "invalid mode" }, { connection.create(ctx) })
    end
  end)

  it("is refused with the reason why there is no daemon", function()
    support.restore()
    local ctx = assert(ssl.newcontext { mode = "client", protocol = "any" })
    local made, reason = connection.create(ctx)
    assert.is_nil(made)
    assert.matches("/nonexistent/luassl.sock", reason, 1, true)
  end)

  it("answers as LuaSec's before the handshake", function()
    assert.equal(-1, conn:getfd())
    assert.same({ nil, "closed" }, { conn:info() })
    assert.same({ nil, "closed" }, { conn:info("cipher") })
    assert.same({}, { connection.info(conn) })
    assert.same({ nil, "closed" }, { connection.compression(conn) })
    assert.same({ nil, "closed", "" }, { conn:receive() })
    assert.same({ nil, "closed", "pre" }, { conn:receive("*a", "pre") })
    assert.same({ nil, "closed", 0 }, { conn:send("x") })
    assert.same({ false, "closed" }, { conn:getpeerverification() })
    assert.same({}, { conn:exportkeyingmaterial("label", 1) })
    for _, method in ipairs { "getpeercertificate", "getpeerchain", "getlocalcertificate", "getlocalchain",
      "getfinished", "getpeerfinished", "ocsp", "keylog", "getpeername", "getsockname" } do
      assert.same({ nil, "closed" }, { conn[method](conn) }, method)
    end
    assert.same({ false, "nothing" }, { conn:dirty(), conn:want() })
    assert.is_nil(conn:getalpn())
    assert.same({ false, "Bad file descriptor" }, { conn:dohandshake() })
  end)

  it("keeps statistics", function()
    assert.equal(1, conn:setstats("5", 6, 100))
    local received, sent, age = conn:getstats()
    assert.same({ 5, 6 }, { received, sent })
    assert.is_true(age >= 100 and age < 110)
    assert.equal(1, conn:setstats())
    assert.equal(1, conn:setstats(nil, 7, {}))
    received, sent, age = conn:getstats()
    assert.same({ 5, 7 }, { received, sent })
    assert.is_true(age >= 100 and age < 110)
    assert.equal(1, conn:setstats(0, 0, "0"))
    assert.is_true((select(3, conn:getstats())) < 100)
  end)

  it("passes timeouts for one call and for all to the core", function()
    local set = {}
    support.replace(raw, "settimeout", function(_, seconds, whole) table.insert(set, { seconds, whole }) end)
    assert.equal(1, conn:settimeout(5))
    assert.equal(1, conn:settimeout("0.5", "total"))
    assert.equal(1, conn:settimeout(2, "r"))
    assert.equal(1, conn:settimeout(3, "b"))
    assert.equal(1, conn:settimeout(nil, "t"))
    assert.same({ { 5, false }, { 0.5, true }, { 2, true }, { 3, false }, { -1, true } }, set)
  end)

  it("passes the part of the data to send to the core", function()
    local parts = {}
    support.replace(raw, "send", function(_, data, first, last) table.insert(parts, data:sub(first, last)) return 1 end)
    local arguments = {
      { "abcde" }, { "abcde", 2 }, { "abcde", 2, 3 }, { "abcde", -2 }, { "abcde", -4, -2 }, { "abcde", 0 },
      { "abcde", "2", "3" }, { "abcde", 2.9 }, { "abcde", -99, 99 }, { "abcde", 6 }, { "abcde", 4, 2 }, { 12345, 2, 3 },
      { "abcde", 1, 1 / 0 }, { "abcde", -1 / 0 }, { "abcde", 1, -1 / 0 },
    }
    for _, one in ipairs(arguments) do
      conn:send(one[1], one[2], one[3])
    end
    assert.same({ "abcde", "bcde", "bc", "de", "bcd", "abcde", "bc", "bcde", "abcde", "", "", "23", "abcde", "abcde",
      "" }, parts)
  end)

  it("takes positions of any size, and returns the last as LuaSec does", function()
    for _, first in ipairs { 1 / 0, 1e300, 2 ^ 53 } do
      assert.same({ nil, "closed", 2 ^ 53 - 1 }, { conn:send("x", first) })
    end
    assert.same({ nil, "closed", 0 }, { conn:send("x", 0 / 0, 0 / 0) })
    assert.same({ nil, "closed", 8 }, { conn:send("x", 9) })
  end)

  it("translates patterns of receive", function()
    local patterns = {}
    support.replace(raw, "receive", function(_, what, prefix) table.insert(patterns, { what, prefix }) end)
    for _, pattern in ipairs { "*l", "*line", "*a", "*all", 5, "7", 0, 1.5 } do
      conn:receive(pattern)
    end
    conn:receive()
    conn:receive(nil, 12)
    assert.same({ { -1 }, { -1 }, { -2 }, { -2 }, { 5 }, { 7 }, { 0 }, { 1.5 }, { -1 }, { -1, "12" } }, patterns)
  end)

  it("throws wrong arguments at the caller", function()
    local function thrown(message, method, ...)
      local arguments, count = { ... }, select("#", ...)
      local unpack = table.unpack or unpack
      local text = support.thrown(function() local _ = conn[method](conn, unpack(arguments, 1, count)) end)
      assert.matches(message, text, 1, true)
    end
    thrown("bad argument #1 to 'send' (string expected, got no value)", "send")
    thrown("bad argument #1 to 'send' (string expected, got table)", "send", {})
    thrown("bad argument #2 to 'send' (number expected, got string)", "send", "abc", "x")
    thrown("bad argument #3 to 'send' (number expected, got table)", "send", "abc", 1, {})
    for _, pattern in ipairs { "", "x", "l", "a", "*x", -1, "-1", 0 / 0 } do
      thrown("bad argument #1 to 'receive' (invalid receive pattern)", "receive", pattern)
    end
    thrown("bad argument #1 to 'receive' (string expected, got table)", "receive", {})
    thrown("bad argument #2 to 'receive' (string expected, got table)", "receive", "*l", {})
    thrown("bad argument #1 to 'settimeout' (number expected, got string)", "settimeout", "x")
    thrown("bad argument #2 to 'settimeout' (invalid timeout mode)", "settimeout", 0, "x")
    thrown("bad argument #2 to 'settimeout' (invalid timeout mode)", "settimeout", 0, "")
    thrown("bad argument #1 to 'setstats' (number expected, got string)", "setstats", "x")
    thrown("bad argument #2 to 'setstats' (number expected, got table)", "setstats", 1, {}, 3)
    thrown("bad argument #1 to 'sni' (string expected, got table)", "sni", {})
    thrown("bad argument #1 to 'setdane' (string expected, got no value)", "setdane")
    thrown("bad argument #4 to 'settlsa' (string expected, got no value)", "settlsa", 1, 2, 3)
    thrown("bad argument #2 to 'settlsa' (number expected, got string)", "settlsa", 1, "x", 3, "data")
  end)

  it("is required by each method, which blames the caller", function()
    for _, name in ipairs(METHODS) do
      for _, value in ipairs { {}, 5, io.stdout } do
        local message = support.thrown(function() local _ = conn[name](value) end)
        assert.matches(("bad argument #1 to '%s' (SSL:Connection expected, got %s)"):format(name, type(value)), message,
          1, true)
      end
      assert.matches("got no value", support.thrown(function() local _ = conn[name]() end))
    end
    for _, name in ipairs { "setfd", "compression", "info" } do
      assert.matches("SSL:Connection expected, got table",
        support.thrown(function() local _ = connection[name]({}, 1) end))
    end
  end)

  it("refuses a descriptor that is no number, or no C int", function()
    assert.matches("bad argument #2 to 'ssl.core.setfd' (number expected, got table)",
      support.thrown(function() connection.setfd(conn, {}) end), 1, true)
    for _, number in ipairs { 1e300, -1e300, 2 ^ 31, 1 / 0, 0 / 0 } do
      assert.matches("bad argument #2 to 'ssl.core.setfd' (number has no integer representation)",
        support.thrown(function() connection.setfd(conn, number) end), 1, true)
    end
    assert.equal(-1, conn:getfd())
  end)

  it("takes the server name of a client", function()
    assert.is_nil(conn:getsniname())
    assert.is_nil(conn:sni("a.example"))
    assert.equal("a.example", conn:getsniname())
    conn:sni(5)
    assert.equal("5", conn:getsniname())
  end)

  it("takes the contexts of a server by name", function()
    local server = new { mode = "server" }
    local ctx = assert(ssl.newcontext { mode = "server", protocol = "any" })
    assert.is_nil(server:sni({ ["a.example"] = ctx }, true))
    local function thrown(...)
      local names = (...)
      return support.thrown(function() server:sni(names) end)
    end
    assert.matches("bad argument #1 to 'sni' (table expected, got no value)", thrown(), 1, true)
    assert.matches("bad argument #1 to 'sni' (table expected, got string)", thrown "a.example", 1, true)
    assert.matches("bad argument #1 to 'sni' (SSL:Context expected, got number)", thrown { a = 5 }, 1, true)
    assert.matches("bad argument #1 to 'sni' (string expected, got boolean)", thrown { [true] = ctx }, 1, true)
    assert.is_nil(server:getsniname())
  end)

  it("takes TLSA records after setdane, and only those that can be used", function()
    local good = ("x"):rep(32)
    assert.is_false(conn:setdane("a.example"))
    assert.is_false(conn:settlsa(3, 1, 1, good))
    local dane = new { dane = true }
    assert.is_false(dane:settlsa(3, 1, 1, good))
    assert.is_true(dane:setdane("a.example"))
    assert.is_false(dane:setdane("a.example"))
    assert.is_true(dane:settlsa(3, 1, 1, good))
    assert.is_true(dane:settlsa("0", 0, 2, ("x"):rep(64)))
    assert.is_true(dane:settlsa(2, 0, 0, ("x"):rep(16)))
    assert.is_true(dane:settlsa(2, 0, 0, ("x"):rep(16384)))
    local wrong = {
      { 4, 1, 1, good }, { 3, 2, 1, good }, { 3, 1, 3, good }, { 3, 1, 1, good .. "x" }, { 3, 1, 2, good },
      { 2, 0, 0, "x" }, { 2, 0, 0, ("x"):rep(16385) }, { -1, 1, 1, good }, { 1 / 0, 1, 1, good }, { 3, 0 / 0, 1, good },
    }
    for index, record in ipairs(wrong) do
      assert.is_false(dane:settlsa(record[1], record[2], record[3], record[4]), index)
    end
    for _ = 5, 64 do
      assert.is_true(dane:settlsa(3, 1, 1, good))
    end
    assert.is_false(dane:settlsa(3, 1, 1, good))
    local server = new { mode = "server", dane = true }
    assert.is_false(server:setdane("a.example"))
  end)

  it("can be closed any number of times, and answers then", function()
    for _ = 1, 3 do
      conn:close()
    end
    assert.matches("^SSL connection: 0x%x+ %(closed%)$", tostring(conn))
    assert.same({ false, "closed" }, { conn:dohandshake() })
    assert.same({ nil, "closed", "" }, { conn:receive() })
    assert.same({ nil, "closed", 0 }, { conn:send("x") })
    assert.same({ nil, "closed" }, { conn:info() })
    assert.same({ -1, false, "nothing" }, { conn:getfd(), conn:dirty(), conn:want() })
    assert.is_nil(conn:getalpn())
    assert.is_nil(conn:sni("a.example"))
    assert.is_nil(conn:getsniname())
    assert.same({ nil, "closed" }, { conn:getpeername() })
    assert.equal(1, conn:settimeout(1))
    assert.matches("bad argument #1 to 'ssl.core.setfd' (invalid SSL object state)",
      support.thrown(function() connection.setfd(conn, 3) end), 1, true)
    assert.same({}, { conn:exportkeyingmaterial("label", 1) })
    assert.is_false(conn:setdane("a.example"))
  end)

  compared("answers as LuaSec's", function()
    local theirs = support.luasec_connection()
    local calls = {
      { "info" }, { "info", "cipher" }, { "receive" }, { "receive", "*a", "x" }, { "receive", "*line" },
      { "receive", "a" }, { "receive", "" }, { "receive", -1 }, { "receive", 1.5 }, { "receive", {} },
      { "receive", "*l", {} }, { "send", "x" }, { "send", 5 }, { "send" }, { "send", {} }, { "send", "x", "y" },
      { "settimeout" }, { "settimeout", 5 }, { "settimeout", "5", "total" }, { "settimeout", "x" },
      { "settimeout", 0, "x" }, { "settimeout", 0, 5 }, { "setstats" }, { "setstats", "x" }, { "setstats", 1, 2, 3 },
      { "setstats", nil, nil, {} }, { "want" }, { "dirty" }, { "getpeercertificate" }, { "getpeerchain" },
      { "getpeerverification" }, { "getfinished" }, { "getalpn" }, { "getsniname" }, { "sni", "a" }, { "getsniname" },
      { "sni", {} }, { "sni" }, { "exportkeyingmaterial", "x", 1 }, { "close" }, { "close" },
      { "receive" }, { "send", "x" }, { "getpeerverification" }, { "getpeercertificate" }, { "getstats" },
      { "setstats", 3, 4, 100 }, { "getstats" }, { "setstats" }, { "getstats" }, { "setstats", nil, 5, "x" },
      { "getstats" },
    }
    for index, call in ipairs(calls) do
      local name, label = call[1], ("call %d, %s"):format(index, call[1])
      local wanted = support.outcome(theirs[name], theirs, call[2], call[3], call[4])
      local got = support.outcome(conn[name], conn, call[2], call[3], call[4])
      assert.equal(wanted[1], got[1], label)
      if wanted[1] == "throws" then
        -- LuaSec distinguishes nil from no argument.
        assert.equal((wanted[2]:match("%(.*"):gsub("got nil", "got no value")), got[2]:match("%(.*"), label)
      else
        -- The age is not the same to the microsecond.
        if name == "getstats" then
          wanted[4], got[4] = math.floor(wanted[4] / 10), math.floor(got[4] / 10)
        end
        assert.same(wanted, got, label)
      end
    end
  end)
end)

describe("a connection of luassl.luasec with a socket", function()
  local client, server

  before_each(function()
    support.daemon(core)
    client, server = pair()
  end)
  after_each(function()
    support.restore()
    client:close()
    server:close()
  end)

  local function wrapped(given)
    local cfg = { mode = "client", protocol = "any" }
    for name, value in pairs(given or {}) do
      cfg[name] = value
    end
    return ssl.wrap(client, cfg)
  end

  it("takes the descriptor over from the socket", function()
    local number, own, port = client:getfd(), client:getsockname()
    local conn = wrapped()
    assert.equal(number, conn:getfd())
    assert.equal(-1, client:getfd())
    local address, its_port, family = conn:getsockname()
    assert.same({ own, tonumber(port), "inet" }, { address, tonumber(its_port), family })
    local _, peer_port = server:getsockname()
    assert.equal(tonumber(peer_port), tonumber((select(2, conn:getpeername()))))
    conn:close()
  end)

  it("leaves the socket to the program where it is refused", function()
    local number = client:getfd()
    assert.same({ nil, "invalid mode" }, { wrapped { mode = "x" } })
    assert.same({ nil, "invalid protocol (x)" }, { wrapped { protocol = "x" } })
    assert.same({ nil, "invalid option (x)" }, { wrapped { options = "x" } })
    assert.equal(number, client:getfd())
  end)

  it("closes the socket with close", function()
    local conn = wrapped()
    server:settimeout(0)
    assert.same({ nil, "timeout", "" }, { server:receive(1) })
    conn:close()
    server:settimeout(5)
    assert.same({ nil, "closed", "" }, { server:receive(1) })
    assert.equal(-1, conn:getfd())
  end)

  it("closes the socket when it is collected", function()
    do
      local conn = wrapped()
      assert.is_true(conn:getfd() >= 0)
    end
    for _ = 1, 3 do
      collectgarbage()
    end
    server:settimeout(5)
    assert.same({ nil, "closed", "" }, { server:receive(1) })
  end)

  it("closes the socket through __close, with which Lua 5.4 leaves a block", function()
    local conn = wrapped()
    if _VERSION < "Lua 5.4" then
      getmetatable(conn).__close(conn)
    else
      assert(load("local conn <close> = ..."))(conn)
    end
    assert.matches(" %(closed%)$", tostring(conn))
    server:settimeout(5)
    assert.same({ nil, "closed", "" }, { server:receive(1) })
  end)

  it("takes a socket until the handshake begins", function()
    local conn = new()
    connection.setfd(conn, client:getfd())
    assert.equal(client:getfd(), conn:getfd())
    client:setfd(-1)
    support.replace(raw, "begun", function() return true end)
    assert.matches("invalid SSL object state", support.thrown(function() connection.setfd(conn, 5) end))
    support.restore()
    conn:close()
  end)

  compared("is wrapped where LuaSec wraps it", function()
    for _, cfg in ipairs { { mode = "x", protocol = "any" }, { mode = "client", protocol = "x" },
      { mode = "server", protocol = "any", verify = "x" } } do
      local theirs, their_reason = support.luasec().wrap(client, cfg)
      local ours, our_reason = ssl.wrap(client, cfg)
      assert.same({ nil, nil, their_reason }, { theirs, ours, our_reason })
    end
    local theirs = assert(support.luasec().wrap(client, { mode = "client", protocol = "any" }))
    local ours = assert(ssl.wrap(server, { mode = "client", protocol = "any" }))
    assert.same({ -1, -1 }, { client:getfd(), server:getfd() })
    for _, method in ipairs { "dirty", "want", "getalpn", "getsniname", "info", "close", "getfd" } do
      assert.same({ theirs[method](theirs) ~= nil }, { ours[method](ours) ~= nil }, method)
    end
  end)
end)

describe("a handshake of luassl.luasec", function()
  local daemon

  before_each(function() daemon = support.daemon(core) end)
  after_each(support.restore)

  it("begins with the settings of the connection", function()
    local log = handshakes {}
    local conn = new { verify = "peer", verify_host = true, resumption = true, dane = true }
    conn:sni("a.example")
    conn:setdane("b.example")
    conn:settlsa(3, 1, 1, ("x"):rep(32))
    assert.is_true(conn:dohandshake())
    local begun = log.begun[1]
    assert.is_false(begun.server)
    assert.same({
      sni = "a.example", host = "a.example", resume = true,
      dane = { host = "b.example", { 3, 1, 1, ("x"):rep(32) } },
    }, begun.options)
    assert.is_nil(begun.handle.options.client_hello)
  end)

  it("of a client does not stop at a ClientHello", function()
    local log = handshakes {}
    local ctx = assert(ssl.newcontext { mode = "client", protocol = "any" })
    assert.is_true(context.setalpncb(ctx, function() end))
    assert.is_true(connection.create(ctx):dohandshake())
    assert.is_nil(log.begun[1].handle.options.client_hello)
  end)

  it("does not begin without the name that has to be verified", function()
    local log = handshakes {}
    local done, reason = new({ verify = "peer", verify_host = true }):dohandshake()
    assert.is_false(done)
    assert.matches("^verify_host = true requires a server name", reason)
    assert.same({}, log.begun)
  end)

  it("gives the reason why it cannot begin or go on", function()
    local log = handshakes { { false, "wantread" }, { false, "certificate verify failed" } }
    local conn = new()
    assert.same({ false, "wantread" }, { conn:dohandshake() })
    assert.same({ false, "certificate verify failed" }, { conn:dohandshake() })
    assert.equal(2, #log.begun)
    support.replace(raw, "begin", function() return nil, "no daemon" end)
    assert.same({ false, "no daemon" }, { new():dohandshake() })
    support.replace(raw, "begun", function() return true end)
    assert.is_true(conn:dohandshake())
  end)

  it("chooses the context of a server by name", function()
    local log = handshakes { { nil, "hello", "a.example", { "h2" } } }
    local chosen = assert(ssl.newcontext { mode = "server", protocol = "any", alpn = { "h2" }, depth = 7 })
    local conn = new { mode = "server" }
    conn:sni({ ["a.example"] = chosen })
    assert.is_true(conn:dohandshake())
    assert.is_true(log.begun[1].server)
    assert.is_true(log.begun[1].handle.options.client_hello)
    assert.same({ { handle = context.handle(chosen), protocol = "h2", refuse = false } }, log.decided)
    assert.equal("a.example", conn:getsniname())
  end)

  it("uses the first context for an unknown name, and refuses it where names are strict", function()
    for strict, wanted in pairs { [true] = { refuse = true }, [false] = { refuse = false } } do
      local log = handshakes { { nil, "hello", "b.example", {} } }
      local conn = new { mode = "server" }
      conn:sni({ ["a.example"] = assert(ssl.newcontext { mode = "server", protocol = "any" }) }, strict)
      assert.is_true(conn:dohandshake())
      assert.same({ wanted }, log.decided)
    end
    local log = handshakes { { nil, "hello", nil, {} } }
    local conn = new { mode = "server" }
    conn:sni({ ["a.example"] = assert(ssl.newcontext { mode = "server", protocol = "any" }) }, true)
    assert.is_true(conn:dohandshake())
    assert.same({ { refuse = false } }, log.decided)
  end)

  it("fails where the chosen context cannot be made", function()
    handshakes { { nil, "hello", "a.example", {} } }
    local chosen = assert(ssl.newcontext { mode = "server", protocol = "any", depth = 7 })
    local conn = new { mode = "server" }
    conn:sni({ ["a.example"] = chosen })
    daemon.refuse = function(asked) return asked.depth == 7 and "refused", support.REFUSED end
    assert.same({ false, "refused" }, { conn:dohandshake() })
  end)

  it("asks the function for ALPN of a server", function()
    local log = handshakes { { nil, "hello", nil, { "http/1.1", "h2" } } }
    local conn = new { mode = "server", alpn = function(theirs) return theirs[2] end }
    assert.is_true(conn:dohandshake())
    assert.same({ { protocol = "h2", refuse = false } }, log.decided)
    assert.is_true(log.begun[1].handle.options.client_hello)
  end)

  it("asks the function for the psk of a server", function()
    local seen
    local log = handshakes { { nil, "psk", "who", 256 } }
    local conn = new { mode = "server", psk = function(...) seen = { ... } return "key" end }
    assert.is_true(conn:dohandshake())
    assert.same({ "who", 256 }, seen)
    assert.same({ { key = "key" } }, log.shared)
  end)

  it("asks the function for the psk of a client", function()
    local seen
    local log = handshakes { { nil, "psk", "hint", 256, 128 } }
    local conn = new { psk = function(...) seen = { ... } return "me", 1234 end }
    assert.is_true(conn:dohandshake())
    assert.same({ "hint", 128, 256 }, seen)
    assert.same({ { identity = "me", key = "1234" } }, log.shared)
  end)

  it("goes on without a psk if the function gives none", function()
    for _, results in ipairs { {}, { "me" }, { nil, "key" }, { {}, "key" }, { "me", true } } do
      local log = handshakes { { nil, "psk", nil, 256, 128 } }
      assert.is_true(new({ psk = function() return results[1], results[2] end }):dohandshake())
      assert.same({ {} }, log.shared)
    end
    local log = handshakes { { nil, "psk", "who", 256 } }
    assert.is_true(new({ mode = "server", psk = function() end }):dohandshake())
    assert.same({ {} }, log.shared)
  end)

  it("throws what the function for a psk throws, after the daemon was told", function()
    local log = handshakes { { nil, "psk", "hint", 256, 128 } }
    local thrown = {}
    local conn = new { psk = function() error(thrown) end }
    local good, value = pcall(conn.dohandshake, conn)
    assert.is_false(good)
    assert.equal(thrown, value)
    assert.same({ {} }, log.shared)
  end)

  it("uses the psk function of the context that was chosen by name", function()
    local log = handshakes { { nil, "hello", "a.example", {} }, { nil, "psk", "who", 256 } }
    local chosen = assert(ssl.newcontext {
      mode = "server", protocol = "any", psk = function() return "chosen" end,
    })
    local conn = new { mode = "server", psk = function() return "first" end }
    conn:sni({ ["a.example"] = chosen })
    assert.is_true(conn:dohandshake())
    assert.same({ { key = "chosen" } }, log.shared)
  end)
end)

describe("a connected session of luassl.luasec", function()
  before_each(function() support.daemon(core) end)
  after_each(support.restore)

  it("describes its cipher", function()
    connected {
      cipher = "TLS_AES_256_GCM_SHA384  TLSv1.3 Kx=any      Au=any   Enc=AESGCM(256)            Mac=AEAD",
      protocol = "TLSv1.3", bits = 256, algorithm_bits = 256,
    }
    support.replace(raw, "info", function() return "h2", "a.example", "", "", "X25519", true end)
    local conn = new()
    assert.same({
      cipher = "TLS_AES_256_GCM_SHA384", protocol = "TLSv1.3", key = "any", authentication = "any",
      encryption = "AESGCM(256)", mac = "AEAD", bits = 256, algbits = 256, export = false, group = "X25519",
      reused = true,
    }, conn:info())
    assert.same({ "AEAD", false, "X25519" }, { conn:info("mac"), conn:info("export"), conn:info("group") })
    assert.is_nil(conn:info("nothing"))
    assert.equal("h2", conn:getalpn())
    assert.is_nil(connection.compression(conn))
    assert.equal("a.example", new({ mode = "server" }):getsniname())
    local cipher, bits, algorithm_bits, protocol = connection.info(conn)
    assert.same({ 256, 256, "TLSv1.3" }, { bits, algorithm_bits, protocol })
    assert.matches("^TLS_AES_256_GCM_SHA384 ", cipher)
  end)

  it("has the certificates of both sides by number", function()
    local texts = {}
    support.replace(core.luasec, "certificate", function(der) return { serial = der } end)
    local function serials(list)
      for index, one in ipairs(list) do
        texts[index] = one:serial()
      end
      return table.concat(texts, " ", 1, #list)
    end
    connected { peer = "leaf", peer_chain = { "leaf", "ca" }, local_chain = { "own", "own ca" } }
    local conn = new()
    assert.equal("leaf ca", serials(conn:getpeerchain()))
    assert.equal("own own ca", serials(conn:getlocalchain()))
    assert.equal("leaf", conn:getpeercertificate():serial())
    assert.equal("ca", conn:getpeercertificate("2"):serial())
    assert.is_nil(conn:getpeercertificate(3))
    assert.same({ nil, "invalid certificate index" }, { conn:getpeercertificate(0) })
    assert.equal("own ca", conn:getlocalcertificate(2):serial())
    assert.same({ nil, "invalid certificate index" }, { conn:getlocalcertificate(-1) })
    -- For a server, the chain of OpenSSL does not have the leaf.
    support.restore()
    support.daemon(core)
    support.replace(core.luasec, "certificate", function(der) return { serial = der } end)
    connected { peer = "leaf", peer_chain = { "ca" }, local_chain = {} }
    local server = new { mode = "server" }
    assert.equal("leaf ca", serials(server:getpeerchain()))
    assert.equal("leaf", server:getpeercertificate():serial())
    assert.is_nil(server:getlocalcertificate())
    connected { peer_chain = {}, local_chain = {} }
    assert.is_nil(server:getpeercertificate())
    assert.same({}, server:getpeerchain())
    assert.equal("userdata", type(certificate.of "x"))
  end)

  it("says how the verification ended, with all faults on request", function()
    local faults = { { 1, "one" }, { 0, "two" }, { 1, "three" } }
    connected { verify_code = 0, verify_text = "ok", faults = faults }
    assert.same({ true }, { new():getpeerverification() })
    connected { verify_code = 18, verify_text = "self-signed certificate", faults = faults }
    assert.same({ false, "self-signed certificate" }, { new():getpeerverification() })
    local conn = new { verifyext = "lsec_continue" }
    assert.same({ false, { { "two" }, { "one", "three" } } }, { conn:getpeerverification() })
    connected { verify_code = 18, verify_text = "self-signed certificate", faults = {} }
    assert.same({ false, "self-signed certificate" }, { conn:getpeerverification() })
  end)

  it("has the finished messages, or nothing", function()
    connected { finished = "mine", peer_finished = "" }
    assert.same({ "mine" }, { new():getfinished() })
    assert.same({}, { new():getpeerfinished() })
  end)

  it("exports keying material of a length that is possible", function()
    connected {}
    local asked = {}
    support.replace(raw, "export", function(_, label, length, bound)
      table.insert(asked, { label, length, bound })
      return label ~= "bad" and ("k"):rep(length) or nil
    end)
    local conn = new()
    assert.equal("kkk", conn:exportkeyingmaterial("label", "3"))
    assert.equal("", conn:exportkeyingmaterial("label", 0, "bound"))
    assert.same({ { "label", 3 }, { "label", 0, "bound" } }, asked)
    for _, length in ipairs { -1, 65536, 1 / 0, 0 / 0 } do
      assert.same({ nil, "error exporting keying material" }, { conn:exportkeyingmaterial("label", length) })
    end
    assert.equal(2, #asked)
    assert.same({ nil, "error exporting keying material" }, { conn:exportkeyingmaterial("bad", 3) })
    assert.matches("bad argument #2 to 'exportkeyingmaterial' (number expected, got no value)",
      support.thrown(function() local _ = conn:exportkeyingmaterial("label") end), 1, true)
    assert.matches("bad argument #3 to 'exportkeyingmaterial' (string expected, got table)",
      support.thrown(function() local _ = conn:exportkeyingmaterial("label", 1, {}) end), 1, true)
  end)

  it("has the stapled response with its status", function()
    connected {}
    assert.same({ nil, "no response" }, { new():ocsp() })
    connected { staple = "der", staple_status = "good" }
    assert.same({ "good", "der" }, { new():ocsp() })
    connected { staple = "der", staple_status = "invalid: too old" }
    assert.same({ nil, "too old", "der" }, { new():ocsp() })
  end)

  it("has its secrets if the context has keylog", function()
    connected {}
    assert.same({ nil, "the context was made without keylog" }, { new():keylog() })
    connected { key_log = "CLIENT_RANDOM" }
    assert.same({ "CLIENT_RANDOM" }, { new():keylog() })
  end)
end)
