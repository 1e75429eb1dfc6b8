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
pub(crate) struct Sample {
    values: Vec<f64>,
}

impl Sample {
    pub(crate) const fn new() -> Self {
        Self { values: Vec::new() }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Median, and the extremes, with so many decimals.
    pub(crate) fn show(&self, decimals: usize, unit: &str) -> String {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.values.iter().copied().fold(0.0, f64::max);
        let space = if unit.is_empty() { "" } else { " " };
        let middle = median(&self.values);
        format!("{middle:.decimals$}{space}{unit} ({least:.decimals$} to {most:.decimals$})")
    }
}

fn median(values: &[f64]) -> f64 {
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
    fn a_sample_shows_its_median_and_extremes() {
        let sample = Sample { values: vec![3.0, 1.0, 2.25] };
        assert_eq!(sample.show(2, ""), "2.25 (1.00 to 3.00)");
        assert_eq!(sample.show(1, "s"), "2.2 s (1.0 to 3.0)");
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(pss(&[std::process::id()]) > 0.0);
        assert!(kernel() > 0.0);
    }
}
