//! Keys of issuers: JSON Web Key Sets, and which key verifies a token.
//!
//! A key that is not for signatures, of an unknown type or incomplete is left out, as in Envoy; a set without any other is
//! an error. Which algorithms a key may verify depends on its type alone, so that a public RSA key is never the secret of an
//! HMAC. RFC 7517, RFC 7518 section 6, RFC 8037.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;

use super::{algorithm::Algorithm, status::JwtStatus, token::Jwt};
use crate::{json, value::MetadataValue};

/// Maximum length of a key set in bytes.
pub const MAX_JWKS_BYTES: usize = 1024 * 1024;

/// Maximum number of keys of a set, including those that are left out.
pub const MAX_JWKS_KEYS: usize = 256;

/// A set of keys that can verify signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jwks {
    keys: Box<[Jwk]>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// `kid`; `None` if it is missing or empty.
    pub kid: Option<Box<str>>,
    /// `alg`: the only algorithm that it verifies; `None` = all of its type.
    pub alg: Option<Algorithm>,
    /// The key itself.
    pub key: KeyMaterial,
}

/// The parts of a key, decoded.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// `RSA`: modulus and exponent, big-endian, without leading zeros.
    Rsa {
        /// The modulus.
        n: Box<[u8]>,
        /// The exponent.
        e: Box<[u8]>,
    },
    /// `EC`: a point, as long as the curve has it.
    Ec {
        /// The algorithm that belongs to the curve.
        algorithm: Algorithm,
        /// Its first coordinate.
        x: Box<[u8]>,
        /// Its second coordinate.
        y: Box<[u8]>,
    },
    /// `OKP` with the curve Ed25519: 32 bytes.
    Ed25519(Box<[u8]>),
    /// `oct`: a shared secret.
    Oct(Box<[u8]>),
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "RSA",
            Self::Ec { .. } => "EC",
            Self::Ed25519(_) => "Ed25519",
            // Never the secret.
            Self::Oct(_) => "oct",
        })
    }
}

/// A text that has no usable keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Too many bytes.
    #[error("{0} bytes are more than {MAX_JWKS_BYTES}")]
    TooLarge(usize),
    /// Not a JSON object, or one with a key twice.
    #[error("not a JSON object, or one that has a key twice or is nested too deeply")]
    NotJson,
    /// No list of keys.
    #[error("the field keys is not a list")]
    NoKeys,
    /// Too many keys.
    #[error("{0} keys are more than {MAX_JWKS_KEYS}")]
    TooManyKeys(usize),
    /// All keys were left out.
    #[error("no valid public key{}", .0.as_ref().map(|first| format!("; the first: {first}")).unwrap_or_default())]
    NoValidKeys(Option<JwkError>),
}

/// Why a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwkError {
    /// `kty` is missing, unknown, or not a string.
    #[error("kty is not one of RSA, EC, OKP and oct")]
    Kty,
    /// `kid` or `alg` is not a string.
    #[error("kid or alg is not a string")]
    NotString,
    /// `use` is not `sig`, or `key_ops` has no `verify`.
    #[error("use is not sig, or key_ops has no verify")]
    NotForSignatures,
    /// `alg` is unknown, or does not belong to the type.
    #[error("alg does not belong to kty and crv")]
    Alg,
    /// `crv` is unknown.
    #[error("crv is not supported")]
    Crv,
    /// A part of the key is missing, not base64url, or of a wrong length.
    #[error("a part of the key is missing, not base64url, or of a wrong length")]
    Material,
}

impl Jwks {
    /// Reads a key set.
    ///
    /// # Errors
    /// If it has no key that verifies signatures, or exceeds a limit.
    pub fn parse(text: &[u8]) -> Result<Self, JwksError> {
        if text.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge(text.len()));
        }
        let set = json::object(text).ok_or(JwksError::NotJson)?;
        let Some(MetadataValue::List(items)) = json::field(&set, "keys") else { return Err(JwksError::NoKeys) };
        if items.len() > MAX_JWKS_KEYS {
            return Err(JwksError::TooManyKeys(items.len()));
        }
        let (mut keys, mut first) = (Vec::new(), None);
        for item in items {
            match Jwk::read(item) {
                Ok(key) => keys.push(key),
                Err(error) => first = first.or(Some(error)),
            }
        }
        match keys.is_empty() {
            true => Err(JwksError::NoValidKeys(first)),
            false => Ok(Self { keys: keys.into() }),
        }
    }

    /// The keys, in the order of the set.
    #[must_use]
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// Whether the token names a key by a `kid` that no key has. Newer keys may have it.
    #[must_use]
    pub fn lacks_kid_of(&self, jwt: &Jwt) -> bool {
        jwt.kid.is_some() && self.keys.iter().all(|key| key.kid.is_some() && key.kid != jwt.kid)
    }

    /// The positions of the keys that may have signed `jwt`.
    ///
    /// A key with another `kid` has not. A token without `kid` must have exactly one key that fits its `alg`: Envoy tries
    /// all of them.
    ///
    /// # Errors
    /// If there is no such key, or no `kid` to choose by.
    pub fn candidates<'k>(&'k self, jwt: &'k Jwt) -> Result<impl Iterator<Item = usize> + 'k, JwtStatus> {
        let of_kid = move |key: &Jwk| match (&key.kid, &jwt.kid) {
            (Some(of_key), Some(of_token)) => of_key == of_token,
            _ => true,
        };
        let fits = move |(_, key): &(usize, &Jwk)| key.verifies(jwt.algorithm) && of_kid(key);
        let all = move || self.keys.iter().enumerate().filter(fits).map(|(position, _)| position);
        match all().take(2).count() {
            0 => Err(JwtStatus::JwksKidAlgMismatch),
            2 if jwt.kid.is_none() => Err(JwtStatus::JwksKidAlgMismatch),
            _ => Ok(all()),
        }
    }
}

impl Jwk {
    /// Whether it may verify signatures of `algorithm`.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm) -> bool {
        self.alg.is_none_or(|alg| alg == algorithm) && self.key.verifies(algorithm)
    }

    fn read(value: &MetadataValue) -> Result<Self, JwkError> {
        let kty = json::field(value, "kty").and_then(json::string).ok_or(JwkError::Kty)?;
        let optional = |name| match json::field(value, name) {
            None => Ok(None),
            Some(MetadataValue::String(text)) => Ok(Some(&**text)),
            Some(_) => Err(JwkError::NotString),
        };
        let (kid, alg) = (optional("kid")?.filter(|kid| !kid.is_empty()), optional("alg")?);
        let of_signatures = match json::field(value, "key_ops") {
            None => true,
            Some(MetadataValue::List(ops)) => ops.iter().any(|op| json::string(op) == Some("verify")),
            Some(_) => false,
        };
        if !of_signatures || json::field(value, "use").is_some_and(|value| json::string(value) != Some("sig")) {
            return Err(JwkError::NotForSignatures);
        }
        let key = KeyMaterial::read(value, kty)?;
        let alg = alg.map(|alg| Algorithm::parse(alg).filter(|alg| key.verifies(*alg)).ok_or(JwkError::Alg));
        Ok(Self { kid: kid.map(Box::from), alg: alg.transpose()?, key })
    }
}

impl KeyMaterial {
    fn read(value: &MetadataValue, kty: &str) -> Result<Self, JwkError> {
        let bytes = |name| -> Result<Box<[u8]>, JwkError> {
            let text = json::field(value, name).and_then(json::string).ok_or(JwkError::Material)?;
            URL_SAFE_NO_PAD.decode(text).map(Into::into).map_err(|_| JwkError::Material)
        };
        let number = |name| {
            let bytes = bytes(name)?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            if zeros == bytes.len() { Err(JwkError::Material) } else { Ok(bytes[zeros..].into()) }
        };
        let sized = |name, length| {
            bytes(name).and_then(|bytes| match bytes.len() == length {
                true => Ok(bytes),
                false => Err(JwkError::Material),
            })
        };
        let curve = || json::field(value, "crv").and_then(json::string).ok_or(JwkError::Crv);
        match kty {
            "RSA" => Ok(Self::Rsa { n: number("n")?, e: number("e")? }),
            "EC" => {
                let (algorithm, length) = match curve()? {
                    "P-256" => (Algorithm::Es256, 32),
                    "P-384" => (Algorithm::Es384, 48),
                    "P-521" => (Algorithm::Es512, 66),
                    "secp256k1" => (Algorithm::Es256k, 32),
                    _ => return Err(JwkError::Crv),
                };
                Ok(Self::Ec { algorithm, x: sized("x", length)?, y: sized("y", length)? })
            }
            "OKP" if curve()? == "Ed25519" => sized("x", 32).map(Self::Ed25519),
            "OKP" => Err(JwkError::Crv),
            "oct" => match bytes("k")? {
                secret if secret.is_empty() => Err(JwkError::Material),
                secret => Ok(Self::Oct(secret)),
            },
            _ => Err(JwkError::Kty),
        }
    }

    /// Whether signatures of `algorithm` are verified with keys of this type.
    fn verifies(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => matches!(self, Self::Rsa { .. }),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 | Algorithm::Es256k => {
                matches!(self, Self::Ec { algorithm: of_curve, .. } if *of_curve == algorithm)
            }
            Algorithm::EdDsa => matches!(self, Self::Ed25519(_)),
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => matches!(self, Self::Oct(_)),
        }
    }
}

#[cfg(test)]
mod tests;
