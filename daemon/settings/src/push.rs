//! The push to a front: one datagram with the settings in a memory file, followed by the listeners' sockets.
//! The module also defines the front's answer.

use crate::error::MessageError;
use crate::settings::Settings;
use luassl_keeper_ipc::transport;
use rustix::fs::{FileType, MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// The maximum size of the settings as MessagePack, in bytes. It suffices for thousands of identities and
/// some hundred CA bundles.
const MAX_SETTINGS: u64 = 64 << 20;
/// The maximum size of the datagram of a push, and of its answer, in bytes. A receive buffer of this size
/// never truncates one.
pub const MAX_MESSAGE: usize = 64 << 10;
/// The maximum number of descriptors in a push.
pub const MAX_DESCRIPTORS: usize = transport::DESCRIPTORS_MAX;
/// The maximum number of faults in an answer, and of warnings. The others are only counted.
const MAX_FAULTS: usize = 64;
/// The maximum length of one fault or warning, in bytes. All of them together fit into the datagram.
const MAX_FAULT: usize = 490;
/// The version of the push that this code implements. The supervisor and the front are from one package.
const VERSION: u32 = 1;

/// The data of the message with the descriptors: the memory file first, then one socket for each name.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    listeners: Vec<String>,
}

/// A push as the front receives it.
#[derive(Debug)]
pub struct Push {
    /// The settings.
    pub settings: Settings,
    /// Listening sockets that the front has not received before, by the name of their listener.
    pub listeners: Vec<(String, OwnedFd)>,
}

/// A front's answer to a push. The settings are in force, except for the faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushReply {
    /// The parts that could not be used, in readable form.
    pub faults: Vec<String>,
    /// Messages for the operator about settings that are in force: objects that were closed because no grant
    /// allows them any longer.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl PushReply {
    /// Returns the answer to a push that is not in force.
    #[must_use]
    pub fn faulty(fault: String) -> Self {
        Self { faults: vec![fault], warnings: Vec::new() }
    }

    /// Decodes an answer from its datagram.
    ///
    /// # Errors
    /// Returns [`MessageError::Malformed`] if it is not an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let reply: Self = rmp_serde::from_slice(bytes).map_err(malformed)?;
        // A front processes data from the network. Its answer is not trusted.
        let bounded =
            |texts: &[String]| texts.iter().take(MAX_FAULTS + 1).map(|text| cut_text(text)).collect();
        Ok(Self { faults: bounded(&reply.faults), warnings: bounded(&reply.warnings) })
    }

    /// Encodes the answer as a datagram, truncated to the limits.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let reply = Self { faults: cut(&self.faults), warnings: cut(&self.warnings) };
        // The answer contains only texts, so the encoding cannot fail. An empty datagram would be malformed,
        // not lost.
        rmp_serde::to_vec_named(&reply).unwrap_or_default()
    }
}

/// Truncates the texts to the limits on their number and length.
fn cut(texts: &[String]) -> Vec<String> {
    let mut cut: Vec<String> = texts.iter().take(MAX_FAULTS).map(|text| cut_text(text)).collect();
    if let Some(more) = texts.len().checked_sub(MAX_FAULTS).filter(|more| *more > 0) {
        cut.push(format!("and {more} more"));
    }
    cut
}

fn cut_text(text: &str) -> String {
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_FAULT).last().unwrap_or(0);
    if text.len() <= MAX_FAULT { text.to_owned() } else { text[..end].to_owned() }
}

/// Returns the datagram of a push, and the memory file that comes first among its descriptors. The sockets of
/// `listeners` follow in the same order.
///
/// # Errors
/// Returns [`MessageError`] if the settings are too large, or if the system cannot create a memory file.
pub fn encode_push(settings: &Settings, listeners: Vec<String>) -> Result<(Vec<u8>, OwnedFd), MessageError> {
    let memory = memory_file(settings)?;
    let header = encode(&Header { version: VERSION, listeners })?;
    if header.len() > MAX_MESSAGE {
        return Err(MessageError::TooLarge { what: "the list of listeners", limit: MAX_MESSAGE as u64 });
    }
    Ok((header, memory.into()))
}

/// Decodes the result of [`encode_push`]: a datagram's bytes (at most 64 KiB) and the descriptors that came
/// with it.
///
/// # Errors
/// Returns [`MessageError`] if the datagram is not a push of this version, or if its memory file cannot be
/// read.
pub fn receive_settings(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Push, MessageError> {
    let header: Header = rmp_serde::from_slice(bytes).map_err(malformed)?;
    if header.version != VERSION {
        return Err(MessageError::Malformed(format!("version {} of the push is not spoken", header.version)));
    }
    let mut descriptors = descriptors.into_iter();
    let memory =
        descriptors.next().ok_or_else(|| MessageError::Malformed("no settings came along".to_owned()))?;
    if descriptors.len() != header.listeners.len() {
        return Err(MessageError::Malformed("a socket for each listener did not come along".to_owned()));
    }
    let settings = rmp_serde::from_slice(&read_whole(memory)?).map_err(malformed)?;
    Ok(Push { settings, listeners: header.listeners.into_iter().zip(descriptors).collect() })
}

fn malformed(error: impl std::fmt::Display) -> MessageError {
    MessageError::Malformed(error.to_string())
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, MessageError> {
    rmp_serde::to_vec_named(value).map_err(malformed)
}

/// Writes the settings to a memory file and seals it against changes.
fn memory_file(settings: &Settings) -> Result<File, MessageError> {
    let bytes = encode(settings)?;
    if bytes.len() as u64 > MAX_SETTINGS {
        return Err(MessageError::TooLarge { what: "the settings of a front", limit: MAX_SETTINGS });
    }
    let mut file =
        File::from(memfd_create("luassl-settings", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(&bytes).map_err(system)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}

fn read_whole(memory: OwnedFd) -> Result<Vec<u8>, MessageError> {
    let status = fstat(&memory)?;
    let size = u64::try_from(status.st_size).unwrap_or(u64::MAX);
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(MessageError::Malformed("the settings are in no file".to_owned()));
    }
    if size > MAX_SETTINGS {
        return Err(MessageError::TooLarge { what: "the settings of a front", limit: MAX_SETTINGS });
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    File::from(memory).read_exact_at(&mut bytes, 0).map_err(system)?;
    Ok(bytes)
}

fn system(error: std::io::Error) -> MessageError {
    MessageError::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_without_its_sockets_is_refused() {
        let header = encode(&Header { version: VERSION, listeners: vec!["a".into()] }).expect("encoded");
        let memory = || OwnedFd::from(memory_file(&Settings::default()).expect("a memory file"));
        assert!(matches!(receive_settings(&header, vec![memory()]), Err(MessageError::Malformed(_))));
        assert!(matches!(receive_settings(&header, vec![]), Err(MessageError::Malformed(_))));
        assert!(matches!(receive_settings(b"\xc1", vec![memory()]), Err(MessageError::Malformed(_))));
        let (pipe, _other) = rustix::pipe::pipe().expect("a pipe");
        let none = encode(&Header { version: VERSION, listeners: vec![] }).expect("encoded");
        assert!(matches!(receive_settings(&none, vec![pipe]), Err(MessageError::Malformed(_))));
        assert!(receive_settings(&none, vec![memory()]).is_ok());
    }

    #[test]
    fn an_answer_of_any_size_fits() {
        let texts = vec!["ü".repeat(100_000); 1_000];
        let reply = PushReply { faults: texts.clone(), warnings: texts }.encode();
        assert!(reply.len() <= MAX_MESSAGE);
        let read = PushReply::decode(&reply).expect("well-formed");
        assert_eq!(read.faults.last().map(String::as_str), Some("and 936 more"));
        let flood = PushReply { faults: vec!["x".repeat(1_000); 20], warnings: vec![String::new(); 5_000] };
        let flood = rmp_serde::to_vec_named(&flood).expect("written");
        let read = PushReply::decode(&flood).expect("read");
        assert_eq!((read.faults[0].len(), read.warnings.len()), (MAX_FAULT, MAX_FAULTS + 1));
    }
}
