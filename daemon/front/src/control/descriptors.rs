//! Assigns the descriptors of a control connection to its frames.
//!
//! A descriptor is attached to the first byte of its frame, and the kernel reports only which receive returned it. If a
//! client sends fast, a receive may begin before that frame and end behind it. So a frame that takes a descriptor takes
//! those of the oldest sendmsg whose receive contained the frame's first byte. Descriptors that no frame of their
//! receive took belong to no frame. The kernel ends a receive behind the bytes of one sendmsg with descriptors, so the
//! descriptors of two are never received together.

use crate::authorization::quota::QuotaGuard;
use std::{collections::VecDeque, os::fd::OwnedFd};

/// The descriptors of one sendmsg, and the part of the stream that was received with them.
struct Arrived {
    begin: u64,
    end: u64,
    descriptors: Vec<OwnedFd>,
    /// Their part of the limit on descriptors that are neither taken nor closed.
    _slot: Option<QuotaGuard>,
}

/// The descriptors that wait for their frames.
#[derive(Default)]
pub(crate) struct Descriptors {
    waiting: VecDeque<Arrived>,
}

impl Descriptors {
    /// Records the descriptors that arrived with a receive of the bytes from `begin` to before `end`.
    pub(crate) fn arrived(
        &mut self,
        begin: u64,
        end: u64,
        descriptors: Vec<OwnedFd>,
        slot: Option<QuotaGuard>,
    ) {
        if !descriptors.is_empty() {
            self.waiting.push_back(Arrived { begin, end, descriptors, _slot: slot });
        }
    }

    /// Returns the number of waiting descriptors.
    pub(crate) fn len(&self) -> usize {
        self.waiting.iter().map(|arrived| arrived.descriptors.len()).sum()
    }

    /// Returns the descriptors of the frame whose first byte is at `first`. A number other than one is an error of the
    /// client.
    pub(crate) fn claim(&mut self, first: u64) -> Vec<OwnedFd> {
        match self.waiting.front() {
            Some(oldest) if oldest.begin <= first && first < oldest.end => {
                self.waiting.pop_front().map(|oldest| oldest.descriptors).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Removes and returns the descriptors that no frame before `end` has claimed and that no later frame may claim.
    pub(crate) fn unclaimed(&mut self, end: u64) -> Vec<OwnedFd> {
        let count = self.waiting.iter().take_while(|arrived| arrived.end <= end).count();
        self.waiting.drain(..count).flat_map(|arrived| arrived.descriptors).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    /// Returns a descriptor that can be distinguished from others.
    fn descriptor() -> (OwnedFd, i32) {
        let fd = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let number = fd.as_raw_fd();
        (fd, number)
    }

    fn number(claimed: Vec<OwnedFd>) -> Option<i32> {
        assert!(claimed.len() <= 1, "{claimed:?}");
        claimed.first().map(|fd| fd.as_raw_fd())
    }

    #[test]
    fn a_frame_that_came_before_in_another_receive_gets_nothing() {
        let mut descriptors = Descriptors::default();
        let (fd, mine) = descriptor();
        // The first frame began at 0. A receive from 10 on returned its rest, the next frame (at 30) and a descriptor.
        descriptors.arrived(10, 50, vec![fd], None);
        assert!(descriptors.claim(0).is_empty());
        assert_eq!(descriptors.unclaimed(30).len(), 0);
        assert_eq!(number(descriptors.claim(30)), Some(mine));
    }

    #[test]
    fn frames_sent_in_one_piece_take_theirs_in_order() {
        let mut descriptors = Descriptors::default();
        let (fd, mine) = descriptor();
        // One sendmsg: a frame with a descriptor, followed by a frame that takes none.
        descriptors.arrived(0, 40, vec![fd], None);
        assert_eq!(number(descriptors.claim(0)), Some(mine));
        assert!(descriptors.claim(20).is_empty());
    }

    #[test]
    fn two_of_one_message_are_one_frames_mistake() {
        let mut descriptors = Descriptors::default();
        descriptors.arrived(0, 40, vec![descriptor().0, descriptor().0], None);
        assert_eq!(descriptors.len(), 2);
        assert_eq!(descriptors.claim(0).len(), 2);
        assert!(descriptors.claim(20).is_empty(), "and not the next one's");
    }

    #[test]
    fn a_frame_of_many_receives_has_the_descriptor_of_its_first() {
        let mut descriptors = Descriptors::default();
        let ((fd, mine), (other, next)) = (descriptor(), descriptor());
        descriptors.arrived(0, 16, vec![fd], None);
        descriptors.arrived(80, 96, vec![other], None);
        assert_eq!(number(descriptors.claim(0)), Some(mine));
        assert!(descriptors.unclaimed(80).is_empty());
        assert_eq!(number(descriptors.claim(80)), Some(next));
    }

    #[test]
    fn what_no_frame_took_is_nobodys() {
        let mut descriptors = Descriptors::default();
        let (fd, _) = descriptor();
        descriptors.arrived(0, 20, vec![fd], None);
        assert_eq!(descriptors.unclaimed(20).len(), 1, "the frame that it came with takes none");
        assert!(descriptors.claim(20).is_empty());
        assert_eq!(descriptors.len(), 0);
    }
}
