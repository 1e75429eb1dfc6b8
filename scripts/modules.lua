-- modules.lua: draws which module of each crate names which, for docs/architecture.md, and finds the circles.
--
--   lua5.4 scripts/modules.lua                 prints the drawing
--   lua5.4 scripts/modules.lua --write PAGE    puts it between the page's marks
--   lua5.4 scripts/modules.lua --check PAGE    fails where the page has another drawing, or does not name a circle
--
-- A module is a file. An arrow runs from a file to the one that defines a name which the first takes by a path that
-- begins with crate, super or self, or with a module of its own. Names that a module hands on (pub use) are looked up
-- where they come from. Tests are left out. What is read is text, by the conventions of this repository: tests stand
-- at a file's end.

local CRATES = {
  { "luassl-protocol", "protocol/src" }, { "luassl-keeper-ipc", "keeper/ipc/src" },
  { "luassl-sandbox", "keeper/sandbox/src" }, { "luassl-keeper", "keeper/src" },
  { "luassl-settings", "daemon/settings/src" }, { "luassl-tls", "daemon/tls/src" },
  { "luassl-front", "daemon/front/src" }, { "luassl-supervisor", "daemon/supervisor/src" },
  { "luassl-daemon", "daemon/src" }, { "luassl-client", "client-lua/core/src" },
  { "luassl-lua", "client-lua/module/src" },
}
local BEGIN, END = "<!-- modules: begin (scripts/modules.lua) -->", "<!-- modules: end -->"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("a")
  file:close()
  return text
end

local function files_of(source)
  local list = {}
  local pipe = assert(io.popen("git ls-files --cached --others --exclude-standard '" .. source .. "/*.rs' | sort -u"))
  for path in pipe:lines() do
    local inner = path:sub(#source + 2)
    local is_test = inner:match("^tests/") or inner:match("/tests/") or inner:match("tests%.rs$")
    local file = io.open(path)
    if file then file:close() end
    if file and not is_test and not inner:match("^bin/") and not inner:match("^kit/") then
      list[#list + 1] = inner
    end
  end
  pipe:close()
  table.sort(list)
  return list
end

-- The module of a file, as "a::b"; "" is the crate's root.
local function module_of(inner)
  local name = inner:gsub("%.rs$", ""):gsub("/mod$", ""):gsub("^lib$", ""):gsub("^mod$", ""):gsub("^main$", "")
  return (name:gsub("/", "::"))
end

-- Code without comments, strings and tests.
local function code_of(text)
  text = text:gsub("\n#%[cfg%(test%)%]\nmod %w+ {.*$", "\n")
  text = text:gsub("#%[cfg%(test%)%][^\n]*\n[^\n]*\n", "\n")
  text = text:gsub("//[^\n]*", "")
  return (text:gsub('"[^"\n]*"', '""'))
end

-- Calls `each` with every path of a use tree and the name that it gets here.
local function expand(prefix, tree, each)
  tree = tree:match("^%s*(.-)%s*$")
  local head, group = tree:match("^([%w_:]-):?:?(%b{})$")
  if group then
    local base = prefix .. (head ~= "" and head .. "::" or "")
    local depth, item = 0, ""
    for letter in (group:sub(2, -2) .. ","):gmatch(".") do
      depth = depth + (letter == "{" and 1 or letter == "}" and -1 or 0)
      if letter == "," and depth == 0 then
        if item:match("%S") then expand(base, item, each) end
        item = ""
      else
        item = item .. letter
      end
    end
    return
  end
  local path, alias = tree:match("^(.-)%s+as%s+([%w_]+)$")
  path = prefix .. (path or tree)
  path = path:gsub("::self$", "")
  each(path, alias or path:match("([%w_*]+)$"))
end

local function split(path)
  local parts = {}
  for part in path:gmatch("[%w_*]+") do parts[#parts + 1] = part end
  return parts
end

local function child(module, name)
  return module == "" and name or module .. "::" .. name
end

local function parent(module)
  return module:match("^(.*)::[%w_]+$") or ""
end

-- One crate: its modules, what each hands on, and its arrows.
local function survey(source)
  local crate = { modules = {}, names = {}, globs = {}, defined = {}, arrows = {} }
  local codes = {}
  for _, inner in ipairs(files_of(source)) do
    local module = module_of(inner)
    crate.modules[#crate.modules + 1] = module
    crate.names[module], crate.globs[module], crate.defined[module] = {}, {}, {}
    codes[module] = code_of(read(source .. "/" .. inner))
  end
  local function exists(module) return crate.names[module] ~= nil end
  -- The module where a path ends; `from` is where it stands.
  local resolve
  function resolve(from, path, seen)
    local parts = split(path)
    local at, first = from, 1
    if parts[1] == "crate" then
      at, first = "", 2
    elseif parts[1] == "self" then
      first = 2
    else
      while parts[first] == "super" do
        at, first = parent(at), first + 1
      end
      if first == 1 and not exists(child(from, parts[1])) then return nil end
    end
    for index = first, #parts do
      local below = child(at, parts[index])
      if exists(below) then
        at = below
      else
        local handed = crate.names[at] and crate.names[at][parts[index]]
        local key = at .. " " .. parts[index]
        if handed and not seen[key] then
          seen[key] = true
          return resolve(at, handed, seen) or at
        end
        for _, glob in ipairs(crate.globs[at] or {}) do
          local below_glob = resolve(at, glob, seen)
          if below_glob and crate.defined[below_glob][parts[index]] then return below_glob end
        end
        return at
      end
    end
    return at
  end
  for module, code in pairs(codes) do
    for tree in code:gmatch("pub[%w_()%s]-use%s+([^;]+);") do
      expand("", tree, function(path, name)
        if name == "*" then
          table.insert(crate.globs[module], (path:gsub("::%*$", "")))
        else
          crate.names[module][name] = path
        end
      end)
    end
    for _, kind in ipairs { "fn", "struct", "enum", "const", "static", "trait", "type" } do
      for name in code:gmatch("%f[%w_]" .. kind .. "%s+([%w_]+)") do crate.defined[module][name] = true end
    end
  end
  for module, code in pairs(codes) do
    local targets = {}
    local function arrow(path)
      local target = resolve(module, path, {})
      if target and target ~= module then targets[target] = true end
    end
    for tree in code:gmatch("%f[%w]use%s+([^;]+);") do
      expand("", tree, function(path) arrow(path) end)
    end
    for path in code:gsub("%f[%w]use%s+[^;]+;", ""):gmatch("%f[%w_]([%l_][%w_]*::[%w_:]+)") do
      local first = path:match("^[%w_]+")
      if first == "crate" or first == "super" or first == "self" or exists(child(module, first)) then arrow(path) end
    end
    crate.arrows[module] = targets
  end
  table.sort(crate.modules)
  return crate
end

-- Tarjan's components with more than one module.
local function circles(crate)
  local index, low, on, stack, count, found = {}, {}, {}, {}, 0, {}
  local function visit(module)
    count = count + 1
    index[module], low[module], on[module] = count, count, true
    stack[#stack + 1] = module
    local targets = {}
    for target in pairs(crate.arrows[module]) do targets[#targets + 1] = target end
    table.sort(targets)
    for _, target in ipairs(targets) do
      if not index[target] then
        visit(target)
        low[module] = math.min(low[module], low[target])
      elseif on[target] then
        low[module] = math.min(low[module], index[target])
      end
    end
    if low[module] == index[module] then
      local ring = {}
      repeat
        local member = table.remove(stack)
        on[member] = nil
        ring[#ring + 1] = member == "" and "lib" or member
      until member == module
      if #ring > 1 then
        table.sort(ring)
        found[#found + 1] = table.concat(ring, ", ")
      end
    end
  end
  for _, module in ipairs(crate.modules) do
    if not index[module] then visit(module) end
  end
  table.sort(found)
  return found
end

local function drawing()
  local lines, rings = {}, {}
  for _, entry in ipairs(CRATES) do
    local name, source = entry[1], entry[2]
    local crate = survey(source)
    lines[#lines + 1] = name
    for _, module in ipairs(crate.modules) do
      local targets = {}
      for target in pairs(crate.arrows[module]) do targets[#targets + 1] = target == "" and "lib" or target end
      table.sort(targets)
      local arrow = #targets > 0 and " -> " .. table.concat(targets, ", ") or ""
      lines[#lines + 1] = "    " .. (module == "" and "lib" or module) .. arrow
    end
    for _, ring in ipairs(circles(crate)) do
      rings[#rings + 1] = name .. ": " .. ring
    end
  end
  return table.concat(lines, "\n"), rings
end

local way, page = ...
local picture, rings = drawing()
if not way then
  print(picture)
  for _, ring in ipairs(rings) do print("circle: " .. ring) end
  return
end
local text = read(page)
local first, last = text:find(BEGIN, 1, true), text:find(END, 1, true)
assert(first and last, page .. " has no marks for the drawing")
local block = BEGIN .. "\n```text\n" .. picture .. "\n```\n"
if way == "--write" then
  local file = assert(io.open(page, "w"))
  file:write(text:sub(1, first - 1), block, text:sub(last))
  file:close()
  return
end
local status = 0
if text:sub(first, last - 1) ~= block then
  io.stderr:write(page, ": the drawing is not that of the code: run scripts/modules.lua --write ", page, "\n")
  status = 1
end
for _, ring in ipairs(rings) do
  if not text:find(ring, 1, true) then
    io.stderr:write("a circle of modules that ", page, " does not name: ", ring, "\n")
    status = 1
  end
end
os.exit(status)
