//! The limits of the configuration's `[limits]`. Each is declared once: its name, its default and its range.
//! The struct that a front receives, and the table that the check of the configuration uses, are generated
//! from this declaration.

use luassl_keeper_ipc::admin::{HANDSHAKE_MS, Rates};
use serde::{Deserialize, Serialize};
use std::{ops::RangeInclusive, time::Duration};

/// Deadlines, in milliseconds. With less than 10 ms, no operation succeeds. The maximum is one day.
const DEADLINES: RangeInclusive<u32> = 10..=86_400_000;
/// Counts, unless a limit has a range of its own.
const COUNTS: RangeInclusive<u32> = 1..=1 << 30;
/// Bodies of control frames, in bytes. A context with its names must fit, and the allocation must be bounded.
const FRAME_BYTES: RangeInclusive<u32> = 16 << 10..=64 << 20;

/// The unit of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// Seconds in the configuration, with fractions; milliseconds in [`Limits`].
    Deadline,
    /// A number, the same in the configuration and in [`Limits`].
    Count,
}

/// One limit.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The key in `[limits]`.
    pub name: &'static str,
    /// The unit.
    pub kind: LimitKind,
    /// The values that are valid in the configuration, in the unit of [`Limits`].
    pub range: RangeInclusive<u32>,
    read: fn(&Limits) -> u32,
    write: fn(&mut Limits, u32),
}

impl Limit {
    /// Returns the limit with this name in the configuration.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Limits::ALL.iter().find(|limit| limit.name == name)
    }

    /// Returns the value in `limits`.
    #[must_use]
    pub fn get(&self, limits: &Limits) -> u32 {
        (self.read)(limits)
    }

    /// Sets the value in `limits`. The caller has checked the range.
    pub fn set(&self, limits: &mut Limits, value: u32) {
        (self.write)(limits, value);
    }

    /// Returns the value that applies if the configuration contains none.
    #[must_use]
    pub fn default_value(&self) -> u32 {
        self.get(&Limits::default())
    }

    /// Converts `value` to the configuration's unit.
    #[must_use]
    pub fn configured(&self, value: u32) -> f64 {
        match self.kind {
            LimitKind::Deadline => f64::from(value) / 1000.0,
            LimitKind::Count => value.into(),
        }
    }
}

/// Generates [`Limits`] and its table. A deadline is `key as field = default;`, a count is `key = default;`.
/// The addition `, in RANGE` before the semicolon replaces the range of counts.
macro_rules! limits {
    (@range) => { COUNTS };
    (@range $range:expr) => { $range };
    (
        deadlines { $($(#[$about:meta])* $key:ident as $field:ident = $deadline:expr;)* }
        counts { $($(#[$what:meta])* $count:ident = $number:expr $(, in $range:expr)?;)* }
    ) => {
        /// Deadlines in milliseconds, and counts. The configuration's `[limits]` has the same names; there,
        /// deadlines are in seconds.
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
        /// Deadline of a handshake, from the accepted or passed socket to its end.
        handshake as handshake_ms = HANDSHAKE_MS;
        /// Deadline of the complete first ClientHello of an accepted connection.
        client_hello as client_hello_ms = 5_000;
        /// Deadline of a shutdown, from the last progress of draining to the close of the TCP socket.
        shutdown as shutdown_ms = 5_000;
        /// Deadline of a control request, or of a request on a lock-step connection, from its first byte to
        /// its last.
        request as request_ms = 10_000;
        /// Deadline of a call to the keeper.
        keeper as keeper_ms = 5_000;
    }
    counts {
        /// Established connections of one owner.
        connections_per_owner = 10_000;
        /// Established connections of all owners together.
        connections = 50_000;
        /// Contexts of one owner.
        contexts_per_owner = 1_000;
        /// Contexts of all owners together.
        contexts = 10_000;
        /// Listeners of one owner.
        listeners_per_owner = 64;
        /// Listeners of all owners together.
        listeners = 256;
        /// Handshakes in progress for one owner.
        handshakes_per_owner = 1_024;
        /// Handshakes in progress for all owners together.
        handshakes = 4_096;
        /// Handshakes in progress on connections that one listener has accepted.
        handshakes_per_listener = 512;
        /// Handshakes in progress on connections that listeners of one owner have accepted from one source: an
        /// IPv4 address, or an IPv6 /64.
        // Half of a listener's limit: a single source never causes an early drop of another source's connections.
        handshakes_per_source = 256;
        /// Handshakes of one owner that may request a key from its program. Each needs its own thread.
        psk_handshakes_per_owner = 16;
        /// The same for all owners together.
        psk_handshakes = 64;
        /// Established connections of one owner's listeners that no program has accepted yet.
        undelivered_per_owner = 256;
        /// The same for all owners together.
        undelivered = 1_024;
        /// Control connections of one owner.
        control_connections_per_owner = 1_024;
        /// Control connections of all owners together.
        control_connections = 4_096;
        /// Control connections of all callers without a grant together. They do not count towards the limits
        /// above.
        ungranted_connections = 16;
        /// Bytes of one owner's requests that have not arrived completely, or are being answered.
        frame_bytes_in_flight_per_owner = 16 << 20;
        /// The same for all owners together.
        frame_bytes_in_flight = 48 << 20;
        /// Bytes of blobs (CA bundles, chains) kept for one owner.
        blob_bytes_per_owner = 8 << 20;
        /// Bytes of blobs kept for all owners together.
        blob_bytes = 64 << 20;
        /// Bytes that one owner's certificates and CRLs occupy after they were parsed.
        parsed_bytes_per_owner = 16 << 20;
        /// The same for all owners together.
        parsed_bytes = 512 << 20;
        /// Requests of one owner that wait to be parsed.
        parsing_jobs_per_owner = 256;
        /// CPU time for parsing for one owner, in seconds per minute.
        parsing_cpu_per_owner = 10;
        /// TLS sessions kept for one owner. Sessions of servers and of clients are counted separately.
        sessions_per_owner = 5_000;
        /// TLS sessions kept for all owners together, counted in the same way.
        sessions = 20_000;
        /// Signatures and pre-master secrets that the keeper computes for a front with one identity, per
        /// second.
        signatures_per_identity = Rates::default().identity;
        /// Requests for them that the keeper accepts from a front, per second.
        signatures_per_front = Rates::default().front;
        /// Body of a control frame, in bytes.
        frame_bytes = 1 << 20, in FRAME_BYTES;
    }
}

impl Limits {
    /// The range of counts that have no range of their own, and of the limits of a grant.
    pub const COUNTS: RangeInclusive<u32> = COUNTS;

    /// Returns the CPU time for parsing for one owner per minute.
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
        /// A value that is set can be read back, and no other limit changes.
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
