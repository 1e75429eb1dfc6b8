//! The options of `wrap` as a Lua table with named fields. Lua converts the positional form to such a table.

use luassl_client::{ContextRequest, Kind, Material};
use luassl_protocol::{
    DaneSpec, DhSpec, ProtocolVersion, PskKey, PskSpec, Secret, SniEntry, option_sum, sum_from_number,
    verify_sum,
};
use mlua::prelude::*;

/// The reason why options cannot be used.
pub(crate) enum Fault {
    /// An unknown option, or an option of the wrong type. It is thrown.
    Misuse(String),
    /// An unusable value. It is returned.
    Failed(String),
}

type Outcome = Result<(), Fault>;

/// Builds the context request from the options of `wrap`.
pub(crate) fn context_request(options: &LuaTable) -> Result<ContextRequest, Fault> {
    let mut context_request = ContextRequest::default();
    for pair in options.pairs::<LuaValue, LuaValue>() {
        let (name, value) = pair.map_err(|error| Fault::Misuse(error.to_string()))?;
        let name = match &name {
            LuaValue::String(name) => name.to_string_lossy(),
            _ => return Err(Fault::Misuse("wrap takes named options: wrap{key = ...}".into())),
        };
        apply(&mut context_request, &Option { name: &name, value: &value })?;
    }
    Ok(context_request)
}

/// Builds the context request for LuaSec, which has more options than `wrap`.
pub(crate) fn lock_step_request(options: &LuaTable) -> Result<ContextRequest, Fault> {
    let mut context_request = ContextRequest::default();
    for pair in options.pairs::<String, LuaValue>() {
        let (name, value) = pair.map_err(|error| Fault::Misuse(error.to_string()))?;
        apply_lock_step(&mut context_request, &Option { name: &name, value: &value })?;
    }
    Ok(context_request)
}

fn apply_lock_step(context_request: &mut ContextRequest, option: &Option<'_>) -> Outcome {
    let spec = &mut context_request.spec;
    match option.name {
        "additional_identities" => return option.additional_identities(context_request),
        "trust_none" => spec.trust.trust_none = option.boolean()?,
        "capath" => context_request.lenient_directory(&option.bytes()?, false),
        "crlpath" => context_request.lenient_directory(&option.bytes()?, true),
        "crl_check" => spec.crl_check = option.boolean()?,
        "verify_continue" => spec.verify_continue = option.boolean()?,
        "ignore_purpose" => spec.ignore_purpose = option.boolean()?,
        "alpn_optional" => spec.alpn_optional = option.boolean()?,
        "client_hello" => spec.client_hello = option.boolean()?,
        "psk" => spec.psk = Some(option.psk()?),
        "dane" => spec.dane = Some(DaneSpec { no_ee_namechecks: option.boolean()? }),
        "staple" => spec.staple = option.boolean()?,
        "key_log" => spec.key_log = option.boolean()?,
        _ => return apply(context_request, option),
    }
    Ok(())
}

fn apply(context_request: &mut ContextRequest, option: &Option<'_>) -> Outcome {
    let spec = &mut context_request.spec;
    match option.name {
        "key" => spec.identity = Some(option.text()?),
        "identities" => spec.identities = option.list()?,
        "sni" => spec.sni = option.entries()?,
        "sni_strict" => spec.sni_strict = option.boolean()?,
        "verify" => spec.verify = Some(option.sum(|names| verify_sum(names).map_err(|e| e.to_string()))?),
        "options" => spec.options = Some(option.sum(|names| option_sum(names).map_err(|e| e.to_string()))?),
        "depth" => spec.depth = Some(option.count()?),
        "resumption" => spec.no_resumption = !option.boolean()?,
        "crl_check_chain" => spec.crl_check_chain = option.boolean()?,
        "ciphers" => spec.ciphers = Some(option.joined()?),
        "ciphersuites" => spec.ciphersuites = Some(option.joined()?),
        "groups" => spec.groups = Some(option.joined()?),
        "minimum_protocol" => spec.minimum_protocol = Some(option.version()?),
        "maximum_protocol" => spec.maximum_protocol = Some(option.version()?),
        "alpn" => spec.alpn = option.list()?,
        "dh" => spec.dh = Some(option.dh()?),
        "trust" => option.list()?.into_iter().for_each(|name| match name.as_str() {
            "system" => spec.trust.system = true,
            _ => spec.trust.named.push(name),
        }),
        "certificate" => context_request.chain_or_trust(option.material(Kind::Certificates)?),
        "chain" => context_request.chain(option.material(Kind::Certificates)?),
        "cafile" => option.each_material(Kind::Certificates, |material| context_request.trust(material))?,
        "crl" => option.each_material(Kind::Crls, |material| context_request.crl(material))?,
        "certdir" => {
            return context_request.directory(&option.bytes()?).map_err(|error| option.failed(error));
        }
        "dhfile" => context_request.dh(option.material(Kind::DhParameters)?),
        unknown => return Err(Fault::Misuse(format!("wrap has no option '{unknown}'"))),
    }
    Ok(())
}

/// One option and its name.
struct Option<'a> {
    name: &'a str,
    value: &'a LuaValue,
}

impl Option<'_> {
    fn wrong(&self, wanted: &str) -> Fault {
        let got = self.value.type_name();
        Fault::Misuse(format!("option '{}' of wrap: {wanted} expected, got {got}", self.name))
    }

    fn failed(&self, why: impl std::fmt::Display) -> Fault {
        Fault::Failed(format!("option '{}': {why}", self.name))
    }

    fn bytes(&self) -> Result<Vec<u8>, Fault> {
        match self.value {
            LuaValue::String(text) => Ok(text.as_bytes().to_vec()),
            _ => Err(self.wrong("string")),
        }
    }

    fn text(&self) -> Result<String, Fault> {
        String::from_utf8(self.bytes()?).map_err(|_| self.failed("not valid UTF-8"))
    }

    fn boolean(&self) -> Result<bool, Fault> {
        self.value.as_boolean().ok_or_else(|| self.wrong("boolean"))
    }

    fn number(&self) -> Result<f64, Fault> {
        match self.value {
            LuaValue::Integer(integer) => Ok(*integer as f64),
            LuaValue::Number(number) => Ok(*number),
            _ => Err(self.wrong("number")),
        }
    }

    fn count(&self) -> Result<u32, Fault> {
        let number = self.number()?;
        if number.fract() == 0.0 && (0.0..=100.0).contains(&number) {
            return Ok(number as u32);
        }
        Err(self.failed("expected a whole number from 0 to 100"))
    }

    /// Returns the texts of the option, which is one text or a table of texts.
    fn list(&self) -> Result<Vec<String>, Fault> {
        self.each()?.iter().map(|value| Option { name: self.name, value }.text()).collect()
    }

    fn each(&self) -> Result<Vec<LuaValue>, Fault> {
        match self.value {
            LuaValue::String(_) => Ok(vec![self.value.clone()]),
            LuaValue::Table(table) => table
                .sequence_values()
                .collect::<LuaResult<_>>()
                .map_err(|error| Fault::Misuse(error.to_string())),
            _ => Err(self.wrong("string or table of strings")),
        }
    }

    fn joined(&self) -> Result<String, Fault> {
        Ok(self.list()?.join(":"))
    }

    /// Reads `{{key = "identity", chain = PEM}, ...}`.
    fn additional_identities(&self, context_request: &mut ContextRequest) -> Outcome {
        for value in self.each()? {
            let Some(pair) = value.as_table() else { return Err(self.wrong("table of tables")) };
            let field = |name| pair.raw_get(name).map_err(|_| self.wrong("table of tables"));
            let (key, chain): (LuaValue, LuaValue) = (field("key")?, field("chain")?);
            let identity = Option { name: self.name, value: &key }.text()?;
            let chain = Option { name: self.name, value: &chain };
            let chain = if chain.value.is_nil() { None } else { Some(chain.material(Kind::Certificates)?) };
            context_request.additional_identities(identity, chain);
        }
        Ok(())
    }

    /// Reads `{hint = "...", keys = {{identity = "...", key = "..."}, ...}, ask = true}`.
    fn psk(&self) -> Result<PskSpec, Fault> {
        let wrong = || self.wrong("table of a psk");
        let table = self.value.as_table().ok_or_else(wrong)?;
        let hint: std::option::Option<LuaString> = table.raw_get("hint").map_err(|_| wrong())?;
        let keys: Vec<LuaTable> = table.raw_get("keys").map_err(|_| wrong())?;
        let key = |pair: &LuaTable| {
            let field = |name| pair.raw_get::<LuaString>(name).map_err(|_| wrong());
            let (identity, key) = (field("identity")?, field("key")?);
            let identity = identity.as_bytes().to_vec().into();
            Ok(PskKey { identity, key: Secret::from(&key.as_bytes()[..]) })
        };
        Ok(PskSpec {
            hint: hint.map(|hint| hint.as_bytes().to_vec().into()),
            keys: keys.iter().map(key).collect::<Result<_, Fault>>()?,
            ask: table.raw_get("ask").map_err(|_| wrong())?,
        })
    }

    /// Reads `{["*.example.org"] = "identity"}`.
    fn entries(&self) -> Result<Vec<SniEntry>, Fault> {
        let Some(table) = self.value.as_table() else {
            return Err(self.wrong("table of names and identities"));
        };
        let mut entries = Vec::new();
        for pair in table.pairs::<LuaValue, LuaValue>() {
            match pair.map_err(|error| Fault::Misuse(error.to_string()))? {
                (name @ LuaValue::String(_), identity @ LuaValue::String(_)) => {
                    let text = |value: &LuaValue| Option { name: self.name, value }.text();
                    entries.push(SniEntry { name: text(&name)?, identity: text(&identity)? });
                }
                // There is no conversion, because a number must not count as a name.
                (LuaValue::String(_), _) => return Err(self.wrong("table of names and identities")),
                _ => {
                    return Err(Fault::Misuse(format!(
                        "option '{}' of wrap: keys must be server names, as in \
                     {{['www.example.org'] = 'identity'}}",
                        self.name
                    )));
                }
            }
        }
        // The order of Lua tables is undefined, but equal tables must result in equal contexts.
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Reads a sum of constants, or a list of their names.
    fn sum(&self, by_names: impl Fn(Vec<String>) -> Result<u64, String>) -> Result<u64, Fault> {
        match self.value {
            LuaValue::Integer(_) | LuaValue::Number(_) => {
                sum_from_number(self.number()?).map_err(|error| self.failed(error))
            }
            LuaValue::String(_) | LuaValue::Table(_) => {
                by_names(self.list()?).map_err(|error| self.failed(error))
            }
            _ => Err(self.wrong("sum of constants or table of their names")),
        }
    }

    fn version(&self) -> Result<ProtocolVersion, Fault> {
        match self.text()?.as_str() {
            "TLSv1.2" | "tlsv1_2" => Ok(ProtocolVersion::Tls12),
            "TLSv1.3" | "tlsv1_3" => Ok(ProtocolVersion::Tls13),
            other => Err(self.failed(format!("unknown version '{other}': use TLSv1.2 or TLSv1.3"))),
        }
    }

    fn dh(&self) -> Result<DhSpec, Fault> {
        Ok(match self.text()?.as_str() {
            "auto" => DhSpec::Automatic,
            name => DhSpec::Named(name.to_owned()),
        })
    }

    fn material(&self, kind: Kind) -> Result<Material, Fault> {
        Material::from_text_or_file(&self.bytes()?, kind).map_err(|error| self.failed(error))
    }

    fn each_material(&self, kind: Kind, mut take: impl FnMut(Material)) -> Outcome {
        for value in &self.each()? {
            take(Option { name: self.name, value }.material(kind)?);
        }
        Ok(())
    }
}
