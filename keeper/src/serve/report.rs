//! Periodic log lines: counters, and the number of lines suppressed during a flood.

use crate::identities::registry::{FrontUsage, Registry};
use crate::limits::{COUNTS_EVERY, HELD_EVERY};
use crate::log::{self, Audit};
use crate::policy::usage::Tally;
use luassl_keeper_ipc::audit::Line;
use std::thread;
use std::time::Instant;

/// Writes the reports until the process ends.
pub(crate) fn run(registry: &Registry) {
    let mut counted = Instant::now();
    loop {
        thread::sleep(HELD_EVERY);
        let usage = registry.usage();
        usage.iter().for_each(|(_, usage)| usage.audit.catch_up());
        if counted.elapsed() >= COUNTS_EVERY {
            counted = Instant::now();
            usage.iter().for_each(|(_, usage)| write(usage));
        }
    }
}

/// Writes one line for each identity whose counters changed.
fn write(usage: &FrontUsage) {
    for (identity, tally) in usage.counts.changed() {
        log::line(line(&usage.audit, &identity, &tally));
    }
}

fn line(audit: &Audit, identity: &str, tally: &Tally) -> Line {
    let line = audit.of("count").text("identity", identity);
    let line = line.word("signed", tally.signed).word("decrypted", tally.decrypted);
    tally
        .refused()
        .fold(line, |line, (refusal, count)| line.word(&format!("refused-{}", refusal.as_str()), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::usage::{Made, Usage};
    use luassl_keeper_ipc::front::Refusal;

    #[test]
    fn a_line_of_counts_names_each() {
        let now = Instant::now();
        let usage = Usage::new(now);
        usage.made("a", Made::Signature, now);
        usage.refused(Some("a"), Refusal::NotHandshake, now);
        usage.refused(Some("a"), Refusal::NotHandshake, now);
        let [(identity, tally)] = &usage.changed()[..] else { panic!("one account") };
        assert_eq!(
            line(&Audit::new("web"), identity, tally).to_string(),
            "audit by=keeper event=count front=\"web\" identity=\"a\" signed=1 decrypted=0 refused-not-handshake=2"
        );
    }
}
