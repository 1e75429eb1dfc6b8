//! Findings in the log.

use crate::config::{Finding, Severity};

/// Logs findings, each on one line.
pub(crate) fn say(findings: &[Finding]) {
    for finding in findings {
        let location = finding.location.as_ref().map_or_else(String::new, |location| format!("{location}: "));
        let hint = finding.hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
        match finding.severity {
            Severity::Warning => tracing::warn!("{location}{}{hint}", finding.cause),
            Severity::Error => tracing::error!("{location}{}{hint}", finding.cause),
        }
    }
}
