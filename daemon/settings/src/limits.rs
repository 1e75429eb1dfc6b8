//! The limits of the configuration's `[limits]`, each declared once: its name, its default and its range. The struct
//! that a front receives and the table that the configuration's check goes through are made from this declaration.

use luassl_keeper_ipc::admin::{HANDSHAKE_MS, Rates};
use serde::{Deserialize, Serialize};
use std::{ops::RangeInclusive, time::Duration};

/// Deadlines, in milliseconds. Below 10 ms nothing succeeds; none is longer than a day.
const DEADLINES: RangeInclusive<u32> = 10..=86_400_000;
/// Counts, unless a limit has a range of its own.
const COUNTS: RangeInclusive<u32> = 1..=1 << 30;
/// Bodies of control frames, in bytes: a context with its names must fit, in a bounded allocation.
const FRAME_BYTES: RangeInclusive<u32> = 16 << 10..=64 << 20;

/// The unit of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Seconds in the configuration, with fractions; milliseconds in [`Limits`].
    Deadline,
    /// A number, the same in both.
    Count,
}

/// One limit.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The key in `[limits]`.
    pub name: &'static str,
    /// The unit.
    pub kind: LimitKind,
    /// The values that the configuration may give, in the unit of [`Limits`].
    pub range: RangeInclusive<u32>,
    read: fn(&Limits) -> u32,
    write: fn(&mut Limits, u32),
}

impl Limit {
    /// The limit that the configuration calls `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Limits::ALL.iter().find(|limit| limit.name == name)
    }

    /// The value in `limits`.
    #[must_use]
    pub fn get(&self, limits: &Limits) -> u32 {
        (self.read)(limits)
    }

    /// Changes the value in `limits`. The caller has checked the range.
    pub fn set(&self, limits: &mut Limits, value: u32) {
        (self.write)(limits, value);
    }

    /// The value where the configuration gives none.
    #[must_use]
    pub fn default_value(&self) -> u32 {
        self.get(&Limits::default())
    }

    /// `value` in the configuration's unit.
    #[must_use]
    pub fn configured(&self, value: u32) -> f64 {
        match self.kind {
            LimitKind::Deadline => f64::from(value) / 1000.0,
            LimitKind::Count => value.into(),
        }
    }
}

/// Generates [`Limits`] and its table. A deadline is `key as field = default;`, a count is `key = default;`, where
/// `, in RANGE` before the semicolon replaces the range of counts.
macro_rules! limits {
    (@range) => { COUNTS };
    (@range $range:expr) => { $range };
    (
        deadlines { $($(#[$about:meta])* $key:ident as $field:ident = $deadline:expr;)* }
        counts { $($(#[$what:meta])* $count:ident = $number:expr $(, in $range:expr)?;)* }
    ) => {
        /// Deadlines in milliseconds, and bounds. The configuration's `[limits]` has the same names; there, deadlines
        /// are in seconds.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Limits {
            $($(#[$about])* pub $field: u32,)*
            $($(#[$what])* pub $count: u32,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $deadline,)* $($count: $number,)* }
            }
        }

        impl Limits {
            /// Every limit.
            pub const ALL: &'static [Limit] = &[
                $(Limit {
                    name: stringify!($key),
                    kind: LimitKind::Deadline,
                    range: DEADLINES,
                    read: |limits| limits.$field,
                    write: |limits, value| limits.$field = value,
                },)*
                $(Limit {
                    name: stringify!($count),
                    kind: LimitKind::Count,
                    range: limits!(@range $($range)?),
                    read: |limits| limits.$count,
                    write: |limits, value| limits.$count = value,
                },)*
            ];
            /// The names of [`Self::ALL`], in the same order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($key),)* $(stringify!($count),)*];

            $($(#[$about])* #[must_use]
            pub fn $key(&self) -> Duration {
                Duration::from_millis(self.$field.into())
            })*
        }
    };
}

limits! {
    deadlines {
        /// A handshake, from the accepted or passed socket to its end.
        handshake as handshake_ms = HANDSHAKE_MS;
        /// The first ClientHello of an accepted connection, whole.
        client_hello as client_hello_ms = 5_000;
        /// A shutdown: from the last progress of draining to the close of the TCP socket.
        shutdown as shutdown_ms = 5_000;
        /// A control request, and a question on a lock-step connection, from its first byte to its last.
        request as request_ms = 10_000;
        /// A call to the keeper.
        keeper as keeper_ms = 5_000;
    }
    counts {
        /// Established connections of one owner.
        connections_per_owner = 10_000;
        /// Established connections in all.
        connections = 50_000;
        /// Contexts of one owner.
        contexts_per_owner = 1_000;
        /// Contexts in all.
        contexts = 10_000;
        /// Listeners of one owner.
        listeners_per_owner = 64;
        /// Listeners in all.
        listeners = 256;
        /// Handshakes under way for one owner.
        handshakes_per_owner = 1_024;
        /// Handshakes under way in all.
        handshakes = 4_096;
        /// Handshakes under way of connections that one listener has accepted.
        handshakes_per_listener = 512;
        /// Handshakes under way of connections that listeners of one owner have accepted from one source: an IPv4
        /// address, or a /64 of IPv6.
        // Half of a listener's: one source alone never brings another's connections to an early drop.
        handshakes_per_source = 256;
        /// Handshakes of one owner that may ask its program for a key, each on a thread of its own.
        psk_handshakes_per_owner = 16;
        /// The same in all.
        psk_handshakes = 64;
        /// Finished connections of one owner's listeners that nobody has taken.
        undelivered_per_owner = 256;
        /// Finished connections that nobody has taken, in all.
        undelivered = 1_024;
        /// Control connections of one owner.
        control_connections_per_owner = 1_024;
        /// Control connections in all.
        control_connections = 4_096;
        /// Control connections of all callers without a grant together; they are none of the ones above.
        ungranted_connections = 16;
        /// Bytes of requests of one owner that have not come whole, or are being answered.
        frame_bytes_in_flight_per_owner = 16 << 20;
        /// The same in all.
        frame_bytes_in_flight = 48 << 20;
        /// Bytes of blobs (CA bundles, chains) kept for one owner.
        blob_bytes_per_owner = 8 << 20;
        /// Bytes of blobs kept in all.
        blob_bytes = 64 << 20;
        /// Bytes that one owner's certificates and CRLs take once they are parsed.
        parsed_bytes_per_owner = 16 << 20;
        /// The same in all.
        parsed_bytes = 512 << 20;
        /// Requests of one owner that wait to be parsed.
        parsing_jobs_per_owner = 256;
        /// CPU time that parsing for one owner takes, in seconds a minute.
        parsing_cpu_per_owner = 10;
        /// TLS sessions kept for one owner, those of servers and those of clients each.
        sessions_per_owner = 5_000;
        /// TLS sessions kept in all, likewise.
        sessions = 20_000;
        /// Signatures and pre-master secrets that the keeper makes for a front with one identity, a second.
        signatures_per_identity = Rates::default().identity;
        /// Requests for them that it hears from a front, a second.
        signatures_per_front = Rates::default().front;
        /// Body of a control frame, in bytes.
        frame_bytes = 1 << 20, in FRAME_BYTES;
    }
}

impl Limits {
    /// The range of counts without one of their own, and of a grant's bounds.
    pub const COUNTS: RangeInclusive<u32> = COUNTS;

    /// The CPU time that parsing for one owner takes in a minute.
    #[must_use]
    pub fn parsing_cpu(&self) -> Duration {
        Duration::from_secs(self.parsing_cpu_per_owner.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_there_once() {
        let names: BTreeSet<_> = Limits::NAMES.iter().collect();
        assert_eq!(names.len(), Limits::ALL.len());
        assert!(Limits::ALL.iter().map(|limit| &limit.name).eq(Limits::NAMES));
    }

    /// The table has an entry for each field, in the order of the encoding.
    #[test]
    fn every_field_has_its_limit() {
        let mut limits = Limits::default();
        for (number, limit) in (1..).zip(Limits::ALL) {
            limit.set(&mut limits, number);
        }
        let encoded = rmp_serde::to_vec(&limits).expect("encoded");
        let fields: Vec<u32> = rmp_serde::from_slice(&encoded).expect("a list of numbers");
        assert!((1..).take(Limits::ALL.len()).eq(fields));
    }

    #[test]
    fn every_default_is_in_its_range() {
        for limit in Limits::ALL {
            assert!(limit.range.contains(&limit.default_value()), "{}", limit.name);
        }
    }

    #[test]
    fn deadlines_are_configured_in_seconds() {
        let configured = |name, value| Limit::named(name).expect("a limit").configured(value).to_string();
        assert_eq!(configured("handshake", 2_500), "2.5");
        assert_eq!(configured("frame_bytes", 1 << 20), "1048576");
        assert_eq!(Limits { handshake_ms: 2_500, ..Limits::default() }.handshake().as_millis(), 2_500);
    }

    #[test]
    fn an_unknown_name_has_no_limit() {
        assert!(Limit::named("handshake_ms").is_none());
    }

    proptest! {
        /// What is set is there afterwards, and no other limit has changed.
        #[test]
        fn a_limit_changes_alone(at in 0..Limits::ALL.len(), value: u32) {
            let mut limits = Limits::default();
            Limits::ALL[at].set(&mut limits, value);
            for (other, limit) in Limits::ALL.iter().enumerate() {
                let expected = if other == at { value } else { limit.default_value() };
                prop_assert_eq!(limit.get(&limits), expected, "{}", limit.name);
            }
        }
    }
}
