use super::*;
#[test]
fn empty() {
    let l = load_text(Path::new("l.toml"), "", &Request::default());
    assert!(l.config.is_some());
}
