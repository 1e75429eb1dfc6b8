//! Datagrams and descriptors over real socket pairs.

use luassl_keeper_ipc::transport::{self, RecvError, RecvFlags, SendFlags};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_getfd, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, OwnedFd};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("socket pair")
}

fn file(content: &[u8]) -> OwnedFd {
    let file = memfd_create("test", MemfdFlags::empty()).expect("memfd");
    write(&file, content).expect("write");
    file
}

fn content(file: &OwnedFd) -> Vec<u8> {
    let mut buffer = [0; 64];
    let len = rustix::io::pread(file, &mut buffer, 0).expect("pread");
    buffer[..len].to_vec()
}

#[test]
fn descriptors_arrive_in_order_and_close_on_exec() {
    let (here, there) = pair();
    let files = [file(b"one"), file(b"two"), file(b"three")];
    let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    transport::send(&here, b"hello", &borrowed, SendFlags::empty()).expect("send");
    let mut buffer = [0; 16];
    let received = transport::recv(&there, &mut buffer, 4, RecvFlags::empty()).expect("recv");
    assert_eq!(&buffer[..received.len], b"hello");
    assert!(!received.truncated);
    let contents: Vec<_> = received.descriptors.iter().map(content).collect();
    assert_eq!(contents, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    for descriptor in &received.descriptors {
        assert!(fcntl_getfd(descriptor).expect("fcntl").contains(FdFlags::CLOEXEC));
    }
}

#[test]
fn one_descriptor_too_many_is_a_named_error_for_every_bound() {
    for bound in 0..5 {
        let (here, there) = pair();
        let file = file(b"x");
        let flood = vec![file.as_fd(); bound + 1];
        transport::send(&here, b"flood", &flood, SendFlags::empty()).expect("send");
        transport::send(&here, b"next", &flood[..bound], SendFlags::empty()).expect("send");
        let mut buffer = [0; 16];
        let lost = transport::recv(&there, &mut buffer, bound, RecvFlags::empty());
        assert_eq!(lost.err(), Some(RecvError::DescriptorsLost), "bound {bound}");
        let next = transport::recv(&there, &mut buffer, bound, RecvFlags::empty()).expect("recv");
        assert_eq!((next.len, next.descriptors.len()), (4, bound));
    }
}

#[test]
fn a_datagram_longer_than_the_buffer_is_marked() {
    let (here, there) = pair();
    transport::send(&here, b"123456789", &[], SendFlags::empty()).expect("send");
    let mut buffer = [0; 4];
    let received = transport::recv(&there, &mut buffer, 0, RecvFlags::empty()).expect("recv");
    assert!(received.truncated);
    assert_eq!(&buffer, b"1234");
}

#[test]
fn the_end_and_a_lost_peer_are_told() {
    let (here, there) = pair();
    drop(here);
    let mut buffer = [0; 4];
    let received = transport::recv(&there, &mut buffer, 0, RecvFlags::empty()).expect("recv");
    assert_eq!(received.len, 0);
    assert_eq!(transport::send(&there, b"x", &[], SendFlags::empty()), Err(Errno::PIPE));
}

#[test]
fn calls_that_must_not_wait_do_not() {
    let (here, there) = pair();
    let mut buffer = [0; 4];
    let nothing = transport::recv(&there, &mut buffer, 0, RecvFlags::DONTWAIT);
    assert_eq!(nothing.err(), Some(RecvError::System(Errno::AGAIN)));
    let block = vec![0; 32 << 10];
    let full = (0..64).find_map(|_| transport::send(&here, &block, &[], SendFlags::DONTWAIT).err());
    assert_eq!(full, Some(Errno::AGAIN));
}

#[test]
fn too_many_to_send_is_refused_before_the_kernel_sees_it() {
    let (here, _there) = pair();
    let many = vec![here.as_fd(); transport::DESCRIPTORS_MAX + 1];
    assert_eq!(transport::send(&here, b"x", &many, SendFlags::empty()), Err(Errno::INVAL));
    transport::send(&here, b"x", &many[..transport::DESCRIPTORS_MAX], SendFlags::empty()).expect("send");
}
