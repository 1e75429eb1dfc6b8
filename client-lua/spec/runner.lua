-- The `busted` program, for the interpreter that runs this file.
require "busted.runner" { standalone = false }
