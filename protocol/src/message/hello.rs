//! The first request of a control connection, and its answer.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};
use std::fmt;

/// The maximum number of features in [`Hello`].
pub const MAX_FEATURES: usize = 64;
/// The maximum length of a feature's name in [`Hello`], in bytes.
pub const MAX_FEATURE: usize = 64;

/// First request of a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::VERSION`] of the client.
    pub version: u32,
    /// Features that the client supports, at most [`MAX_FEATURES`]; unknown ones are ignored.
    #[serde(default, deserialize_with = "bounded_features")]
    pub features: Vec<String>,
    /// The client's name and version, for the log: `luassl 0.1.0 (Lua 5.4)`.
    #[serde(default)]
    pub client: String,
}

/// Answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both sides will use.
    pub version: u32,
    /// Features of this front, such as `stream` and `lock_step`.
    #[serde(default)]
    pub features: Vec<String>,
    /// The daemon's name and version: `luassld 0.1.0`.
    pub server: String,
    /// The front's version of OpenSSL.
    pub openssl: String,
    /// The maximum size of a frame body that the front accepts, in bytes.
    pub frame_limit: u64,
}

/// Reads a list of features. Refuses a violation of the limits at once, not after reading the complete list.
fn bounded_features<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(Features)
}

struct Features;

impl<'de> Visitor<'de> for Features {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_FEATURES} features of at most {MAX_FEATURE} bytes each")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        // Check the announced length before reading elements.
        let mut features = Vec::new();
        if let Some(length) = list.size_hint().filter(|length| *length > MAX_FEATURES) {
            return Err(A::Error::invalid_length(length, &self));
        }
        while let Some(Feature(name)) = list.next_element()? {
            if features.len() == MAX_FEATURES {
                return Err(A::Error::invalid_length(MAX_FEATURES + 1, &self));
            }
            features.push(name);
        }
        Ok(features)
    }
}

/// The name of one feature.
struct Feature(String);

impl<'de> Deserialize<'de> for Feature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The name is borrowed if the complete frame is in memory, so a name above the limit is not copied.
        let name = <&str>::deserialize(deserializer)?;
        if name.len() > MAX_FEATURE {
            return Err(D::Error::invalid_length(name.len(), &Features));
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BadRequest, Request, from_body};

    fn hello(features: Vec<String>) -> Result<(u64, Request), BadRequest> {
        let hello = Request::Hello(Hello { version: 1, features, client: String::new() });
        let frame = hello.to_frame(7).unwrap();
        Request::decode(&frame[4..])
    }

    #[test]
    fn finding_4_the_features_of_hello_are_bounded() {
        let names = |count: usize, length: usize| vec!["f".repeat(length); count];
        // Positive control: the maximum number of names, with the maximum length.
        assert!(matches!(hello(names(64, 64)), Ok((7, Request::Hello(_)))));
        for features in [names(65, 1), names(1_000_000, 0), names(1, 65)] {
            let refused = hello(features).unwrap_err();
            assert_eq!(refused.id, Some(7));
            assert!(refused.to_string().contains("at most 64 features"), "{refused}");
        }
    }

    #[test]
    fn finding_4_the_features_of_hello_are_not_read_beyond_their_bound() {
        // {"version": 1, "features": [...]}, where the list announces a million elements and contains zero.
        let begin = b"\x82\xa7version\x01\xa8features";
        let cut_off = [&begin[..], b"\xdd\x00\x0f\x42\x40"].concat();
        let refused = from_body::<Hello>(&cut_off).unwrap_err();
        assert!(refused.to_string().contains("at most 64 features"), "{refused}");
        // Positive control: within the limit, the elements are read, and found to be missing.
        let cut_off = [&begin[..], b"\xdd\x00\x00\x00\x40"].concat();
        let refused = from_body::<Hello>(&cut_off).unwrap_err();
        assert!(!refused.to_string().contains("at most"), "{refused}");
    }
}
