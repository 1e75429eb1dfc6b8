//! The question for a key that two peers share, which comes in the middle of a handshake: libssl waits for its answer, and
//! so does the thread, which is this handshake's own.

use super::super::{closing, quota::Account};
use super::session::{encode, invalid_frame};
use super::whole;
use luassl_keeper_ipc::transport::{self, DESCRIPTORS_MAX, Received, RecvError};
use luassl_protocol::{
    FRAME_HEADER, LockStepAnswer, LockStepRequest, LockStepState, MAX_PSK, MAX_PSK_IDENTITY, PskKey,
    PskQuestion, Secret,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, send},
};
use std::{os::fd::OwnedFd, time::Instant};
use zeroize::Zeroizing;

/// Room for an answer, which is short: a name and a key.
const ROOM: usize = MAX_PSK + MAX_PSK_IDENTITY + 256;

/// Whom a handshake asks, and until when.
pub(super) struct Asking {
    /// A copy of the socket to the program.
    pub(super) lua: OwnedFd,
    pub(super) until: Instant,
    /// On which descriptors are closed that the program sends.
    pub(super) account: Account,
}

impl Asking {
    /// Asks, and waits; `None` where there is no key, and where nobody answers in time.
    pub(super) fn ask(&self, question: PskQuestion) -> Option<PskKey> {
        let need = LockStepAnswer { psk: Some(question), ..LockStepAnswer::new(LockStepState::NeedPsk) };
        let need = encode(&need);
        let mut answer = Zeroizing::new([0; ROOM]);
        let mut reply = need.clone();
        loop {
            self.send(&reply)?;
            let body = self.receive(&mut answer)?;
            match LockStepRequest::decode(body) {
                Ok(LockStepRequest::Psk { identity, key }) => {
                    let identity = identity.unwrap_or_default().to_vec().into();
                    return Some(PskKey { identity, key: Secret::from(key?) });
                }
                Ok(LockStepRequest::Close) => return None,
                Ok(_) => reply.clone_from(&need),
                Err(error) => reply = invalid_frame(&error),
            }
        }
    }

    fn send(&self, mut frame: &[u8]) -> Option<()> {
        while !frame.is_empty() {
            match send(&self.lua, frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => frame = &frame[count..],
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => self.wait(PollFlags::OUT)?,
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// The next question's body.
    fn receive<'r>(&self, room: &'r mut [u8; ROOM]) -> Option<&'r [u8]> {
        let mut have = 0;
        loop {
            match self.receive_some(&mut room[have..]) {
                Ok(0) => return None,
                Ok(count) => have += count,
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => {
                    self.wait(PollFlags::IN)?;
                    continue;
                }
                Err(_) => return None,
            }
            match whole(&room[..have]) {
                Ok(Some(body)) if FRAME_HEADER + body.len() == have => break,
                Ok(None) if have < ROOM => {}
                _ => return None,
            }
        }
        room.get(FRAME_HEADER..have)
    }

    /// Descriptors that come along go to the thread that closes what this owner sends: without room for them the kernel
    /// would close them here, and one that lingers would keep this thread beyond its deadline.
    fn receive_some(&self, room: &mut [u8]) -> Result<usize, Errno> {
        match transport::recv(&self.lua, room, DESCRIPTORS_MAX, RecvFlags::DONTWAIT) {
            Ok(Received { len, descriptors, .. }) => {
                closing::close(descriptors, Some(&self.account));
                Ok(len)
            }
            Err(RecvError::System(error)) => Err(error),
            Err(RecvError::DescriptorsLost) => Err(Errno::MFILE),
        }
    }

    fn wait(&self, flags: PollFlags) -> Option<()> {
        let left = self.until.checked_duration_since(Instant::now())?;
        let left = Timespec::try_from(left).ok()?;
        let mut watched = [PollFd::new(&self.lua, flags)];
        match poll(&mut watched, Some(&left)) {
            Ok(0) => None,
            Ok(_) | Err(Errno::INTR) => Some(()),
            Err(_) => None,
        }
    }
}
