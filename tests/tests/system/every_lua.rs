//! One test on each Lua.

/// Turns `fn name(lua: Lua)` into a module `name` with a test for each interpreter.
macro_rules! on_every_lua {
    ($($name:ident)*) => { $(
        mod $name {
            use luassl_tests::lua::{LUA51, LUA52, LUA53, LUA54, LUA55, LUAJIT};

            #[test]
            fn on_lua_5_1() { super::$name(LUA51) }
            #[test]
            fn on_lua_5_2() { super::$name(LUA52) }
            #[test]
            fn on_lua_5_3() { super::$name(LUA53) }
            #[test]
            fn on_lua_5_4() { super::$name(LUA54) }
            #[test]
            fn on_lua_5_5() { super::$name(LUA55) }
            #[test]
            fn on_luajit() { super::$name(LUAJIT) }
        }
    )* };
}
