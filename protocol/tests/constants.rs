//! The constants keep their values for ever, and the sums that programs make of them are safe.
#![allow(clippy::unwrap_used)]

use luassl_protocol::{
    Constant, OPTIONS, VERIFY, option_names, option_sum, sum_from_number, verify_names, verify_sum,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// The live ones of LuaSSL 1.0.
const LUASSL_LIVE: &[&str] = &[
    "OP_ALL",
    "OP_DONT_INSERT_EMPTY_FRAGMENTS",
    "OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION",
    "OP_CIPHER_SERVER_PREFERENCE",
    "OP_TLS_ROLLBACK_BUG",
    "OP_NO_SSLv3",
    "OP_NO_TLSv1",
];

const ALL_MEMBERS: &[&str] = &[
    "OP_CRYPTOPRO_TLSEXT_BUG",
    "OP_DONT_INSERT_EMPTY_FRAGMENTS",
    "OP_TLSEXT_PADDING",
    "OP_SAFARI_ECDHE_ECDSA_BUG",
];

const SSL_MASK_MEMBERS: &[&str] =
    &["OP_NO_SSLv3", "OP_NO_TLSv1", "OP_NO_TLSv1_1", "OP_NO_TLSv1_2", "OP_NO_TLSv1_3"];

const DTLS_MASK_MEMBERS: &[&str] = &["OP_NO_DTLSv1", "OP_NO_DTLSv1_2"];

const GROUPS: &[(&str, &[&str])] =
    &[("OP_ALL", ALL_MEMBERS), ("OP_NO_SSL_MASK", SSL_MASK_MEMBERS), ("OP_NO_DTLS_MASK", DTLS_MASK_MEMBERS)];

/// What makes TLS weaker than its default.
const WEAKENING: &[&str] = &[
    "OP_TLS_ROLLBACK_BUG",
    "OP_LEGACY_SERVER_CONNECT",
    "OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION",
    "OP_ALLOW_CLIENT_RENEGOTIATION",
    "OP_IGNORE_UNEXPECTED_EOF",
    "OP_NO_EXTENDED_MASTER_SECRET",
    "OP_NO_ENCRYPT_THEN_MAC",
    "OP_NO_ANTI_REPLAY",
    "OP_ALLOW_NO_DHE_KEX",
    "OP_PREFER_NO_DHE_KEX",
    "OP_LEGACY_EC_POINT_FORMATS",
];

fn value(name: &str) -> u64 {
    OPTIONS.iter().find(|constant| constant.name == name).unwrap().value
}

fn live() -> impl Iterator<Item = &'static Constant> {
    OPTIONS.iter().filter(|constant| constant.value != 0)
}

fn names_of(sum: u64) -> BTreeSet<&'static str> {
    option_names(sum).unwrap().collect()
}

#[test]
fn the_table_is_frozen() {
    let table: String = OPTIONS
        .iter()
        .chain(VERIFY)
        .map(|constant| format!("{} {}\n", constant.name, constant.value))
        .collect();
    assert_eq!(table, include_str!("constants.snapshot"), "a value that was once given never changes");
}

#[test]
fn each_live_option_has_one_bit_of_its_own_below_two_to_the_53rd() {
    let mut taken = BTreeMap::new();
    for constant in live() {
        assert!(constant.value.is_power_of_two(), "{}", constant.name);
        assert!(constant.value < 1 << 53, "{}", constant.name);
        assert_eq!(taken.insert(constant.value, constant.name), None, "{}", constant.name);
    }
    assert_eq!(OPTIONS.iter().map(|c| c.name).collect::<BTreeSet<_>>().len(), OPTIONS.len());
}

#[test]
fn luassls_own_live_ones_are_safe_for_luajits_bit_operations() {
    for name in LUASSL_LIVE {
        assert!(value(name) > 0 && value(name) < 1 << 31, "{name}");
    }
}

#[test]
fn a_group_takes_its_members_in_addition_and_refuses_them_in_subtraction() {
    for (group, members) in GROUPS {
        for member in *members {
            let sum = value(group) + value(member);
            assert_eq!(names_of(sum), BTreeSet::from([*group, *member]));
            let difference = value(group) as f64 - value(member) as f64;
            assert!(sum_from_number(difference).is_err(), "{group} - {member}");
        }
    }
}

#[test]
fn a_member_taken_away_from_a_group_beside_any_other_option_is_refused() {
    for (group, members) in GROUPS {
        for member in *members {
            for other in live().filter(|other| other.name != *group && !members.contains(&other.name)) {
                let sum = (value(group) + other.value) as f64 - value(member) as f64;
                let refused = sum_from_number(sum).map_or(true, |sum| option_names(sum).is_err());
                assert!(refused, "{group} + {} - {member}", other.name);
            }
        }
    }
}

#[test]
fn a_harmless_option_added_twice_never_weakens() {
    for constant in live().filter(|constant| !WEAKENING.contains(&constant.name)) {
        if let Ok(names) = option_names(constant.value * 2) {
            for name in names {
                assert!(!WEAKENING.contains(&name), "{} twice is {name}", constant.name);
            }
        }
    }
}

#[test]
fn a_group_added_twice_is_refused() {
    for (group, _) in GROUPS {
        assert!(option_names(value(group) * 2).is_err(), "{group}");
    }
}

#[test]
fn sums_of_every_pair_are_read_back() {
    for one in live() {
        for two in live().filter(|two| two.name != one.name) {
            assert_eq!(names_of(one.value + two.value), BTreeSet::from([one.name, two.name]));
        }
    }
}

#[test]
fn luassls_default_is_read_back() {
    assert_eq!(names_of(value("OP_ALL") + value("OP_NO_SSLv2")), BTreeSet::from(["OP_ALL"]));
}

#[test]
fn an_unknown_bit_is_refused_by_name() {
    let error = option_names(1 << 28).map(|_| ()).unwrap_err();
    assert_eq!((error.bit, error.nearest), (28, "OP_DONT_INSERT_EMPTY_FRAGMENTS"));
    assert_eq!(
        error.to_string(),
        "268435456 is not a sum of OP_ constants: no constant has bit 28 (268435456), the nearest is \
         OP_DONT_INSERT_EMPTY_FRAGMENTS; add each constant once, or use a list of names"
    );
}

#[test]
fn openssl_1_0s_op_all_is_refused() {
    assert!(option_names(0x8000_0BFF).is_err());
    assert!(option_names(4095).is_err());
}

#[test]
fn numbers_that_are_no_sums_are_refused() {
    for number in [-1.0, 0.5, f64::NAN, f64::INFINITY, 9_007_199_254_740_992.0] {
        assert!(sum_from_number(number).is_err(), "{number}");
    }
    assert_eq!(sum_from_number(9_007_199_254_740_991.0).unwrap(), (1 << 53) - 1);
    assert_eq!(
        sum_from_number(-134_217_727.0).unwrap_err().to_string(),
        "-134217727 is not a sum of constants (constants cannot be subtracted from OP_ALL or another group); use \
         a list of names"
    );
}

#[test]
fn names_are_taken_in_three_spellings() {
    let expected = value("OP_NO_SSLv3") + value("OP_ALL");
    for spelling in [["OP_NO_SSLv3", "OP_ALL"], ["NO_SSLv3", "ALL"], ["no_sslv3", "all"]] {
        assert_eq!(option_sum(spelling).unwrap(), expected);
    }
    assert_eq!(option_sum(["no_sslv2", "all", "all"]).unwrap(), value("OP_ALL"));
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    let error = option_sum(["no_slv3"]).unwrap_err();
    assert_eq!(error.to_string(), "unknown OP_ constant \"no_slv3\"; the nearest is OP_NO_SSLv3");
    assert_eq!(verify_sum(["pear"]).unwrap_err().nearest, "VERIFY_PEER");
    assert!(option_sum(["Op_All"]).is_err());
    assert!(option_sum([&"x".repeat(1 << 20)]).is_err());
}

#[test]
fn verify_sums() {
    let peer_and_fail = verify_sum(["VERIFY_PEER", "VERIFY_FAIL_IF_NO_PEER_CERT"]).unwrap();
    assert_eq!(verify_sum(["peer", "fail_if_no_peer_cert"]).unwrap(), peer_and_fail);
    assert_eq!(verify_sum(["PEER", "FAIL_IF_NO_PEER_CERT"]).unwrap(), peer_and_fail);
    assert_eq!(
        verify_names(peer_and_fail).unwrap().collect::<Vec<_>>(),
        ["VERIFY_PEER", "VERIFY_FAIL_IF_NO_PEER_CERT"]
    );
    assert_eq!(verify_sum(["none"]).unwrap(), 0);
    assert_eq!(verify_names(0).unwrap().count(), 0);
}

#[test]
fn a_verify_constant_added_twice_is_refused() {
    for constant in VERIFY.iter().filter(|constant| constant.value != 0) {
        assert!(verify_names(constant.value * 2).is_err(), "{}", constant.name);
    }
}

proptest! {
    #[test]
    fn any_sum_is_read_back_or_refused(sum in any::<u64>()) {
        if let Ok(names) = option_names(sum) {
            prop_assert_eq!(option_sum(names).unwrap(), sum);
        }
    }

    #[test]
    fn any_choice_of_options_is_read_back(choice in any::<u64>()) {
        let chosen: Vec<_> = live().enumerate().filter(|(i, _)| choice >> i & 1 == 1).map(|(_, c)| c).collect();
        let sum: u64 = chosen.iter().map(|constant| constant.value).sum();
        prop_assert_eq!(names_of(sum), chosen.iter().map(|constant| constant.name).collect::<BTreeSet<_>>());
    }
}

#[test]
fn the_manual_has_every_constant() {
    let manual = include_str!("../../docs/manual.md");
    for constant in OPTIONS.iter().chain(VERIFY) {
        assert!(manual.contains(&format!("`{}`", constant.name)), "{}", constant.name);
    }
}
