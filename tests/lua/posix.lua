-- What plain Lua lacks and the tests need: poll, fork and the like, through LuaJIT's ffi.
local ffi = require "ffi"

ffi.cdef [[
struct pollfd { int fd; short events; short revents; };
int poll(struct pollfd *fds, unsigned long count, int timeout);
int fork(void);
int getpid(void);
int prctl(int option, unsigned long argument, ...);
int fcntl(int fd, int command, ...);
int open(const char *path, int flags, ...);
int mkfifo(const char *path, unsigned mode);
int dup(int fd);
int close(int fd);
int pause(void);
int pipe(int fds[2]);
int setuid(unsigned uid);
]]

local posix = {}
local POLLIN, POLLHUP_ERR = 1, 0x18
local PR_SET_PDEATHSIG, SIGKILL = 1, 9
local F_GETFL, F_SETFL, O_NONBLOCK = 3, 4, 2048

--- Waits until one of `objects` (with a method getfd) is readable; gives a list of those that are.
function posix.poll(objects, milliseconds)
  local count = #objects
  local fds = ffi.new("struct pollfd[?]", count)
  for n = 1, count do
    fds[n - 1].fd = assert(objects[n]:getfd())
    fds[n - 1].events = POLLIN
  end
  local ready = {}
  if ffi.C.poll(fds, count, milliseconds or -1) <= 0 then return ready end
  for n = 1, count do
    if bit.band(fds[n - 1].revents, POLLIN + POLLHUP_ERR) ~= 0 then ready[#ready + 1] = objects[n] end
  end
  return ready
end

--- A child process that runs `body` and is killed with its parent.
function posix.fork(body)
  local pid = ffi.C.fork()
  assert(pid >= 0, "fork failed")
  if pid > 0 then return pid end
  ffi.C.prctl(PR_SET_PDEATHSIG, ffi.cast("unsigned long", SIGKILL))
  local ok, message = pcall(body)
  if not ok then io.stderr:write(tostring(message), "\n") end
  os.exit(ok and 0 or 1)
end

function posix.pid()
  return ffi.C.getpid()
end

--- Makes a descriptor's reads and writes wait, for everybody who shares its open file.
function posix.make_blocking(fd)
  local flags = ffi.C.fcntl(fd, F_GETFL)
  assert(ffi.C.fcntl(fd, F_SETFL, ffi.cast("int", bit.band(flags, bit.bnot(O_NONBLOCK)))) == 0)
end

--- A descriptor of a new FIFO that nobody writes to.
function posix.fifo(path)
  assert(ffi.C.mkfifo(path, 384) == 0)
  local O_RDWR = 2
  return ffi.C.open(path, O_RDWR)
end

--- A descriptor of a file.
function posix.open(path)
  return ffi.C.open(path, 0)
end

function posix.dup(fd)
  return ffi.C.dup(fd)
end

function posix.pause()
  ffi.C.pause()
end

return posix
