//! Messages about many items: the first few items, and the number of the others. The owner of a directory of
//! identities controls the number of its files, but must not control the length of the log.

use crate::config::finding::Finding;
use std::cmp::Reverse;

/// The maximum number of findings about discovered identities, or of names in one line. The others are only
/// counted.
pub(crate) const FEW: usize = 20;

/// Returns the first findings, and one line about the others. If there are too many, errors come before
/// warnings.
pub(crate) fn few(mut findings: Vec<Finding>) -> Vec<Finding> {
    if findings.len() <= FEW {
        return findings;
    }
    findings.sort_by_key(|finding| Reverse(finding.severity));
    let rest = findings.split_off(FEW);
    if let Some(first) = rest.first() {
        let cause = format!("and {} more findings about identities from directories", rest.len());
        findings.push(Finding { cause, hint: None, ..first.clone() });
    }
    findings
}

/// Formats the first names, each in backquotes, and the number of the others.
pub(crate) fn few_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let mut told: Vec<String> = names.by_ref().take(FEW).map(|name| format!("`{name}`")).collect();
    let more = names.count();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    #[test]
    fn beyond_the_bound_findings_and_names_are_counted() {
        let warnings = |count: usize| vec![Finding::warning(None, "odd"); count];
        // Positive control: with a number of findings equal to the limit, each one is reported.
        assert_eq!(few(warnings(FEW)), warnings(FEW));
        let mut many = warnings(1_000);
        many.push(Finding::error(None, "bad"));
        let told = few(many);
        assert_eq!((told.len(), told[0].cause.as_str()), (FEW + 1, "bad"), "an error goes before warnings");
        assert_eq!(told[FEW].cause, "and 981 more findings about identities from directories");
        assert_eq!(told[FEW].severity, Severity::Warning);
        assert_eq!(few_names(["a", "b"]), "`a`, `b`");
        assert!(few_names(vec!["a"; FEW + 7]).ends_with("`a`, and 7 more"));
    }
}
