//! The thread that holds the subscription. It receives identities, and observes the keeper's health.

use crate::keeper_client::call::dial;
use crate::keeper_client::shared::Shared;
use luassl_keeper_ipc::Malformed;
use luassl_keeper_ipc::front::{ANSWER_MAX, Answer, Identity, Request};
use luassl_keeper_ipc::transport::{self, RecvError, RecvFlags, SendFlags};
use luassl_tls::chain::{Chain, ChainFault};
use luassl_tls::identity::{KeyId, PublicIdentity};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use zeroize::Zeroize;

/// The first pause after an unsuccessful connection, and the longest pause. There is no pause before the first attempt.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{} takes no connection: {errno}", path.display())]
    NoConnection { path: PathBuf, errno: Errno },
    #[error("it closed its socket")]
    Closed,
    #[error("its socket failed: {0}")]
    System(#[from] Errno),
    #[error("its socket failed: {0}")]
    Receive(#[from] RecvError),
    #[error("it sent what is no answer: {0}")]
    Malformed(#[from] Malformed),
    #[error("it sent more than fits into an answer")]
    Oversized,
    #[error("it did not answer a call")]
    Silent,
}

impl Shared {
    /// Records that the keeper answers.
    pub(super) fn found(&self) {
        if self.health.found() {
            tracing::info!("the keeper is back");
        }
    }

    /// Records that the keeper does not answer.
    pub(super) fn lost(&self, since: Instant, why: impl std::fmt::Display) {
        if self.health.lost(since) {
            tracing::warn!("the keeper is lost: {why}");
        }
    }
}

/// Subscribes, and subscribes again whenever the subscription is lost, until the link ends.
pub(super) fn run(shared: &Shared) {
    let mut pause = Duration::ZERO;
    while !shared.health.has_ended() {
        let mut subscription = Subscription { shared, named: BTreeSet::new(), synced: false };
        match subscription.run() {
            Ok(()) => return,
            Err(why) => shared.lost(Instant::now(), why),
        }
        if subscription.synced {
            pause = Duration::ZERO;
        }
        if !pause.is_zero() {
            shared.health.pause(pause);
        }
        pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
    }
}

struct Subscription<'a> {
    shared: &'a Shared,
    /// The identities that have been named since the subscription began.
    named: BTreeSet<String>,
    synced: bool,
}

impl Subscription<'_> {
    /// Holds one subscription. Returns without an error when the link ends.
    fn run(&mut self) -> Result<(), Lost> {
        let path = &self.shared.path;
        let socket = dial(path).map_err(|errno| Lost::NoConnection { path: path.clone(), errno })?;
        let mut request = Vec::new();
        // A request without fields is never too long.
        let _ = Request::Subscribe.encode(&mut request);
        transport::send(&socket, &request, &[], SendFlags::DONTWAIT)?;
        let mut buffer = vec![0; ANSWER_MAX];
        while !self.shared.health.has_ended() {
            let (answer, alarm) = self.shared.health.wait(&socket)?;
            if answer {
                self.receive(&socket, &mut buffer)?;
            } else if alarm && self.synced {
                // A new subscription finds out whether the keeper is alive. A subscription that is already waiting does
                // so as well.
                return Err(Lost::Silent);
            }
        }
        Ok(())
    }

    fn receive(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> Result<(), Lost> {
        let received = transport::recv(socket, buffer, 0, RecvFlags::DONTWAIT)?;
        match received {
            _ if received.len == 0 => Err(Lost::Closed),
            _ if received.truncated => Err(Lost::Oversized),
            _ => {
                let bytes = buffer.get_mut(..received.len).unwrap_or_default();
                let taken = Answer::decode(bytes).map_err(Lost::from).and_then(|answer| self.take(answer));
                // The buffer may have contained ticket keys.
                bytes.zeroize();
                taken
            }
        }
    }

    fn take(&mut self, answer: Answer<'_>) -> Result<(), Lost> {
        match answer {
            Answer::Identity(identity) => {
                tracing::debug!("identity {} is in generation {}", identity.name, identity.generation);
                self.named.insert(identity.name.to_owned());
                match public(&identity) {
                    Ok(public) => self.shared.identities.put(public),
                    // The keeper does not parse certificates. The supervisor parses them before a push, but the sender
                    // of this push did not.
                    Err(why) => tracing::warn!(
                        "identity {:?} of generation {} is not taken, and the former one is used: {why}",
                        identity.name,
                        identity.generation
                    ),
                }
            }
            Answer::Withdrawn { name } => {
                tracing::debug!("identity {name} is withdrawn");
                self.named.remove(name);
                self.shared.identities.withdraw(name);
            }
            Answer::Synced => {
                self.synced = true;
                self.shared.identities.finish(&self.named);
                self.shared.found();
            }
            Answer::Tickets(tickets) => self.shared.tickets.put(&tickets),
            // No request of this thread has such an answer.
            Answer::Signature { .. } | Answer::Secret { .. } | Answer::Refused { .. } => {
                return Err(Lost::Malformed(Malformed::Value));
            }
        }
        Ok(())
    }
}

fn public(identity: &Identity<'_>) -> Result<PublicIdentity, ChainFault> {
    let chain = Chain::of(&identity.chain, &identity.key_id)?;
    Ok(PublicIdentity {
        name: identity.name.to_owned(),
        generation: identity.generation,
        key_id: KeyId(identity.key_id),
        public_key: identity.public_key.to_vec(),
        chain: chain.to_der()?,
        staple: Some(identity.staple.to_vec()).filter(|staple| !staple.is_empty()),
    })
}
