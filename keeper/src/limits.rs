//! All limits of the keeper. The limits on messages are in `luassl_keeper_ipc`.

use std::time::Duration;

/// The maximum size of the arena, in bytes, even if more memory may be locked. An RSA-2048 key takes about 5 KiB of it.
pub(crate) const ARENA_MAX: usize = 1 << 30;

/// The smallest useful arena. libcrypto takes about 700 KiB for itself.
pub(crate) const ARENA_MIN: usize = 2 << 20;

/// The memory that must be free in the arena to load an identity, so that reading one never uses the memory that
/// signatures need: both files at their maximum size, and the data that libcrypto makes from them.
pub(crate) const LOAD_MIN_FREE: usize = 768 << 10;

/// The maximum size of a key or certificate file, in bytes.
pub(crate) const FILE_MAX: usize = 256 << 10;

/// The maximum size of a passphrase file, in bytes: as much as libcrypto accepts (PEM_BUFSIZE).
pub(crate) const PASSPHRASE_MAX: usize = 1 << 10;

/// The maximum size of an OCSP response, in bytes.
pub(crate) const STAPLE_MAX: usize = 16 << 10;

/// The maximum size of the file with the root of ticket keys, in bytes.
pub(crate) const TICKET_ROOT_MAX: usize = 4 << 10;

/// The interval of checks whether an epoch of ticket keys has ended, in case the clock is set.
pub(crate) const EPOCH_CHECK: Duration = Duration::from_secs(60);

/// The maximum number of identities in service or in a push.
pub(crate) const IDENTITIES_MAX: usize = 100_000;

/// The maximum number of inherited front sockets, and of fronts that a push may name.
pub(crate) const FRONTS_MAX: usize = 256;

/// The maximum number of connections of one front, each with a thread. A further connection is accepted only after
/// another has ended.
pub(crate) const CONNECTIONS_PER_FRONT: usize = 128;

/// The stack size of a connection thread, in bytes. The signing threads do the work that needs more.
pub(crate) const STACK: usize = 256 << 10;

/// The stack size of a signing thread, in bytes of the arena, including its guard page. RSA 4096 needs a fraction of
/// it. It is a multiple of the page size.
pub(crate) const SIGNER_STACK: usize = 256 << 10;

/// The stacks of all signing threads take at most 1/`STACKS_SHARE` of the arena, because keys need the rest.
pub(crate) const STACKS_SHARE: usize = 4;

/// How long a peer may leave an answer unread before its connection is dropped.
pub(crate) const SEND_DEADLINE: Duration = Duration::from_secs(5);

/// How long a request for a signature waits for the first push before it gets the answer "not yet".
pub(crate) const FIRST_PUSH_WAIT: Duration = Duration::from_secs(1);

/// The maximum time that a replaced key still signs, even if the supervisor sets a longer handshake deadline.
pub(crate) const FORMER_MAX: Duration = Duration::from_secs(600);

/// How long a connection to a listening admin socket may be idle. It blocks other pushes.
pub(crate) const ADMIN_IDLE: Duration = Duration::from_secs(30);

/// How long to wait after a failed accept or thread start.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The name of the account for all identities that a front does not reach. It is not a valid name in a configuration.
pub(crate) const UNREACHED: &str = "*";

/// The interval at which the log reports counters that have changed.
pub(crate) const COUNTS_EVERY: Duration = Duration::from_secs(300);

/// The interval at which suppressed log lines are reported.
pub(crate) const HELD_EVERY: Duration = Duration::from_secs(10);

/// The maximum size of a private key in DER, encrypted or not, in bytes. An RSA 4096 key takes about 2,400.
pub(crate) const KEY_MAX: usize = 16 << 10;

/// The maximum size of an INTEGER of an RSA key, in bytes: 4096 bits and the bytes before them.
pub(crate) const RSA_INTEGER_MAX: usize = 520;

/// The maximum size of an ECPrivateKey, in bytes. A P-521 key takes about 220.
pub(crate) const EC_KEY_MAX: usize = 1 << 10;

/// The maximum number of PBKDF2 or PBES1 iterations for an encrypted key.
pub(crate) const PBKDF2_ITERATIONS_MAX: u64 = 10_000_000;

/// The maximum memory of scrypt for an encrypted key, in bytes: N * r * 128.
pub(crate) const SCRYPT_MEMORY_MAX: u64 = 64 << 20;

/// The maximum parallelization of scrypt.
pub(crate) const SCRYPT_PARALLEL_MAX: u64 = 16;
