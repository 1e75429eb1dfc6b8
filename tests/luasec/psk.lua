-- Keys that peers share: an API of LuaSec 1.3, which Debian 12's does not have.
local kit = require "kit"
local ssl, test, equal, matches = kit.ssl, kit.test, kit.equal, kit.matches
local context = require "ssl.context"

local KEY = ("k"):rep(32)
local NOBODY = { key = false, certificate = false, cafile = false }

local function config(mode, protocol, psk)
  local all = { mode = mode, protocol = protocol, options = "all", verify = "none", psk = psk }
  for name, value in pairs(NOBODY) do
    all[name] = value
  end
  return all
end

local function wrapped(protocol, server_psk, client_psk)
  return kit.wrapped(config("server", protocol, server_psk), config("client", protocol, client_psk))
end

local function talk(server, client)
  local of_server, of_client = kit.shake(server, client)
  equal(of_client[1] and true, true, tostring(of_client[2]))
  equal(of_server[1] and true, true, tostring(of_server[2]))
  client:send("over a key\n")
  equal(kit.eventually(server, function() return server:receive("*l") end)[1], "over a key")
  server:close()
  client:close()
end

if not kit.differs "newer API" then
  test("there is no psk in this LuaSec", function() equal(ssl.config.capabilities.psk, nil) end)
  return
end

test("ssl.config knows psk", function() equal(ssl.config.capabilities.psk, true) end)

test("a psk of another form is refused", function()
  for _, mode in ipairs { "server", "client" } do
    for _, psk in ipairs { 5, "x", { hint = "x" }, { hint = 5, callback = print }, { callback = print } } do
      local ctx, reason = ssl.newcontext(config(mode, "any", psk))
      equal(ctx, nil)
      equal(reason, "invalid PSK configuration")
    end
  end
  assert(ssl.newcontext(config("x", "any", 5)), "a mode that is none has no psk to look at")
end)

for _, protocol in ipairs { "tlsv1_2", "tlsv1_3" } do
  test("functions give the keys, " .. protocol, function()
    local asked = {}
    local server, client = wrapped(protocol, { hint = "ask me", callback = function(identity, longest)
      asked.identity, asked.longest = identity, longest
      return KEY
    end }, function(hint, longest_identity, longest_key)
      asked.hint, asked.longest_identity, asked.longest_key = hint, longest_identity, longest_key
      return "somebody", KEY
    end)
    talk(server, client)
    equal(asked.identity, "somebody")
    assert(asked.longest >= 64 and asked.longest_key >= 64 and asked.longest_identity >= 127)
    equal(asked.hint, protocol == "tlsv1_2" and "ask me" or nil)
  end)

  test("keys that are known at once, " .. protocol, function()
    local keys = { other = "x", somebody = KEY }
    talk(wrapped(protocol, { keys = keys }, { identity = "somebody", key = KEY }))
    talk(wrapped(protocol, { hint = "x", keys = keys }, function() return "somebody", KEY end))
    talk(wrapped(protocol, function(identity) return keys[identity] end, { identity = "somebody", key = KEY }))
  end)

  test("keys first, and then a function, " .. protocol, function()
    local asked = 0
    local psk = { keys = { one = KEY }, callback = function(identity)
      asked = asked + 1
      return identity == "two" and KEY or nil
    end }
    talk(wrapped(protocol, psk, { identity = "one", key = KEY }))
    equal(asked, 0)
    talk(wrapped(protocol, psk, { identity = "two", key = KEY }))
    equal(asked, 1)
  end)

  test("a wrong key and an unknown name fail, " .. protocol, function()
    for _, psk in ipairs { { identity = "somebody", key = "another" }, { identity = "nobody", key = KEY } } do
      local server, client = wrapped(protocol, function(identity)
        return identity == "somebody" and KEY or nil
      end, psk)
      local of_server, of_client = kit.shake(server, client)
      equal(of_server[1], false)
      equal(of_client[1], false)
      server:close()
      client:close()
    end
  end)

  test("a function that throws does so in dohandshake, and others go on, " .. protocol, function()
    local server, client = wrapped(protocol, function() error("no key today", 0) end, { identity = "a", key = KEY })
    local thrown
    for _ = 1, 1000 do
      client:dohandshake()
      local good, message = pcall(server.dohandshake, server)
      if not good then
        thrown = message
        break
      end
      require "socket".select({ server }, nil, 0.02)
    end
    equal(thrown, "no key today")
    equal(server:dohandshake(), false)
    server:close()
    client:close()
    talk(wrapped(protocol, function() return KEY end, { identity = "a", key = KEY }))
  end)
end

test("what a function gives is a key or none", function()
  for _, answer in ipairs { {}, { "a" }, { false, KEY }, { ("i"):rep(400), KEY }, { "a", ("k"):rep(600) } } do
    local server, client = wrapped("tlsv1_2", function() return KEY end, function() return answer[1], answer[2] end)
    local _, of_client = kit.shake(server, client)
    equal(of_client[1], false)
    server:close()
    client:close()
  end
end)

test("a client without a key goes on with the server's certificate", function()
  local server, client = kit.wrapped({ psk = function() return KEY end }, { psk = function() end, verify = "peer" })
  talk(server, client)
end)

test("setters of ssl.context for psk", function()
  local ctx = assert(ssl.newcontext(config("server", "tlsv1_2")))
  equal(context.setpskhint(ctx, "hint"), true)
  equal(context.setpskhint(ctx, ("x"):rep(400)), false)
  equal(context.setserverpskcb(ctx, function() return KEY end), true)
  local other = assert(ssl.newcontext(config("client", "tlsv1_2")))
  equal(context.setclientpskcb(other, function(hint)
    equal(hint, "hint")
    return "somebody", KEY
  end), true)
  talk(kit.wrapped(ctx, other))
end)

test("a psk goes without a name that is verified", function()
  local server, client = kit.wrapped(config("server", "any", { keys = { a = KEY } }),
    kit.client_config { psk = { identity = "a", key = KEY }, verify = "peer", verify_host = "localhost" })
  local done, reason = client:dohandshake()
  equal(done, false)
  matches(reason, "psk")
  server:close()
  client:close()
end)
