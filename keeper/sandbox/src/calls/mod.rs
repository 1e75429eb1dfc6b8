//! A seccomp list of the system calls that a process makes; whatever is not on it is refused, or ends the process, and is
//! a line in the kernel's audit log.

#[allow(unsafe_code)]
mod logged;

use crate::SandboxError;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};
use std::collections::BTreeMap;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// A system call that is allowed, perhaps only with certain arguments.
#[derive(Debug, Clone)]
pub struct Call {
    number: i64,
    /// Argument, mask, and what the masked argument has to be.
    when: Option<(u8, u64, u64)>,
}

/// A system call, whatever its arguments.
#[must_use]
pub const fn any(number: i64) -> Call {
    Call { number, when: None }
}

impl Call {
    /// Only where the lower half of an argument is `value`.
    #[must_use]
    pub fn with(self, argument: u8, value: impl Into<i64>) -> Self {
        self.with_bits(argument, u32::MAX.into(), value.into().cast_unsigned() & u64::from(u32::MAX))
    }

    /// Only where these bits of an argument are as in `value`.
    #[must_use]
    pub fn with_bits(self, argument: u8, mask: u64, value: u64) -> Self {
        Self { when: Some((argument, mask, value)), ..self }
    }

    fn rule(&self) -> Result<Option<SeccompRule>, SandboxError> {
        let Some((argument, mask, value)) = self.when else { return Ok(None) };
        let operator = SeccompCmpOp::MaskedEq(mask);
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        Ok(Some(SeccompRule::new(vec![condition])?))
    }
}

/// What happens to a system call that is not on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// The process ends by SIGSYS.
    Kill,
    /// The call fails with EPERM.
    Refuse,
}

/// Lets this thread, and those that it starts, make these calls and no others.
///
/// # Errors
/// [`SandboxError::Calls`], [`SandboxError::Filter`], [`SandboxError::Logged`].
pub fn restrict(calls: &[Call], otherwise: Otherwise) -> Result<(), SandboxError> {
    // A filter cannot look at clone3's flags. Without it libc starts threads by clone, whose flags can be seen.
    apply_filter(&answered(&[libc::SYS_clone3], libc::ENOSYS)?)?;
    let otherwise = match otherwise {
        Otherwise::Kill => SeccompAction::KillProcess,
        Otherwise::Refuse => SeccompAction::Errno(libc::EPERM.cast_unsigned()),
    };
    let filter = SeccompFilter::new(rules(calls)?, otherwise, SeccompAction::Allow, ARCHITECTURE)?;
    let program: BpfProgram = filter.try_into()?;
    logged::apply(&program).map_err(SandboxError::Logged)
}

/// Lets these calls fail with EPERM, whatever [`restrict`] says of them later: for what libraries try by themselves, and
/// do without.
///
/// # Errors
/// [`SandboxError::Calls`], [`SandboxError::Filter`].
pub fn refuse(numbers: &[i64]) -> Result<(), SandboxError> {
    apply_filter(&answered(numbers, libc::EPERM)?)?;
    Ok(())
}

/// A call without a condition is allowed whatever else is said of it.
fn rules(calls: &[Call]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, SandboxError> {
    let mut rules = BTreeMap::<i64, Vec<SeccompRule>>::new();
    for call in calls.iter().filter(|call| call.when.is_some()) {
        rules.entry(call.number).or_default().extend(call.rule()?);
    }
    rules.extend(calls.iter().filter(|call| call.when.is_none()).map(|call| (call.number, Vec::new())));
    Ok(rules)
}

/// A filter that answers these calls with an error, and lets all others through.
fn answered(numbers: &[i64], errno: i32) -> Result<BpfProgram, SandboxError> {
    let calls = numbers.iter().map(|number| (*number, Vec::new())).collect();
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    Ok(SeccompFilter::new(calls, SeccompAction::Allow, answer, ARCHITECTURE)?.try_into()?)
}

/// What any thread needs of the kernel to run, to wait, to start and to end others of its process, and to end: memory that
/// is never executable, time, signals of its own.
#[must_use]
pub fn of_threads() -> Vec<Call> {
    // The flags that make a new process, a process of another namespace, or none of both.
    const SPACES: u64 = 0x7e02_0000;
    let thread = libc::CLONE_THREAD.cast_unsigned().into();
    let executable = libc::PROT_EXEC.cast_unsigned().into();
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut calls: Vec<Call> = [
        // clone3 gets through this list to the filter that answers ENOSYS.
        libc::SYS_clone3,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_set_tid_address,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getrandom,
        // libc's qsort asks for the amount of memory.
        libc::SYS_sysinfo,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
    .map(any)
    .into();
    #[cfg(target_arch = "x86_64")]
    calls.push(any(libc::SYS_time));
    calls.extend([
        any(libc::SYS_clone).with_bits(0, SPACES | thread, thread),
        any(libc::SYS_mmap).with_bits(2, executable, 0),
        any(libc::SYS_mprotect).with_bits(2, executable, 0),
        any(libc::SYS_prctl).with(0, libc::PR_SET_NAME),
        any(libc::SYS_tgkill).with(0, own),
    ]);
    calls
}
