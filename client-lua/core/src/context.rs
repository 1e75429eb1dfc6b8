//! A context as a program asked for it, made on whichever control connection there is.

use crate::client::{Client, Generation, Session};
use crate::control::{CallError, request_deadline};
use crate::error::Error;
use crate::material::{Hashed, Material, MaterialError};
use luassl_protocol::{
    Blob, BlobStored, ContextMade, ContextSpec, DhSpec, Digest, ErrorCode, Failure, MakeContext, Request,
};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How often the daemon may say that blobs are missing: it may forget some while others come.
const ROUNDS: usize = 3;

/// What a context is made of, while it is being put together.
#[derive(Default)]
pub struct Recipe {
    /// The description; digests are filled in by the methods.
    pub spec: ContextSpec,
    material: Vec<Material>,
}

impl Recipe {
    /// The chain of the identity.
    pub fn chain(&mut self, chain: Material) {
        self.spec.chain = Some(chain.digest());
        self.material.push(chain);
    }

    /// The classic second argument: a chain or trust anchors, which the daemon tells apart.
    pub fn chain_or_trust(&mut self, certificates: Material) {
        self.spec.chain_or_trust = Some(certificates.digest());
        self.material.push(certificates);
    }

    /// Trust anchors.
    pub fn trust(&mut self, certificates: Material) {
        self.spec.trust.certificates.push(certificates.digest());
        self.material.push(certificates);
    }

    /// Certificate revocation lists.
    pub fn crl(&mut self, crl: Material) {
        self.spec.trust.crls.push(crl.digest());
        self.material.push(crl);
    }

    /// Trust anchors and CRLs of a hashed directory.
    ///
    /// # Errors
    /// [`MaterialError`] where it cannot be read, is too large, or has no hashed names.
    pub fn directory(&mut self, directory: &[u8]) -> Result<(), MaterialError> {
        let hashed = Hashed::read(directory)?;
        hashed.certificates.into_iter().for_each(|material| self.trust(material));
        hashed.crls.into_iter().for_each(|material| self.crl(material));
        Ok(())
    }

    /// Diffie-Hellman parameters.
    pub fn dh(&mut self, parameters: Material) {
        self.spec.dh = Some(DhSpec::Parameters(parameters.digest()));
        self.material.push(parameters);
    }
}

/// A context of a program.
pub struct Context {
    client: Rc<Client>,
    /// The description as given, then with relative names joined to the working directory of the time.
    candidates: Vec<ContextSpec>,
    chosen: Cell<Option<usize>>,
    material: Vec<Material>,
    made: Cell<Option<(Generation, u64)>>,
}

impl Context {
    /// Asks the daemon for a context.
    ///
    /// # Errors
    /// What the daemon has against it, or that there is no daemon.
    pub fn new(client: &Rc<Client>, recipe: Recipe) -> Result<Rc<Self>, Error> {
        let context = Self {
            client: Rc::clone(client),
            candidates: candidates(recipe.spec, std::env::current_dir().ok().as_deref()),
            chosen: Cell::new(None),
            material: recipe.material,
            made: Cell::new(None),
        };
        client.session(request_deadline(), |session| context.number(session))?;
        Ok(Rc::new(context))
    }

    pub(crate) fn client(&self) -> &Rc<Client> {
        &self.client
    }

    /// The context's number on this control connection; made there where it is not yet.
    pub(crate) fn number(&self, session: &mut Session<'_>) -> Result<u64, CallError> {
        match self.made.get() {
            Some((generation, number)) if generation == session.generation() => Ok(number),
            _ => self.make(session),
        }
    }

    fn make(&self, session: &mut Session<'_>) -> Result<u64, CallError> {
        let number = match self.chosen.get() {
            Some(index) => self.make_one(session, index)?,
            None => self.choose(session)?,
        };
        self.made.set(Some((session.generation(), number)));
        Ok(number)
    }

    /// The first description that the daemon knows all identities of. Where it knows none, its answer to the names as
    /// they were given is what the program should see.
    fn choose(&self, session: &mut Session<'_>) -> Result<u64, CallError> {
        let mut refusal = None;
        for index in 0..self.candidates.len() {
            match self.make_one(session, index) {
                Err(CallError::Failed(failure)) if failure.code == ErrorCode::Refused => {
                    refusal.get_or_insert(failure);
                }
                outcome => {
                    self.chosen.set(outcome.is_ok().then_some(index));
                    return outcome;
                }
            }
        }
        let unknown = || Failure::new(ErrorCode::Refused, "the daemon refuses this context");
        Err(CallError::Failed(refusal.unwrap_or_else(unknown)))
    }

    fn make_one(&self, session: &mut Session<'_>, index: usize) -> Result<u64, CallError> {
        let request = Request::Context(Box::new(MakeContext { spec: self.candidates[index].clone() }));
        for _ in 0..ROUNDS {
            let made: ContextMade = session.call(&request, None)?.fields;
            if let Some(number) = made.context {
                return Ok(number);
            }
            for digest in &made.missing {
                self.send_blob(session, digest)?;
            }
        }
        Err(CallError::Garbage("it asks for the same certificates again and again".into()))
    }

    fn send_blob(&self, session: &mut Session<'_>, digest: &Digest) -> Result<(), CallError> {
        let found = self.material.iter().find(|material| material.digest() == *digest);
        let Some(found) = found else {
            return Err(CallError::Garbage("it asks for certificates that were not named".into()));
        };
        let blob = Request::Blob(Blob { data: found.bytes().to_vec() });
        session.call::<BlobStored>(&blob, None)?;
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some((generation, number)) = self.made.get() {
            self.client.forget(generation, number);
        }
    }
}

/// An identity answers to text: as given, or joined to the working directory. Names with a slash are surely paths, so
/// that `keys/a.pem` beside `www` is tried before both are joined.
fn candidates(spec: ContextSpec, directory: Option<&Path>) -> Vec<ContextSpec> {
    let mut candidates = vec![spec];
    if let Some(directory) = directory {
        let paths = joined(&candidates[0], |name| name.contains('/').then(|| join(directory, name))?);
        let all = joined(&candidates[0], |name| join(directory, name));
        for candidate in [paths, all] {
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
    }
    candidates
}

fn joined(spec: &ContextSpec, change: impl Fn(&str) -> Option<String>) -> ContextSpec {
    let mut spec = spec.clone();
    let names = spec.identity.iter_mut().chain(&mut spec.identities);
    for name in names.chain(spec.sni.iter_mut().map(|entry| &mut entry.identity)) {
        if let Some(changed) = change(name) {
            *name = changed;
        }
    }
    spec
}

/// The text of the path, `.` and `..` resolved in it as text alone; none for what is absolute already.
fn join(directory: &Path, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut path = PathBuf::from(directory);
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.into_os_string().into_string().ok()
}
