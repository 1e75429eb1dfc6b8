-- An HTTP server, and a client, of lua-http, both without its own TLS: lua-http.lua serve IDENTITY PORT, or
-- lua-http.lua get HOST PORT [CAFILE].
local cqueues = require "cqueues"
local cs = require "cqueues.socket"
local client = require "http.client"
local h1_connection = require "http.h1_connection"
local h2_connection = require "http.h2_connection"
local headers = require "http.headers"
local luassl = require "luassl"

local function answer(stream)
  local asked = assert(stream:get_headers())
  local fields = headers.new()
  fields:append(":status", "200")
  fields:append("content-type", "text/plain")
  assert(stream:write_headers(fields, false))
  assert(stream:write_chunk("you asked for " .. asked:get(":path") .. "\n", true))
end

local function serve(loop, connection)
  local socket = cs.dup(connection:getfd())
  local http
  if connection:info("alpn") == "h2" then
    http = assert(h2_connection.new(socket, "server"))
  else
    http = assert(h1_connection.new(socket, "server", 1.1))
  end
  while true do
    local stream = http:get_next_incoming_stream()
    if not stream then
      break
    end
    loop:wrap(function()
      answer(stream)
      stream:shutdown()
    end)
  end
  http:close()
  connection:settimeout(0)
  connection:close()
end

local function server(identity, port)
  local listener = assert(luassl.wrap { key = identity, alpn = { "h2", "http/1.1" } })
  assert(listener:bind(port))
  listener:settimeout(0)
  print(listener:getport())
  io.flush()
  local loop = cqueues.new()
  loop:wrap(function()
    while true do
      local connection = listener:accept()
      if connection then
        loop:wrap(serve, loop, connection)
      else
        cqueues.poll({ pollfd = listener:getfd(), events = "r" })
      end
    end
  end)
  assert(loop:loop())
end

local function get(host, port, cafile)
  local connection = assert(luassl.wrap { alpn = { "h2", "http/1.1" }, cafile = cafile })
  assert(connection:connect(host, port))
  local version = connection:info("alpn") == "h2" and 2 or 1.1
  local http = assert(client.negotiate(cs.dup(connection:getfd()), { version = version }))
  local stream = assert(http:new_stream())
  local fields = headers.new()
  fields:append(":method", "GET")
  fields:append(":scheme", "https")
  fields:append(":authority", host .. ":" .. port)
  fields:append(":path", "/")
  assert(stream:write_headers(fields, true))
  print(version, assert(stream:get_headers()):get(":status"))
  io.write(assert(stream:get_body_as_string()))
  http:close()
  connection:close()
end

if arg[1] == "get" then
  local loop = cqueues.new()
  loop:wrap(get, arg[2], arg[3], arg[4])
  assert(loop:loop())
else
  server(arg[2] or "www", arg[3] or 8443)
end
