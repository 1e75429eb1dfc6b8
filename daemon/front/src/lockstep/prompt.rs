//! The question for a pre-shared key, which occurs in the middle of a handshake. libssl waits for the answer, and so
//! does the thread, which is dedicated to this handshake.

use crate::lockstep::frame::whole;
use crate::lockstep::session::{encode, invalid_frame};
use crate::runtime::sockets::ClientSocket;
use luassl_protocol::{
    FRAME_HEADER, LockStepAnswer, LockStepRequest, LockStepState, MAX_PSK, MAX_PSK_IDENTITY, PskKey,
    PskQuestion, Secret,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{SendFlags, send},
};
use std::time::Instant;
use zeroize::Zeroizing;

/// The size of the buffer for an answer. An answer is short: a name and a key.
const ROOM: usize = MAX_PSK + MAX_PSK_IDENTITY + 256;

/// The number of unsuitable replies to one question after which it is asked again. One more unsuitable reply ends the
/// question.
const MAX_UNSUITABLE: usize = 4;

/// The client that a handshake asks, and the deadline.
pub(super) struct PskPrompt {
    /// A copy of the socket to the program. No descriptor is received over it. A descriptor in the socket ends the
    /// question.
    pub(super) lua: ClientSocket,
    pub(super) until: Instant,
}

impl PskPrompt {
    /// Sends the question, and waits for the answer. Returns `None` if there is no key, if no answer arrives in time,
    /// or after too many unsuitable replies.
    pub(super) fn ask(&self, question: PskQuestion) -> Option<PskKey> {
        let need = LockStepAnswer { psk: Some(question), ..LockStepAnswer::new(LockStepState::NeedPsk) };
        let need = encode(&need);
        let mut answer = Zeroizing::new([0; ROOM]);
        let mut reply = need.clone();
        for _ in 0..=MAX_UNSUITABLE {
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
        tracing::debug!("{} replies to a question for a psk are no answer: it ends", MAX_UNSUITABLE + 1);
        None
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

    /// Receives the next frame, and returns its body.
    fn receive<'r>(&self, room: &'r mut [u8; ROOM]) -> Option<&'r [u8]> {
        let mut have = 0;
        loop {
            match self.lua.receive(&mut room[have..]).map(|received| received.count) {
                Ok(0) => return None,
                Ok(count) => have += count,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        runtime::sockets::stream_pair,
        tests::descriptors::{at_once, lingering},
    };
    use luassl_keeper_ipc::transport;
    use std::{
        io::{Read, Write},
        os::{
            fd::{AsFd, OwnedFd},
            unix::net::UnixStream,
        },
        thread::{self, JoinHandle},
        time::Duration,
    };

    /// Returns the socket of a connection, a handshake that asks over it, and the program's end.
    fn prompt() -> (ClientSocket, PskPrompt, OwnedFd) {
        let (ours, theirs) = stream_pair().unwrap();
        let (lua, until) = (ours.copy().unwrap(), Instant::now() + Duration::from_secs(60));
        (ours, PskPrompt { lua, until }, theirs)
    }

    fn question() -> PskQuestion {
        PskQuestion { identity: None, hint: None, max_identity: None, max_key: 64 }
    }

    fn key() -> Vec<u8> {
        LockStepRequest::Psk { identity: None, key: Some(b"key") }.to_frame().unwrap()
    }

    #[test]
    fn finding_5_a_descriptor_in_an_answer_ends_the_question_and_is_not_received() {
        let (ours, prompt, theirs) = prompt();
        let (_reading, writing) = rustix::pipe::pipe().unwrap();
        transport::send(&theirs, &key(), &[], SendFlags::empty()).unwrap();
        assert!(prompt.ask(question()).is_some(), "the positive control");
        transport::send(&theirs, &key(), &[writing.as_fd()], SendFlags::empty()).unwrap();
        assert!(prompt.ask(question()).is_none());
        drop(prompt);
        assert_eq!(ours.receive_all(&mut [0; 256]).unwrap().descriptors.len(), 1, "it is still there");
    }

    /// Starts a program that sends `unsuitable` unsuitable replies, and then a key.
    fn program(theirs: OwnedFd, unsuitable: usize) -> JoinHandle<()> {
        let info = LockStepRequest::Info.to_frame().unwrap();
        let mut theirs = UnixStream::from(theirs);
        let replies = std::iter::repeat_n(info, unsuitable).chain([key()]);
        thread::spawn(move || {
            for reply in replies {
                // The end of the stream, if there is no other question.
                if theirs.read(&mut [0; 256]).unwrap() == 0 {
                    return;
                }
                theirs.write_all(&reply).unwrap();
            }
        })
    }

    #[test]
    fn finding_5_a_question_ends_after_a_few_unsuitable_replies() {
        for (unsuitable, answered) in [(MAX_UNSUITABLE, true), (MAX_UNSUITABLE + 1, false)] {
            let (ours, prompt, theirs) = prompt();
            let program = program(theirs, unsuitable);
            assert_eq!(prompt.ask(question()).is_some(), answered, "{unsuitable}");
            drop((prompt, ours));
            program.join().unwrap();
        }
    }

    #[test]
    fn finding_13_a_lingering_socket_in_an_answer_keeps_no_question_and_no_close() {
        let (ours, prompt, theirs) = prompt();
        let (socket, _peer) = lingering();
        transport::send(&theirs, &key(), &[socket.as_fd()], SendFlags::empty()).unwrap();
        drop((socket, theirs));
        at_once(move || {
            assert!(prompt.ask(question()).is_none());
            drop(ours);
            // The last descriptor of a socket that contains the other socket.
            drop(prompt);
        });
    }
}
