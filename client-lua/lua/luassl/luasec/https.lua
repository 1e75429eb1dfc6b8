-- LuaSec's ssl.https over luassl: LuaSocket's http over TLS.

local http = require "socket.http"
local ltn12 = require "ltn12"
local socket = require "socket"
local url = require "socket.url"
local ssl = require "luassl.luasec"

local https = {
  _VERSION = ssl._VERSION,
  _COPYRIGHT = ssl._COPYRIGHT,
  PORT = 443,
  TIMEOUT = 60,
}

-- LuaSec's defaults: the peer is verified only on request.
local DEFAULTS = {
  protocol = "any",
  options = { "all", "no_sslv2", "no_sslv3", "no_tlsv1" },
  verify = "none",
}

local function with_port(address)
  return url.build(url.parse(address, { port = https.PORT }))
end

--- Returns a request for LuaSocket's http from a bare address and a body.
local function described(address, body, chunks)
  local request = { url = with_port(address), method = body and "POST" or "GET", sink = ltn12.sink.table(chunks) }
  if body then
    request.source = ltn12.source.string(body)
    request.headers = {
      ["content-length"] = #body,
      ["content-type"] = "application/x-www-form-urlencoded",
    }
  end
  return request
end

--- Forwards the methods of the connection to the object that LuaSocket uses as a socket.
local function forward(to)
  for name, method in pairs(getmetatable(to.sock).__index) do
    if type(method) == "function" then
      to[name] = function(self, ...)
        return method(self.sock, ...)
      end
    end
  end
end

--- Returns a constructor of sockets for LuaSocket, which do TLS with `params`.
function https.tcp(params)
  params = params or {}
  for name, value in pairs(DEFAULTS) do
    params[name] = params[name] or value
  end
  params.mode = "client"
  return function()
    local object = { sock = socket.try(socket.tcp()) }
    function object:settimeout()
      return self.sock:settimeout(https.TIMEOUT)
    end
    function object:connect(host, port)
      socket.try(self.sock:connect(host, port))
      self.sock = socket.try(ssl.wrap(self.sock, params))
      self.sock:sni(host)
      self.sock:settimeout(https.TIMEOUT)
      socket.try(self.sock:dohandshake())
      forward(self)
      return 1
    end
    return object
  end
end

--- Like LuaSocket's http.request, with additional keys for TLS. Proxies, and redirects of table requests, are not
-- supported.
function https.request(request, body)
  local chunks = {}
  local bare = type(request) == "string"
  if bare then
    request = described(request, body, chunks)
  else
    request.url = with_port(request.url)
  end
  if http.PROXY or request.proxy then
    return nil, "proxy not supported"
  elseif request.redirect then
    return nil, "redirect not supported"
  elseif request.create then
    return nil, "create function not permitted"
  end
  request.create = https.tcp(request)
  local result, code, headers, status = http.request(request)
  if result and bare then
    return table.concat(chunks), code, headers, status
  end
  return result, code, headers, status
end

return https
