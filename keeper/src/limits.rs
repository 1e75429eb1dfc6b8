//! All limits of the keeper. Those on messages are in `luassl_keeper_ipc`.

use std::time::Duration;

/// The arena, in bytes: no more than this, however much may be locked. An RSA-2048 key takes about 5 KiB of it.
pub(crate) const ARENA_MAX: usize = 1 << 30;

/// The smallest useful arena: libcrypto takes about 700 KiB for itself.
pub(crate) const ARENA_MIN: usize = 2 << 20;

/// What has to be free in the arena for an identity to be loaded, so that reading one never takes the memory that
/// signatures need: both files at their longest, and what libcrypto makes of them.
pub(crate) const LOAD_MIN_FREE: usize = 768 << 10;

/// A key or certificate file, in bytes.
pub(crate) const FILE_MAX: usize = 256 << 10;

/// A passphrase file, in bytes: as much as libcrypto takes (PEM_BUFSIZE).
pub(crate) const PASSPHRASE_MAX: usize = 1 << 10;

/// An OCSP response, in bytes.
pub(crate) const STAPLE_MAX: usize = 16 << 10;

/// The file with the root of ticket keys, in bytes.
pub(crate) const TICKET_ROOT_MAX: usize = 4 << 10;

/// How often it is looked whether an epoch of ticket keys has ended, should the clock be set meanwhile.
pub(crate) const EPOCH_CHECK: Duration = Duration::from_secs(60);

/// Identities in service or in a push.
pub(crate) const IDENTITIES_MAX: usize = 100_000;

/// Sockets that the keeper is started with, and fronts that a push may name.
pub(crate) const FRONTS_MAX: usize = 256;

/// Connections of one front, each with a thread. One more is not accepted before another has ended.
pub(crate) const CONNECTIONS_PER_FRONT: usize = 128;

/// Stack of a connection's thread, in bytes; what needs more is done by the threads that sign.
pub(crate) const STACK: usize = 256 << 10;

/// Stack of a thread that signs, in bytes of the arena, its guard page included; RSA 4096 needs a fraction. A multiple of
/// the page size.
pub(crate) const SIGNER_STACK: usize = 256 << 10;

/// The stacks of all threads that sign take no more than one part in so many of the arena: keys need the rest.
pub(crate) const STACKS_SHARE: usize = 4;

/// How long a peer may leave an answer unread before its connection is dropped.
pub(crate) const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// How long a request for a signature waits for the first push before it is answered "not yet".
pub(crate) const FIRST_PUSH_WAIT: Duration = Duration::from_secs(1);

/// How long a replaced key still signs, at most, whatever deadline of handshakes the supervisor says.
pub(crate) const FORMER_MAX: Duration = Duration::from_secs(600);

/// How long a connection to a listening admin socket may say nothing: it keeps other pushes waiting.
pub(crate) const ADMIN_IDLE: Duration = Duration::from_secs(30);

/// How long to wait after a failed accept or thread start.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The name of the account of all identities that a front does not reach: in a configuration it is no name.
pub(crate) const UNREACHED: &str = "*";

/// How often the log reports counters that have changed.
pub(crate) const COUNTS_EVERY: Duration = Duration::from_secs(300);

/// How often to report suppressed log lines that have not been reported yet.
pub(crate) const HELD_EVERY: Duration = Duration::from_secs(10);

/// A private key in DER, encrypted or not, in bytes: one of RSA 4096 takes about 2,400.
pub(crate) const KEY_MAX: usize = 16 << 10;

/// An INTEGER of an RSA key, in bytes: 4096 bits and what is in front of them.
pub(crate) const RSA_INTEGER_MAX: usize = 520;

/// An ECPrivateKey, in bytes: one of P-521 takes about 220.
pub(crate) const EC_KEY_MAX: usize = 1 << 10;

/// Iterations of PBKDF2 or PBES1 with which a key is encrypted.
pub(crate) const PBKDF2_ITERATIONS_MAX: u64 = 10_000_000;

/// Memory of scrypt with which a key is encrypted, in bytes: N * r * 128.
pub(crate) const SCRYPT_MEMORY_MAX: u64 = 64 << 20;

/// The parallelization of scrypt.
pub(crate) const SCRYPT_PARALLEL_MAX: u64 = 16;
