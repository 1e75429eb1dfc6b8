-- Loaded before the quickstart's server by the demo: says on standard error what was negotiated on each connection,
-- which the quickstart itself does not show.
require "luassl.classic"

local wrap = ssl.wrap

function ssl.wrap(...)
  local object = wrap(...)
  local proxy = {}
  function proxy.accept(_, ...)
    object:accept(...)
    local info = object:info()
    io.stderr:write(("    [%s, %s]\n"):format(info.protocol, info.cipher))
  end
  return setmetatable(proxy, {
    __index = function(_, name)
      return function(_, ...) return object[name](object, ...) end
    end,
  })
end

return ssl
