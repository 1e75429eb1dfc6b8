#!/bin/sh
# The demo: LuaSSL's quickstart, two Lua processes that talk TLS through luassld, and a search for the private key in
# the memory of everybody who touches the network or runs Lua. Called by `make demo`.
set -eu
cd "$(dirname "$0")/.."

root=$PWD
work=$(mktemp -d "${TMPDIR:-/tmp}/luassl-demo.XXXXXX")
port=${PORT:-16001}
plain_port=$((port + 1))
lua=lua5.4
export LUASSL_SOCKET="$work/luassl.sock"
export LUA_PATH="$root/build/lua/5.4/?.lua;$root/demo/?.lua;;"
export LUA_CPATH="$root/build/lua/5.4/?.so;;"
started=

finish() {
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    for pid in $started; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

say() { printf '\n== %s\n' "$*"; }

fail() {
    printf 'demo: %s\n' "$*" >&2
    for log in daemon.log server.err client.err; do
        [ -s "$work/$log" ] && { printf -- '--- %s\n' "$log"; cat "$work/$log"; } >&2
    done
    exit 1
}

# wait_for WHAT COMMAND...: until the command succeeds, 20 seconds at most.
wait_for() {
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || fail "waited for $what in vain"
        sleep 0.1
    done
}

say "a development PKI"
scripts/dev-pki.sh "$work/pki"
openssl x509 -in "$work/pki/keys/server.pem" -noout -subject -issuer

say "the daemon: luassld run --identities keys"
cd "$work/pki"
"$root/build/bin/luassld" run --identities "$work/pki/keys" --socket "$LUASSL_SOCKET" \
    >"$work/daemon.out" 2>"$work/daemon.log" &
daemon=$!
started="$daemon"
wait_for "luassld's line ready" grep -qx ready "$work/daemon.out"
children=$(cat "/proc/$daemon/task/"*/children)
front= keeper=
for pid in $children; do
    case $(tr '\0' ' ' <"/proc/$pid/cmdline") in
    *luassl-keeper*) keeper=$pid ;;
    *front*) front=$pid ;;
    esac
done
[ -n "$front" ] && [ -n "$keeper" ] || fail "the supervisor has no front or no keeper"
echo "supervisor $daemon, front $front, keeper $keeper"

say "the quickstart's server: $lua -l luassl.classic server.lua"
$lua -l luassl.classic -l show "$root/examples/quickstart/server.lua" "$port" >"$work/server.out" 2>"$work/server.err" &
server=$!
started="$server $started"
listening() { grep -qi ":$(printf %04x "$port") .* 0A " /proc/net/tcp /proc/net/tcp6; }
wait_for "the server to listen on port $port" listening

say "the quickstart's client: $lua -l luassl.classic client.lua"
mkfifo "$work/lines"
$lua -l luassl.classic "$root/examples/quickstart/client.lua" "$port" <"$work/lines" 2>"$work/client.err" &
client=$!
started="$client $started"
exec 3>"$work/lines"
for line in "hello from the client" "a second line" "and a third"; do
    echo "  client: $line"
    echo "$line" >&3
done
wait_for "the lines to arrive" grep -q "and a third" "$work/server.out"
sed 's/^/  server: /' "$work/server.out"
cat "$work/server.err"

# search KEY PID: as far as the kernel lets a process of this user be looked into at all, the key is not in it.
search() {
    status=0
    "$root/build/test/keyscan" "$1" "$2" || status=$?
    case $status in
    0) ;;
    3) [ "$(id -u)" != 0 ] || fail "root was refused" ;;
    *) fail "the key was found, or the search could not be made" ;;
    esac
}

for key in server client; do
    say "a search for the private key of $key.pem in the memory of the Lua processes, the front and the keeper"
    "$root/build/test/keyscan" "keys/$key.pem" "$server" "$client" ||
        fail "the key was found, or the search could not be made"
    search "keys/$key.pem" "$front"
    # Where the kernel has no secret memory, root finds it in the keeper, and luassld check warns of that.
    [ "$(id -u)" = 0 ] && ! grep -q secretmem "/proc/$keeper/maps" || search "keys/$key.pem" "$keeper"
done

exec 3>&-
wait "$client" || fail "the client failed"
started="$server $daemon"

say "the same search in openssl s_server, which holds the key itself"
openssl s_server -quiet -accept "$plain_port" -cert keys/server.pem -key keys/server.pem >/dev/null 2>&1 &
peer=$!
started="$peer $started"
wait_for "openssl s_server" openssl s_client -connect "localhost:$plain_port" -CAfile keys/rootcert.pem
if "$root/build/test/keyscan" keys/server.pem "$peer"; then
    fail "the search finds nothing where the key is: it proves nothing"
fi

if [ "$(id -u)" = 0 ]; then
    say "done: both Lua programs used TLS without the key; the front does not have it either"
else
    say "done: both Lua programs used TLS without the key; the kernel does not let you read front and keeper"
fi
