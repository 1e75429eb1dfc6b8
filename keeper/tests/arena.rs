//! Where the keeper's keys lie, and what happens when there is no room or no secret memory for them.

mod kit;

use kit::process::Process;
use kit::{BOTH, Bench, Keeper, Outcome, listener, server_message};
use luassl_keeper_ipc::admin::{Answer, Fault, Request};
use luassl_keeper_ipc::front::Refusal;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

const PROGRAM: &str = env!("CARGO_BIN_EXE_luassl-keeper");
const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
/// The sizes that /proc and `ulimit -l` give are in KiB.
const MIB: usize = 1 << 10;

fn start(first: &str, errno: Option<i32>) -> (Process, Keeper) {
    let bench = Bench::new();
    bench.identity("a", P256);
    let listener = listener(&bench.path("web.socket"));
    let (process, admin) = Process::start_after(Path::new(PROGRAM), &listener, first, errno);
    (process, Keeper { bench, admin })
}

/// What a commit warns of.
fn warnings(keeper: &Keeper) -> Vec<String> {
    keeper.admin.ask(&Request::Commit, &[]);
    let answer = keeper.admin.next();
    match Answer::decode(&answer).expect("an answer") {
        Answer::Committed { warnings } => warnings.into_iter().map(str::to_owned).collect(),
        other => panic!("no answer to a commit: {other:?}"),
    }
}

fn signs(keeper: &Keeper) -> Result<Vec<u8>, Refusal> {
    keeper.connect("web").sign("a", keeper.key_id("a"), 0x0403, &server_message())
}

/// The first address of each mapping of a process, its size in KiB, its flags, and the file behind it.
fn mappings(pid: u32) -> Vec<(u64, usize, String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps; this test needs root");
    let mut mappings = Vec::new();
    for line in text.lines() {
        let (field, value) = line.split_once(' ').unwrap_or((line, ""));
        if let Some((address, _)) = field.split_once('-') {
            let address = u64::from_str_radix(address, 16).expect("an address");
            let file = value.split_whitespace().nth(4).unwrap_or_default().to_owned();
            mappings.push((address, 0, String::new(), file));
        } else if let Some((_, size, flags, _)) = mappings.last_mut() {
            match field {
                "Size:" => *size = value.trim().trim_end_matches(" kB").parse().expect("a number"),
                "VmFlags:" => value.clone_into(flags),
                _ => {}
            }
        }
    }
    mappings
}

fn secret_memory_is_there() -> bool {
    // SAFETY: takes flags alone; the descriptor that it may give ends with the test.
    unsafe { libc::syscall(libc::SYS_memfd_secret, 0) >= 0 }
}

mod needs_root {
    use super::*;

    #[test]
    fn even_root_cannot_read_where_keys_lie() {
        if !secret_memory_is_there() {
            eprintln!("not tried: this kernel has no memfd_secret (Linux 5.14, secretmem.enable=1)");
            return;
        }
        let (process, keeper) = start("ulimit -l 8192", None);
        keeper.push_a();
        assert!(signs(&keeper).is_ok());
        let all = mappings(process.id());
        let secret: Vec<_> = all.iter().filter(|mapping| mapping.3 == "/secretmem").collect();
        // The guard pages of stacks divide it.
        assert_eq!(secret.iter().map(|mapping| mapping.1).sum::<usize>(), 8 * MIB);
        let memory = File::open(format!("/proc/{}/mem", process.id())).expect("root may open it");
        let mut bytes = [0; 64];
        let refused = memory.read_at(&mut bytes, secret[0].0).expect_err("secret memory");
        assert_eq!(refused.raw_os_error(), Some(libc::EIO));
        // The same look at what is not secret.
        let stack = all.iter().find(|mapping| mapping.3 == "[stack]").expect("a stack");
        memory.read_exact_at(&mut bytes, stack.0 + (stack.1 as u64 * 1024 - 64)).expect("root may read it");
    }

    #[test]
    fn a_kernel_without_secret_memory_gives_locked_memory_and_that_is_said() {
        let (process, keeper) = start("ulimit -l 8192", Some(libc::ENOSYS));
        keeper.push_a();
        assert!(signs(&keeper).is_ok());
        keeper.front("web", BOTH, None);
        assert!(warnings(&keeper)[0].starts_with("the kernel has no memfd_secret"));
        let locked = |flags: &str| ["lo", "dd"].iter().all(|flag| flags.split(' ').any(|word| word == *flag));
        let all = mappings(process.id());
        let arena: Vec<_> = all.iter().filter(|(_, _, flags, _)| locked(flags)).collect();
        assert_eq!(arena.iter().map(|mapping| mapping.1).sum::<usize>(), 8 * MIB);
        drop(keeper);
        let (well, said) = process.said();
        assert!(well && said.contains("the kernel has no memfd_secret"), "{said}");
    }
}

#[test]
fn secret_memory_needs_no_warning() {
    if !secret_memory_is_there() {
        eprintln!("not tried: this kernel has no memfd_secret (Linux 5.14, secretmem.enable=1)");
        return;
    }
    let (_process, keeper) = start(":", None);
    assert_eq!(warnings(&keeper), [""; 0]);
}

#[test]
fn a_kernel_that_refuses_secret_memory_is_not_taken_for_one_without() {
    let (process, _keeper) = start(":", Some(libc::EPERM));
    let (well, said) = process.said();
    assert!(!well && said.contains("the kernel refuses secret memory"), "{said}");
}

#[test]
fn too_low_a_limit_on_locked_memory_is_said_with_its_remedy() {
    let (process, _keeper) = start("ulimit -l 1024", None);
    let (well, said) = process.said();
    assert!(!well && said.contains("1048576 bytes") && said.contains("LimitMEMLOCK="), "{said}");
}

#[test]
fn a_full_arena_refuses_keys_and_goes_on_signing() {
    let (_process, keeper) = start("ulimit -l 2560", None);
    keeper.bench.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out big.key");
    keeper.front("web", BOTH, None);
    keeper.load("a");
    let push = |n: u32| keeper.identity(&format!("big{n}"), [Some("big.key"), None, None, None]);
    // An identity is loaded as long as there is room to read one, which is some 1 MiB less than all.
    let full = (0..1000).map(push).find_map(|outcome| match outcome {
        Outcome::Loaded(_) => None,
        failed => Some(failed.failed()),
    });
    let (_, kind, reason) = full.expect("an arena of 2.5 MiB does not hold 1000 keys");
    assert_eq!(kind, Fault::Limit);
    assert!(reason.contains("2560 KiB is full") && reason.contains("LimitMEMLOCK="), "{reason}");
    keeper.commit();
    assert!(signs(&keeper).is_ok());
    // What is not pushed again is withdrawn, and makes room; `a` finds none, and stays as it is.
    keeper.front("web", BOTH, None);
    assert_eq!(keeper.identity("a", [Some("a.key"), None, None, None]).failed().1, Fault::Limit);
    keeper.commit();
    assert!(signs(&keeper).is_ok());
    push(0).loaded();
}
