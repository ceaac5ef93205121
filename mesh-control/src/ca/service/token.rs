//! Tokens of service accounts, as Kubernetes projects them into pods.
//!
//! The keys are in a file. It is read again when it has changed, so that keys can be rotated; if it is invalid then, the last good keys
//! stay in use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;
use std::{fs, io};

use mesh_core::causes::with_causes;
use mesh_core::filter::jwt_authn::{Audiences, Jwks, JwksError, JwksSource, Jwt, JwtStatus, Provider, Sections};

use super::signature::Keys;
use crate::ca::{Identity, IdentityError};

/// Largest file of keys, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// What the subject of a service account begins with, in Kubernetes.
const SUBJECT: &str = "system:serviceaccount:";

/// Which tokens prove an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenSettings {
    /// A file with the public keys of the issuer: a JSON Web Key Set, or PEM.
    pub keys: PathBuf,
    /// `iss` of the tokens.
    pub issuer: String,
    /// One of these must be in `aud`.
    pub audiences: Vec<String>,
}

impl TokenSettings {
    /// Audience of the tokens that Istio's agents send. Istio `TOKEN_AUDIENCES`.
    pub const DEFAULT_AUDIENCE: &'static str = "istio-ca";

    /// Tokens of the issuer for [`Self::DEFAULT_AUDIENCE`].
    #[must_use]
    pub fn new(keys: impl Into<PathBuf>, issuer: impl Into<String>) -> Self {
        let audiences = vec![Self::DEFAULT_AUDIENCE.to_owned()];
        Self { keys: keys.into(), issuer: issuer.into(), audiences }
    }
}

/// Why keys of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot be read")]
    Read(#[from] io::Error),
    /// It is too large.
    #[error("{0} bytes are more than {MAX_BYTES}")]
    TooLarge(u64),
    /// It is no key set.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// It is no PEM.
    #[error("is not PEM")]
    Pem,
    /// It is PEM of something else.
    #[error("has a PEM block {0:?}: expected PUBLIC KEY")]
    Label(String),
    /// No key verifies signatures of an algorithm that is supported.
    #[error("no key is of RSA with at least 2048 bits, P-256, P-384, P-521 or Ed25519")]
    NoneUsable,
}

/// Why a token proves no identity, or none can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The keys cannot be used.
    #[error("keys of tokens in {}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: KeysError,
    },
    /// Tokens of any issuer, or for any audience, are refused.
    #[error("{0} of tokens is empty")]
    Empty(&'static str),
    /// The token is malformed, not valid now, for others, or not signed by the issuer.
    #[error("{0:?}")]
    Invalid(JwtStatus),
    /// The subject is not a service account.
    #[error("its subject is not {SUBJECT}NAMESPACE:SERVICE_ACCOUNT")]
    Subject,
    /// The service account cannot be in an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl From<JwtStatus> for TokenError {
    fn from(status: JwtStatus) -> Self {
        Self::Invalid(status)
    }
}

/// Verifies tokens.
#[derive(Debug)]
pub(crate) struct TokenVerifier {
    path: PathBuf,
    provider: Provider,
    trust_domain: String,
    keys: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    keys: Arc<Keys>,
    modified: Option<SystemTime>,
}

impl TokenVerifier {
    /// Reads the keys. Identities are of the trust domain.
    pub(crate) fn open(settings: &TokenSettings, trust_domain: &str) -> Result<Self, TokenError> {
        if settings.issuer.is_empty() {
            return Err(TokenError::Empty("the issuer"));
        }
        if settings.audiences.is_empty() || settings.audiences.iter().any(String::is_empty) {
            return Err(TokenError::Empty("an audience"));
        }
        let mut provider = Provider::new(settings.issuer.as_str(), JwksSource::Local(Jwks::default()));
        provider.audiences = Audiences::new(settings.audiences.iter().map(String::as_str));
        provider.require_expiration = true;
        let path = settings.keys.clone();
        let modified = modified(&path);
        let keys = read(&path).map_err(|source| TokenError::Keys { path: path.clone(), source })?;
        let keys = RwLock::new(Current { keys: Arc::new(keys), modified });
        Ok(Self { path, provider, trust_domain: trust_domain.to_owned(), keys })
    }

    /// The identity that the token proves.
    pub(crate) fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, TokenError> {
        let jwt = Jwt::parse(token)?;
        self.provider.check_claims(&jwt, None, now)?;
        let sections = Sections::of(token).ok_or(JwtStatus::BadFormat)?;
        self.keys().verify(&jwt, sections.signed)?;
        let (namespace, account) = subject(&jwt.sub).ok_or(TokenError::Subject)?;
        Ok(Identity::new(&self.trust_domain, namespace, account)?)
    }

    /// The keys of the file as it is now, or the last good ones.
    fn keys(&self) -> Arc<Keys> {
        let current = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let modified = modified(&self.path);
        if modified == current.modified {
            return current.keys;
        }
        let keys = match read(&self.path) {
            Ok(keys) => Arc::new(keys),
            Err(error) => {
                let path = self.path.display();
                tracing::error!("keys of tokens in {path}: {}; the last good ones stay", with_causes(&error));
                current.keys
            }
        };
        let next = Current { keys: Arc::clone(&keys), modified };
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = next;
        keys
    }
}

/// Namespace and name of a service account.
fn subject(sub: &str) -> Option<(&str, &str)> {
    sub.strip_prefix(SUBJECT)?.split_once(':')
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read(path: &Path) -> Result<Keys, KeysError> {
    let length = fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(KeysError::TooLarge(length));
    }
    Keys::parse(&fs::read(path)?)
}
