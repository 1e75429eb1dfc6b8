//! A context as a program asked for it, made on whichever control connection there is.

use crate::client::{Client, Generation, Session};
use crate::control::{CallError, request_deadline};
use crate::error::Error;
use crate::material::{Hashed, Material, MaterialError};
use luassl_protocol::{
    AlsoIdentity, Blob, BlobStored, ContextMade, ContextSpec, DhSpec, Digest, LuaCode, MakeContext, Request,
};
use std::cell::Cell;
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

    /// As [`Recipe::directory`], for programs that name directories whatever is in them; `crls` takes the CRLs alone.
    pub fn lenient_directory(&mut self, directory: &[u8], crls: bool) {
        let Ok(hashed) = Hashed::read(directory) else { return };
        if crls {
            hashed.crls.into_iter().for_each(|material| self.crl(material));
        } else {
            hashed.certificates.into_iter().for_each(|material| self.trust(material));
        }
    }

    /// One more identity, with its chain where it is not the identity's own.
    pub fn also(&mut self, identity: String, chain: Option<Material>) {
        let digest = chain.as_ref().map(Material::digest);
        self.spec.also.push(AlsoIdentity { identity, chain: digest });
        self.material.extend(chain);
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
    spec: ContextSpec,
    material: Vec<Material>,
    made: Cell<Option<(Generation, u64)>>,
}

impl Context {
    /// Asks the daemon for a context.
    ///
    /// # Errors
    /// What the daemon has against it, or that there is no daemon.
    pub fn new(client: &Rc<Client>, recipe: Recipe) -> Result<Rc<Self>, Error> {
        let mut spec = recipe.spec;
        // The directory of this moment: a program may change it later, and makes its contexts anew after a fork.
        spec.directory =
            std::env::current_dir().ok().and_then(|path| path.into_os_string().into_string().ok());
        let context =
            Self { client: Rc::clone(client), spec, material: recipe.material, made: Cell::new(None) };
        client
            .repeatable_session(request_deadline(), |session| context.number(session))
            .map_err(|error| context.named(error))?;
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
        Err(CallError::Garbage("it asks for the same certificates again and again".into()))
    }

    fn send_blob(&self, session: &mut Session<'_>, digest: &Digest) -> Result<(), CallError> {
        let found = self.material.iter().find(|material| material.digest() == *digest);
        let Some(found) = found else {
            return Err(CallError::Garbage("it asks for certificates that were not named".into()));
        };
        let blob = Request::Blob(Blob { data: found.bytes().to_vec() });
        match session.call::<BlobStored>(&blob, None) {
            Err(CallError::TooLarge { length, limit, .. }) => {
                Err(CallError::TooLarge { what: found.origin().to_owned(), length, limit })
            }
            other => other.map(drop),
        }
    }

    /// A failure with the files in it that were brought: the daemon knows them by their content alone.
    fn named(&self, error: Error) -> Error {
        let origins: Vec<&str> = self.material.iter().map(Material::origin).collect();
        if error.code != LuaCode::Misuse || origins.is_empty() || !error.message.contains("PEM block") {
            return error;
        }
        Error::new(error.code, format!("{} (given: {})", error.message, origins.join(", ")))
    }
}

impl Context {
    /// Lets go of a context; where nobody else has it, the daemon has let go of it, too, when this returns.
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
