//! Messages about many things at once: the first few, and how many more there are. The owner of a directory of
//! identities decides how many files it has, but must not decide how long the log gets.

use crate::config::finding::Finding;
use std::cmp::Reverse;

/// Findings about discovered identities, or names in one line; those beyond it are counted only.
pub(crate) const FEW: usize = 20;

/// The first findings, and one line about the rest. Errors come first where there are too many.
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

/// These names, each in backquotes: the first ones, and how many more there are.
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
        // Positive control: as many as the bound are told one by one.
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
