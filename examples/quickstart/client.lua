-- LuaSSL's quickstart: writes each line of its standard input to the server.
local port = arg and arg[1] or 16001

local s = ssl.wrap("keys/client.pem", "keys/rootcert.pem")
s:connect("localhost", port)

for line in io.lines() do
  local code = s:write(line .. "\n")
  if code then
    io.stderr:write("write failed: ", code, "\n")
    os.exit(1)
  end
end

s:shutdown()
s:free()
