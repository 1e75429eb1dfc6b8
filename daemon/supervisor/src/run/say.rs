//! Findings in the log.

use crate::config::{Finding, Severity};

/// Logs findings, each on one line.
pub(crate) fn say(findings: &[Finding]) {
    for finding in findings {
        let place = finding.place.as_ref().map_or_else(String::new, |place| format!("{place}: "));
        let hint = finding.hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
        match finding.severity {
            Severity::Warning => tracing::warn!("{place}{}{hint}", finding.cause),
            Severity::Error => tracing::error!("{place}{}{hint}", finding.cause),
        }
    }
}
