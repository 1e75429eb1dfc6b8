//! Builds Lua 5.5 and links all of it, exported, so that C modules find its API in the executable.

fn main() {
    let artifacts = lua_src::Build::new().build(lua_src::Lua55);
    println!("cargo:rustc-link-search=native={}", artifacts.lib_dir().display());
    for library in artifacts.libs() {
        println!("cargo:rustc-link-lib=static:+whole-archive={library}");
    }
    println!("cargo:rustc-link-lib=dl");
    println!("cargo:rustc-link-lib=m");
    println!("cargo:rustc-link-arg-bins=-rdynamic");
    println!("cargo:rerun-if-changed=build.rs");
}
