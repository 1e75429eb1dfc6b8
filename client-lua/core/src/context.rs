//! A context that a program requested. It is created on the current control connection.

use crate::client::{Client, Generation, Session};
use crate::control::{CallError, request_deadline};
use crate::error::Error;
use crate::material::{Hashed, Material, MaterialError};
use luassl_protocol::{
    AdditionalIdentity, Blob, BlobStored, ContextMade, ContextSpec, DhSpec, Digest, FailureReason,
    MakeContext, Request,
};
use std::cell::Cell;
use std::rc::Rc;

/// The number of times that the daemon may report missing blobs. It may evict some while others arrive.
const ROUNDS: usize = 3;

/// The parts of a context before its creation.
#[derive(Default)]
pub struct ContextRequest {
    /// The description. The methods fill in the digests.
    pub spec: ContextSpec,
    material: Vec<Material>,
}

impl ContextRequest {
    /// Sets the chain of the identity.
    pub fn chain(&mut self, chain: Material) {
        self.spec.chain = Some(chain.digest());
        self.material.push(chain);
    }

    /// Sets the second argument of LuaSSL's wrap: a chain or trust anchors. The daemon distinguishes them.
    pub fn chain_or_trust(&mut self, certificates: Material) {
        self.spec.chain_or_trust = Some(certificates.digest());
        self.material.push(certificates);
    }

    /// Adds trust anchors.
    pub fn trust(&mut self, certificates: Material) {
        self.spec.trust.certificates.push(certificates.digest());
        self.material.push(certificates);
    }

    /// Adds certificate revocation lists.
    pub fn crl(&mut self, crl: Material) {
        self.spec.trust.crls.push(crl.digest());
        self.material.push(crl);
    }

    /// Adds trust anchors and CRLs of a hashed directory.
    ///
    /// # Errors
    /// Returns [`MaterialError`] if the directory cannot be read, is too large, or has no hashed names.
    pub fn directory(&mut self, directory: &[u8]) -> Result<(), MaterialError> {
        let hashed = Hashed::read(directory)?;
        hashed.certificates.into_iter().for_each(|material| self.trust(material));
        hashed.crls.into_iter().for_each(|material| self.crl(material));
        Ok(())
    }

    /// Like [`ContextRequest::directory`], but ignores directories that cannot be used. If `crls` is true,
    /// adds only the CRLs.
    pub fn lenient_directory(&mut self, directory: &[u8], crls: bool) {
        let Ok(hashed) = Hashed::read(directory) else { return };
        if crls {
            hashed.crls.into_iter().for_each(|material| self.crl(material));
        } else {
            hashed.certificates.into_iter().for_each(|material| self.trust(material));
        }
    }

    /// Adds an identity, with its chain if that is not the identity's own.
    pub fn additional_identities(&mut self, identity: String, chain: Option<Material>) {
        let digest = chain.as_ref().map(Material::digest);
        self.spec.additional_identities.push(AdditionalIdentity { identity, chain: digest });
        self.material.extend(chain);
    }

    /// Sets the Diffie-Hellman parameters.
    pub fn dh(&mut self, parameters: Material) {
        self.spec.dh = Some(DhSpec::Parameters(parameters.digest()));
        self.material.push(parameters);
    }
}

/// A context of a program.
pub struct Context {
    client: Rc<Client>,
    spec: ContextSpec,
    material: Vec<Material>,
    made: Cell<Option<(Generation, u64)>>,
}

impl Context {
    /// Requests a context from the daemon.
    ///
    /// # Errors
    /// Returns an error if the daemon refuses it, or cannot be reached.
    pub fn new(client: &Rc<Client>, context_request: ContextRequest) -> Result<Rc<Self>, Error> {
        let mut spec = context_request.spec;
        // This is the current directory at this time. The program may change it before the context is
        // recreated after a fork.
        spec.directory =
            std::env::current_dir().ok().and_then(|path| path.into_os_string().into_string().ok());
        let context = Self {
            client: Rc::clone(client),
            spec,
            material: context_request.material,
            made: Cell::new(None),
        };
        client
            .repeatable_session(request_deadline(), |session| context.number(session))
            .map_err(|error| context.named(error))?;
        Ok(Rc::new(context))
    }

    pub(crate) fn client(&self) -> &Rc<Client> {
        &self.client
    }

    /// Returns the number of the context on this control connection. Creates the context if necessary.
    pub(crate) fn number(&self, session: &mut Session<'_>) -> Result<u64, CallError> {
        match self.made.get() {
            Some((generation, number)) if generation == session.generation() => Ok(number),
            _ => self.make(session),
        }
    }

    fn make(&self, session: &mut Session<'_>) -> Result<u64, CallError> {
        let number = self.ask(session)?;
        self.made.set(Some((session.generation(), number)));
        Ok(number)
    }

    fn ask(&self, session: &mut Session<'_>) -> Result<u64, CallError> {
        let again = self.made.get().is_some();
        let request = Request::Context(Box::new(MakeContext { spec: self.spec.clone(), again }));
        for _ in 0..ROUNDS {
            let made: ContextMade = session.call(&request, None)?.fields;
            if let Some(number) = made.context {
                return Ok(number);
            }
            for digest in &made.missing {
                self.send_blob(session, digest)?;
            }
        }
        Err(CallError::Garbage("it keeps requesting the same certificates".into()))
    }

    fn send_blob(&self, session: &mut Session<'_>, digest: &Digest) -> Result<(), CallError> {
        let found = self.material.iter().find(|material| material.digest() == *digest);
        let Some(found) = found else {
            return Err(CallError::Garbage("it requests certificates that the context does not use".into()));
        };
        let blob = Request::Blob(Blob { data: found.bytes().to_vec() });
        match session.call::<BlobStored>(&blob, None) {
            Err(CallError::TooLarge { length, limit, .. }) => {
                Err(CallError::TooLarge { what: found.origin().to_owned(), length, limit })
            }
            other => other.map(drop),
        }
    }

    /// Adds the names of the files to a failure, because the daemon knows only their contents.
    fn named(&self, error: Error) -> Error {
        let origins: Vec<&str> = self.material.iter().map(Material::origin).collect();
        if error.reason != Some(FailureReason::Pem) || origins.is_empty() {
            return error;
        }
        Error { message: format!("{} (given: {})", error.message, origins.join(", ")), ..error }
    }
}

impl Context {
    /// Releases a context. If this was the last reference, the daemon has also released it when this function
    /// returns.
    pub fn release(context: Rc<Self>) {
        let client = Rc::clone(&context.client);
        drop(context);
        client.give_back();
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some((generation, number)) = self.made.get() {
            self.client.forget(generation, number);
        }
    }
}
