//! What the kernel tells of processes: CPU time, memory.

use std::fs;

/// Clock ticks of /proc/PID/stat in a second: USER_HZ, 100 on every architecture that Rust's Linux targets have.
const TICKS: f64 = 100.0;

/// User and system time of the processes together, in seconds.
pub(crate) fn cpu(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| ticks(*pid) as f64 / TICKS).sum()
}

/// Fields 14 and 15 of /proc/PID/stat (proc(5)); the second field may hold spaces, and ends with a parenthesis.
fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Proportional set size of the processes together, in KiB.
pub(crate) fn pss(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
}

/// What the kernel has allocated for itself, in KiB: sockets, descriptors and their like.
pub(crate) fn kernel() -> f64 {
    kibibytes("/proc/meminfo", "Slab:")
}

fn kibibytes(file: &str, field: &str) -> f64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// The values of several rounds.
#[derive(Default)]
pub(crate) struct Sample {
    pub(crate) values: Vec<f64>,
}

impl Sample {
    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Median, and the extremes.
    pub(crate) fn show(&self, unit: &str) -> String {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(0.0, f64::max);
        format!("{:.3} {unit} ({least:.3} to {most:.3})", median(&self.values))
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(pss(&[std::process::id()]) > 0.0);
        assert!(kernel() > 0.0);
    }
}
