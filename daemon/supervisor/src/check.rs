//! `luassld check`: loads everything and reports all errors. It starts a keeper of its own to load the keys.

use crate::config::{self, Config, Finding, Loaded, Request, Severity};
use crate::push::{self, Report, Trusts};
use crate::run::launch;
use crate::run::{Isolations, Programs, Users};
use openssl::x509::{X509, X509Crl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::os::fd::AsFd;
use std::process::Child;

/// The result of a check.
#[derive(Debug)]
pub struct Verdict {
    /// All findings.
    pub findings: Vec<Finding>,
    /// The number of identities that can be served.
    pub identities: usize,
}

impl Verdict {
    /// Returns 0 if there are no findings, 1 for warnings, 2 for errors.
    pub fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.severity).max() {
            None => 0,
            Some(Severity::Warning) => 1,
            Some(Severity::Error) => 2,
        }
    }

    /// Returns a summary in one line.
    pub fn summary(&self) -> String {
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        format!(
            "{} identities, {} errors, {} warnings",
            self.identities,
            count(Severity::Error),
            count(Severity::Warning)
        )
    }
}

/// Checks the configuration and the files of `request`.
pub fn run(request: &Request) -> Verdict {
    let Loaded { config, rest, mut findings } = config::load(request);
    // The files are checked even if the configuration has errors, so that one run reports everything.
    let Some(config) = config.or(rest) else { return Verdict { findings, identities: 0 } };
    let (trusts, mut of_files) = push::read_trusts(&config, None);
    of_files.extend(unusable(&config, &trusts));
    let mut identities = 0;
    let (isolations, finding) = Isolations::choose(&config);
    of_files.extend(finding);
    match identities_by_keeper(&config, isolations) {
        Ok(report) => {
            identities = report.serving();
            of_files.extend(push::unreadable_staples(&config, &report));
            of_files.extend(report.findings);
        }
        Err(finding) => of_files.push(finding),
    }
    // Errors that are only consequences of a reported error are left out.
    of_files.retain(|finding| !findings.iter().any(|told| is_error_at(told, finding)));
    findings.extend(of_files);
    findings.sort_by_key(in_file);
    Verdict { findings, identities }
}

fn is_error_at(told: &Finding, finding: &Finding) -> bool {
    told.severity == Severity::Error && told.location.is_some() && told.location == finding.location
}

/// Returns the sort key that puts findings in the order of the file.
fn in_file(finding: &Finding) -> (Option<std::path::PathBuf>, Option<usize>) {
    let location = finding.location.clone();
    location.map_or((None, None), |location| (Some(location.file), location.line))
}

/// Returns findings for the trusts that were read but that OpenSSL cannot use.
fn unusable(config: &Config, trusts: &Trusts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, trust) in &config.trusts {
        let Some(settings) = trusts.get(name) else { continue };
        let certificates = settings.certificates.iter().find_map(|pem| X509::stack_from_pem(pem).err());
        let crls = settings.crls.iter().find_map(|pem| X509Crl::from_pem(pem).err());
        let faults = [("certificate", certificates), ("CRL", crls)];
        for (what, error) in faults.into_iter().filter_map(|(what, error)| Some((what, error?))) {
            let cause =
                format!("trust `{name}`: a {what} in its files cannot be read: {}", first_reason(&error));
            findings.push(
                Finding::error(trust.location.clone(), cause).hint("name PEM files that `openssl` can read"),
            );
        }
    }
    findings
}

fn first_reason(error: &openssl::error::ErrorStack) -> String {
    error.errors().first().and_then(openssl::error::Error::reason).unwrap_or("no PEM").to_owned()
}

fn identities_by_keeper(config: &Config, isolations: Isolations) -> Result<Report, Finding> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Finding::error(None, format!("the identities cannot be checked: {what}: {error}"))
            .hint("is luassl-keeper of the same version as luassld?")
    };
    let (users, _) = Users::choose(config)?;
    let programs = Programs::installed()?.for_users(&users).isolated(isolations);
    let (ours, keepers) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| failed("no socket", &errno))?;
    let sockets = [("admin".to_owned(), keepers.as_fd())];
    let keeper = launch::command(&programs.launcher, &programs.keeper, &sockets)
        .and_then(|mut command| command.spawn())
        .map(EphemeralKeeper)
        .map_err(|error| failed("the keeper does not start", &error))?;
    drop(keepers);
    let report = push::push_keeper(ours.as_fd(), config).map_err(|error| failed("the keeper", &error));
    drop(keeper);
    report
}

/// A keeper for one check, killed when this value is dropped.
struct EphemeralKeeper(Child);

impl Drop for EphemeralKeeper {
    fn drop(&mut self) {
        let ended: io::Result<_> = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            tracing::debug!("the keeper of the check: {error}");
        }
    }
}
