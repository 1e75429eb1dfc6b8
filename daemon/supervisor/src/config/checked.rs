//! Converts the raw structs to the checked ones: makes paths absolute, looks up names and fills in defaults.
//! The check continues after an error, so that one run of `luassld check` reports all errors.

use crate::config::checker::{Checker, is_plain};
use crate::config::finding::{Finding, Location, Severity};
use crate::config::model::{Config, Listener, Loaded, Request, SOCKET_MODE, SocketFile, Trust};
use crate::config::raw::{self, Text};
use crate::config::source::Source;
use crate::config::{
    directory,
    sections::{accounts, fronts, grants, identities, limits, tickets},
};
use luassl_settings::Log;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::{Spanned, Value};

/// Checks `file`, which was read from `source`, together with the command line's additions. `mistakes` are
/// the syntax and type errors of the file. The entries with these errors are missing from `file`.
pub(super) fn check(source: &Source, file: &raw::File, request: &Request, mistakes: Vec<Finding>) -> Loaded {
    let mut checker = Checker { source, findings: Vec::new() };
    let mut config = checker.config(file, request);
    let is_error = |finding: &Finding| finding.severity == Severity::Error;
    // If there are errors, one of them may be the cause.
    if !mistakes.iter().chain(&checker.findings).any(is_error) {
        grants::named_by_none(&mut checker, file, &config.identities);
    }
    // An entry that was left out because of an error is not reported as missing.
    let headers: Vec<_> = mistakes.iter().filter_map(|mistake| source.header_line(mistake)).collect();
    let line = |finding: &Finding| finding.location.as_ref().and_then(|location| location.line);
    checker.findings.retain(|finding| !headers.iter().any(|header| line(finding) == Some(*header)));
    checker.findings.extend(mistakes);
    // Findings are in the order of the file, so that each is easy to find.
    checker.findings.sort_by_key(line);
    if !checker.findings.iter().any(is_error) {
        return Loaded { config: Some(config), rest: None, findings: checker.findings };
    }
    config.identities.retain(|name, _| identities::is_name(name));
    config.fronts.retain(|name, _| is_plain(name));
    Loaded { config: None, rest: Some(config), findings: checker.findings }
}

/// Returns whether Linux refuses to listen on both addresses: they are the same, or one of them is the
/// wildcard of their family. Port 0 stands for a different port each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let wild = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || wild && one.is_ipv6() == other.is_ipv6())
}

/// Like [`collide`], for `[::]` and an IPv4 address if net.ipv6.bindv6only is 0, which is its default
/// (ipv6(7)).
fn may_collide(one: SocketAddr, other: SocketAddr) -> bool {
    let both =
        |six: SocketAddr, four: SocketAddr| six.ip().is_unspecified() && six.is_ipv6() && four.is_ipv4();
    one.port() != 0 && one.port() == other.port() && (both(one, other) || both(other, one))
}

impl Checker<'_> {
    fn config(&mut self, file: &raw::File, request: &Request) -> Config {
        let discovered = self.discovered(file, request);
        let identities = identities::check(self, file, discovered);
        let sockets = self.tables(&file.socket, Self::socket);
        let listeners = self.tables(&file.listener, Self::listener);
        self.distinct_addresses(file);
        let fronts = fronts::check(self, file, &identities);
        let grants = grants::check(self, file, &identities);
        let config = Config {
            control: self.control(&file.control, request),
            sockets,
            keeper_user: file.keeper.user.as_ref().and_then(|user| self.user(user)),
            fronts,
            identities,
            trusts: self.tables(&file.trust, Self::trust),
            listeners,
            grants,
            limits: limits::check(self, &file.limits),
            tickets: tickets::check(self, &file.tickets),
            log: self.log(&file.log),
        };
        self.distinct_sockets(file, &config);
        config
    }

    fn control(&mut self, raw: &raw::Control, request: &Request) -> SocketFile {
        let configured = raw.socket.as_ref().map(|path| self.socket_path(path));
        let path = request.socket.clone().or(configured);
        self.socket_file(path, raw.mode.as_ref(), raw.group.as_ref())
    }

    fn socket(&mut self, _name: &Text, raw: &raw::Socket) -> SocketFile {
        let path = raw.path.as_ref().map(|path| self.socket_path(path));
        self.socket_file(path, raw.mode.as_ref(), raw.group.as_ref())
    }

    fn socket_file(
        &mut self,
        path: Option<PathBuf>,
        mode: Option<&Spanned<Value>>,
        group: Option<&Spanned<Value>>,
    ) -> SocketFile {
        let group = group.and_then(|group| self.account(group, "group", accounts::gid_of));
        let mode = mode.and_then(|mode| self.mode(mode)).unwrap_or(SOCKET_MODE);
        SocketFile { path, mode, group }
    }

    /// Parses a file mode: `"0660"` or `0o660`. A decimal 660 is above 0o777 and therefore an error.
    fn mode(&mut self, value: &Spanned<Value>) -> Option<u32> {
        let mode = match value.get_ref() {
            Value::String(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
            Value::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        let mode = mode.filter(|mode| *mode <= 0o777);
        if mode.is_none() {
            self.error(value.span(), "invalid file mode", "write it in octal, such as \"0660\"");
        }
        mode
    }

    fn listener(&mut self, name: &Text, raw: &raw::Listener) -> Listener {
        let location = self.source.location(name.span());
        let address = raw.address.as_ref().and_then(|text| {
            let address = text.get_ref().parse().ok();
            if address.is_none() {
                let cause = format!("`{}` is not a valid listen address", text.get_ref());
                self.error(text.span(), cause, "write IP:PORT, such as \"0.0.0.0:443\" or \"[::]:443\"");
            }
            address
        });
        Listener { address, location }
    }

    fn distinct_addresses(&mut self, file: &raw::File) {
        let mut taken: Vec<(SocketAddr, &str)> = Vec::new();
        for (name, raw) in &file.listener {
            let Some(text) = &raw.address else { continue };
            // Invalid addresses have already been reported.
            let Ok(address) = text.get_ref().parse::<SocketAddr>() else { continue };
            if let Some((other, owner)) = taken.iter().find(|(other, _)| collide(*other, address)) {
                let cause = format!("listener `{owner}` already uses the address {other}");
                self.error(text.span(), cause, "give each listener its own address");
            } else if let Some((other, owner)) = taken.iter().find(|(other, _)| may_collide(*other, address))
            {
                let cause =
                    format!("listener `{owner}` already uses the address {other}, and [::] also covers IPv4");
                let hint = "keep only [::], or set the sysctl net.ipv6.bindv6only";
                self.findings.push(Finding::warning(self.source.location(text.span()), cause).hint(hint));
            }
            taken.push((address, name.get_ref()));
        }
    }

    fn trust(&mut self, name: &Text, raw: &raw::Trust) -> Trust {
        if name.get_ref() == "system" {
            let cause = "`system` is reserved for the operating system's trust store and cannot be declared";
            self.error(name.span(), cause, "choose another name");
        }
        if raw.file.is_none() && raw.directory.is_none() {
            let cause = format!("trust `{}` has no certificates", name.get_ref());
            self.error(name.span(), cause, "give it `file`, `directory` or both");
        }
        let mut path = |text: &Option<Text>| text.as_ref().map(|text| self.path(text));
        let (file, directory, crl) = (path(&raw.file), path(&raw.directory), path(&raw.crl));
        Trust { file, directory, crl, location: self.source.location(name.span()) }
    }

    fn log(&mut self, raw: &raw::Log) -> Log {
        let mut log = Log::default();
        if let Some(text) = &raw.level {
            match text.get_ref().parse() {
                Ok(level) if text.get_ref().parse::<usize>().is_err() => log.level = level,
                _ => self.error(
                    text.span(),
                    format!("unknown level `{}`", text.get_ref()),
                    "use error, warn, info, debug or trace",
                ),
            }
        }
        if let Some(text) = &raw.format {
            match text.get_ref().parse() {
                Ok(format) => log.format = format,
                Err(unknown) => {
                    let cause = format!("unknown format `{}`", text.get_ref());
                    self.error(text.span(), cause, unknown.to_string());
                }
            }
        }
        log
    }

    fn discovered(&mut self, file: &raw::File, request: &Request) -> Vec<directory::Discovered> {
        let configured = file.identities.directory.as_ref().map(|text| {
            let location = self.source.location(text.span());
            (self.path(text), location)
        });
        let named = request
            .identities
            .iter()
            .map(|path| (std::path::absolute(path).unwrap_or_else(|_| path.clone()), Location::file(path)));
        let mut found = Vec::new();
        for (path, location) in configured.into_iter().chain(named) {
            match directory::list(&path, directory::ENTRIES_MAX) {
                Ok((more, is_cut)) => {
                    found.extend(more);
                    if is_cut {
                        let most = directory::ENTRIES_MAX;
                        let cause = format!(
                            "{} has more than {most} entries: the others are ignored",
                            path.display()
                        );
                        let hint =
                            "keep only identities in this directory, or declare them as [identity.NAME]";
                        self.findings.push(Finding::warning(location, cause).hint(hint));
                    }
                }
                Err(error) => self.findings.push(
                    Finding::error(location, format!("{} cannot be read: {error}", path.display()))
                        .hint("name a directory of identities"),
                ),
            }
        }
        found
    }

    fn distinct_sockets(&mut self, file: &raw::File, config: &Config) {
        let named = file.socket.values().filter_map(|raw| raw.path.as_ref());
        let keepers = file.front.values().filter_map(|raw| raw.keeper_socket.as_ref());
        let mut taken: BTreeSet<PathBuf> = config.control.path.iter().cloned().collect();
        for text in named.chain(keepers) {
            let path = self.path(text);
            if !taken.insert(path) {
                let cause = format!("another socket already uses the path {}", text.get_ref());
                self.error(text.span(), cause, "give each socket its own path");
            }
        }
    }
}
