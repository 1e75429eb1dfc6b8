//! One behaviour for each test, named for the promise that it checks. `make` has to come first.
fn main() {}
