-- Runs the chunks that a test sends, one on each line of standard input, and answers each with one line:
-- `ok` and the chunk's results, or `error` and its message, separated by tabs. Globals live on between chunks.
local load = loadstring or load -- luacheck: ignore

local function quote(text)
  return '"' .. text:gsub("[%c\\\"\128-\255]", function(char)
    return ("\\%03d"):format(char:byte())
  end) .. '"'
end

local function show(value)
  if type(value) == "string" then return quote(value) end
  if type(value) == "number" and value % 1 == 0 and value > -2^53 and value < 2^53 then
    return ("%d"):format(value)
  end
  if type(value) == "table" or type(value) == "userdata" then return "object" end
  return tostring(value)
end

local function answer(ok, ...)
  local words = { ok and "ok" or "error" }
  for n = 1, select("#", ...) do
    words[n + 1] = ok and show((select(n, ...))) or quote(tostring((select(n, ...))))
  end
  io.write(table.concat(words, "\t"), "\n")
  io.flush()
end

for line in io.lines() do
  local chunk, message = load(line, "=test")
  if chunk then
    answer(pcall(chunk))
  else
    answer(false, message)
  end
end
