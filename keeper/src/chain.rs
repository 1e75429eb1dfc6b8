//! From the certificates of a file to the chain that is sent: the key's own first, then each one's issuer.

use crate::crypto::{Certificate, PrivateKey};

/// A chain in order, and what an operator should know about it.
pub(crate) struct Chain {
    /// The key's own certificate first.
    pub(crate) certificates: Vec<Certificate>,
    /// For people.
    pub(crate) warnings: Vec<String>,
}

impl Chain {
    /// Puts certificates in order; none when none of them is for the key.
    pub(crate) fn of(key: &PrivateKey, mut given: Vec<Certificate>) -> Option<Self> {
        let place = given.iter().position(|certificate| certificate.is_for(key))?;
        let mut in_order = place == 0;
        let mut certificates = vec![given.remove(place)];
        while let Some(place) = issuer(&certificates, &given) {
            in_order &= place == 0;
            certificates.push(given.remove(place));
        }
        let warnings = order_warning(in_order, given.len()).into_iter().chain(gap_warning(&certificates));
        let warnings = warnings.map(str::to_owned).collect();
        Some(Self { certificates, warnings })
    }
}

/// Where the issuer of the last certificate is; a certificate that issued itself ends the chain.
fn issuer(chain: &[Certificate], given: &[Certificate]) -> Option<usize> {
    let last = chain.last().filter(|last| !last.issued(last))?;
    given.iter().position(|certificate| certificate.issued(last))
}

fn order_warning(in_order: bool, left: usize) -> Option<&'static str> {
    match (in_order, left) {
        (true, 0) => None,
        (false, 0) => Some("the certificates are not in order of issue; they are sent in the right one"),
        _ => Some("certificates that are not of this chain are left out: remove them from the file"),
    }
}

/// Roots are not known here, but one that says where to get its issuer's certificate was not issued by a root.
fn gap_warning(chain: &[Certificate]) -> Option<&'static str> {
    let [leaf] = chain else { return None };
    let gap = leaf.names_its_issuers_place() && !leaf.issued(leaf);
    gap.then_some("the chain is incomplete: add the issuer's certificate behind this one (fullchain.pem)")
}
