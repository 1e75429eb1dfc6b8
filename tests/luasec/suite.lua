-- LuaSec's behaviour, asserted of LuaSec itself and of luassl: suite.lua PKI NAMES [ONLY], where PKI is that of
-- scripts/dev-pki.sh, and NAMES a certificate with alternative names of every kind.
local kit = require "kit"
require "contexts"
require "connections"
require "verification"
require "certificates"
require "psk"
require "dane"
kit.run(arg[3])
