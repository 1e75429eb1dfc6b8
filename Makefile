# The one door to this repository. `make help` lists what it opens.
#
# Variables: OFFLINE=1 (never ask the network: packagers, and machines whose crates are fetched), DESTDIR= and
# PREFIX= (install), LUAS= (the Lua ABIs to build the module for), CARGO=.

CARGO      ?= cargo
PREFIX     ?= /usr/local
DESTDIR    ?=
LUAS       ?= 5.1 5.2 5.3 5.4 5.5 jit
UNITDIR    ?= $(PREFIX)/lib/systemd/system
SYSUSERS   ?= $(PREFIX)/lib/sysusers.d
TMPFILES   ?= $(PREFIX)/lib/tmpfiles.d

FLAGS      := --locked $(if $(OFFLINE),--offline)
BINARIES   := luassld luassl-keeper luasslctl
BUILD      := build
# 5.4 -> lua54, jit -> luajit: the features of the crate luassl-lua.
feature     = lua$(subst .,,$(1))

export CARGO FLAGS OFFLINE

.PHONY: all bin lua deps lint-deps demo-deps keyscan demo check fuzz fuzz-long test test-long bench lint install clean help tools weakened

.NOTPARALLEL:

all: bin lua ## build/bin and build/lua, release profile

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

bin:
	$(CARGO) build $(FLAGS) --release -p luassl-daemon -p luassl-keeper
	@mkdir -p $(BUILD)/bin
	@for name in $(BINARIES); do scripts/copy-changed target/release/$$name $(BUILD)/bin/$$name; done

lua: $(LUAS:%=lua-%)

# One target directory for all ABIs, so that what they share is built once; cargo writes every module to the same
# file, so each is copied before the next is built (.NOTPARALLEL).
lua-%:
	$(CARGO) build $(FLAGS) --release -p luassl-lua --features $(call feature,$*) --target-dir target/lua
	@mkdir -p $(BUILD)/lua/$*
	@scripts/copy-changed target/lua/release/libluassl_core.so $(BUILD)/lua/$*/luassl_core.so
	@scripts/copy-lua client-lua/lua $(BUILD)/lua/$*
	@mkdir -p $(BUILD)/lua/$*/luasec
	@scripts/copy-lua client-lua/luasec $(BUILD)/lua/$*/luasec

tools: # what tests and demo need beside the product: the key scanner and a Lua 5.5
	$(CARGO) build $(FLAGS) --release -p luassl-tests --bins --target-dir target/tools
	$(CARGO) build $(FLAGS) --release -p luassl-test-lua55 --target-dir target/tools
	@mkdir -p $(BUILD)/test
	@scripts/copy-changed target/tools/release/keyscan $(BUILD)/test/keyscan
	@scripts/copy-changed target/tools/release/attack $(BUILD)/test/attack
	@scripts/copy-changed target/tools/release/unanswered $(BUILD)/test/unanswered
	@scripts/copy-changed target/tools/release/lua55 $(BUILD)/test/lua5.5

keyscan: # the search for keys in the memory of processes, which the demo needs
	$(CARGO) build $(FLAGS) --release -p luassl-tests --bin keyscan --target-dir target/tools
	@mkdir -p $(BUILD)/test
	@scripts/copy-changed target/tools/release/keyscan $(BUILD)/test/keyscan

# Release builds refuse these features.
weakened: # builds that lack a protection or misbehave, for the tests of the protections
	@mkdir -p $(BUILD)/test
	$(CARGO) build $(FLAGS) -p luassl-keeper --features without-arena
	@scripts/copy-changed target/debug/luassl-keeper $(BUILD)/test/keeper-without-arena
	$(CARGO) build $(FLAGS) -p luassl-keeper -p luassl-daemon --bin luassl-keeper --bin luassld \
	    --features luassl-keeper/hostile,luassl-daemon/hostile
	@scripts/copy-changed target/debug/luassl-keeper $(BUILD)/test/keeper-hostile
	@scripts/copy-changed target/debug/luassld $(BUILD)/test/luassld-hostile

deps: ## Debian's packages, where one is missing (needs root or sudo)
	@scripts/deps

lint-deps:
	@scripts/deps lint

demo-deps:
	@scripts/deps demo

demo: demo-deps ## two Lua programs talk TLS; a scan finds the key in neither
	@$(MAKE) --no-print-directory bin lua-5.4 keyscan
	@demo/demo.sh

fuzz: ## SECONDS=60 TARGET=: each fuzz target, or one of them, for that long
	@scripts/fuzz $(or $(SECONDS),60) $(TARGET)

fuzz-long: ## each fuzz target for ten minutes
	@scripts/fuzz 600

check: all tools weakened ## unit tests and the short end-to-end tests
	@scripts/run-tests quick

test: deps ## every test; at most 20 minutes
	@$(MAKE) --no-print-directory all tools weakened
	@scripts/run-tests full

test-long: deps ## make test, then what takes longer
	@$(MAKE) --no-print-directory all tools weakened
	@scripts/run-tests long

bench: deps ## luassl beside Debian's LuaSec, in one run; BENCH='ROUNDS WORK...' for more rounds or less work
	@$(MAKE) --no-print-directory all
	$(CARGO) run $(FLAGS) --release -p luassl-bench --target-dir target/tools -- $(BENCH)

lint: lint-deps ## formatting, lints, licences, crate budgets, arrows between crates
	@scripts/lint

# What is built is not looked at again: root, who installs, need not have a cargo.
install: ## what `make` built, into $(DESTDIR)$(PREFIX)
	@[ -x $(BUILD)/bin/luassld ] || $(MAKE) --no-print-directory all
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' UNITDIR='$(UNITDIR)' SYSUSERS='$(SYSUSERS)' TMPFILES='$(TMPFILES)' \
	    LUAS='$(LUAS)' scripts/install

clean: ## forget what was built
	$(CARGO) clean
	rm -rf $(BUILD)
