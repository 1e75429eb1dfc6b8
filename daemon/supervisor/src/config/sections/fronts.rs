//! `[front.NAME]`: assigns sockets, listeners and identities to fronts. Without such a table, there is one
//! front with everything.

use crate::config::checker::Checker;
use crate::config::model::{DEFAULT_FRONT, Front, Identity, Roles, Selection};
use crate::config::raw::{self, Text};
use crate::config::sections::grants::{names, refers_to_identity};
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;

/// The maximum number of sockets and listeners of one front. They are passed in one message, and the kernel
/// limits a message to 253 descriptors.
const MAX_SOCKETS: usize = 200;

/// Checks every front, and assigns each socket and listener to one front.
pub(crate) fn check(
    checker: &mut Checker<'_>,
    file: &raw::File,
    identities: &BTreeMap<String, Identity>,
) -> BTreeMap<String, Front> {
    let mut fronts: BTreeMap<String, Front> = checker.tables(&file.front, front);
    for front in file.front.values() {
        for text in front.identities.iter().flatten().filter(|text| text.get_ref() != "*") {
            refers_to_identity(checker, text, file, identities);
        }
    }
    if fronts.is_empty() {
        fronts.insert(DEFAULT_FRONT.to_owned(), with_everything());
    }
    claims(checker, file);
    assign(checker, file, &mut fronts);
    for (name, front) in &fronts {
        if front.sockets.len() + front.listeners.len() > MAX_SOCKETS {
            let span = file.front.keys().find(|key| key.get_ref() == name).map_or(0..0, Spanned::span);
            let cause = format!("front `{name}` has more than {MAX_SOCKETS} sockets and listeners");
            checker.error(span, cause, "assign some of them to another front");
        }
    }
    fronts
}

fn with_everything() -> Front {
    Front {
        user: None,
        keeper_socket: None,
        identities: Selection::All,
        roles: Roles { server: true, client: true },
        control: false,
        sockets: BTreeSet::new(),
        listeners: BTreeSet::new(),
        ticket_domain: None,
    }
}

fn front(checker: &mut Checker<'_>, _name: &Text, raw: &raw::Front) -> Front {
    let set = |texts: &Option<raw::Texts>| -> BTreeSet<String> {
        texts.iter().flatten().map(|text| text.get_ref().clone()).collect()
    };
    let identities = match &raw.identities {
        Some(texts) if texts.iter().all(|text| text.get_ref() != "*") => {
            Selection::Only(set(&raw.identities))
        }
        _ => Selection::All,
    };
    Front {
        user: raw.user.as_ref().and_then(|user| checker.user(user)),
        keeper_socket: raw.keeper_socket.as_ref().map(|text| checker.socket_path(text)),
        identities,
        roles: checker.roles(raw.roles.as_ref()),
        control: false,
        sockets: set(&raw.sockets),
        listeners: set(&raw.listeners),
        ticket_domain: raw.ticket_domain.as_ref().map(|text| {
            checker.plain_name(text);
            text.get_ref().clone()
        }),
    }
}

/// Checks that the sockets and listeners of fronts are declared, and that no two fronts have the same one.
fn claims(checker: &mut Checker<'_>, file: &raw::File) {
    let mut claimed = BTreeSet::new();
    for front in file.front.values() {
        let sockets = front.sockets.iter().flatten().map(|text| ("socket", text));
        let listeners = front.listeners.iter().flatten().map(|text| ("listener", text));
        for (kind, text) in sockets.chain(listeners) {
            match kind {
                "socket" => checker.refers(text, kind, names(&file.socket)),
                _ => checker.refers(text, kind, names(&file.listener)),
            };
            if !claimed.insert((kind, text.get_ref())) {
                let cause = format!("two fronts claim {kind} `{}`", text.get_ref());
                checker.error(text.span(), cause, "remove it from one of them");
            }
        }
    }
}

/// Assigns the sockets and listeners that no front lists to the only front, or to `default` if there are
/// several fronts.
fn assign(checker: &mut Checker<'_>, file: &raw::File, fronts: &mut BTreeMap<String, Front>) {
    let known: Vec<String> = fronts.keys().cloned().collect();
    let rest = match known.as_slice() {
        [only] => Some(only.clone()),
        _ => known.into_iter().find(|name| name == DEFAULT_FRONT),
    };
    let rest = rest.as_deref();
    give(checker, &file.socket, "socket", rest, fronts, |front| &mut front.sockets);
    give(checker, &file.listener, "listener", rest, fronts, |front| &mut front.listeners);
    match rest.and_then(|name| fronts.get_mut(name)) {
        Some(front) => front.control = true,
        None => {
            let span = file.front.keys().next().map_or(0..0, Spanned::span);
            let hint = format!("name one of the fronts `{DEFAULT_FRONT}`");
            checker.error(span, "no front serves the control socket", hint);
        }
    }
}

fn give<R>(
    checker: &mut Checker<'_>,
    declared: &raw::Tables<R>,
    kind: &str,
    rest: Option<&str>,
    fronts: &mut BTreeMap<String, Front>,
    set: fn(&mut Front) -> &mut BTreeSet<String>,
) {
    for name in declared.keys() {
        if fronts.values_mut().any(|front| set(front).contains(name.get_ref())) {
            continue;
        }
        if let Some(front) = rest.and_then(|rest| fronts.get_mut(rest)) {
            set(front).insert(name.get_ref().clone());
        } else {
            let hint = format!("add it to `{kind}s` of one [front.NAME]");
            checker.error(name.span(), format!("no front serves {kind} `{}`", name.get_ref()), hint);
        }
    }
}
