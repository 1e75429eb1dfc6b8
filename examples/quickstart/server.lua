-- LuaSSL's quickstart: prints what clients write. The port may be given as an argument.
local port = arg and arg[1] or 16001

local s = ssl.wrap("keys/server.pem", "keys/rootcert.pem", nil, "keys/dhparams.pem")
s:bind(port)

while true do
  s:accept()
  while true do
    local text, code = s:read()
    if text then
      io.write(text)
      io.flush()
    elseif code == 0 then
      s:shutdown()
      break
    else
      s:clear()
      break
    end
  end
end
