-- What the program `busted` is, for whichever interpreter runs it.
require "busted.runner" { standalone = false }
