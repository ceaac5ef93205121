//! The keys of a provider, and the tokens that were verified with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use mesh_core::filter::jwt_authn::{Jwks, JwksSource, Jwt, JwtCache, JwtStatus, Provider};
use parking_lot::Mutex;

use super::{JwtStats, VerificationKeys, remote::Remote};
use crate::filter::FilterFactory;

/// What a filter knows of a provider besides its configuration.
#[derive(Debug)]
pub(super) struct ProviderKeys {
    source: Source,
    /// Tokens that were verified; `None` = none are remembered. The lock is held for a look-up.
    cache: Option<Mutex<JwtCache>>,
}

#[derive(Debug)]
enum Source {
    Local(KeySet),
    Remote(Arc<Remote>),
}

/// A version of a provider's keys.
#[derive(Clone, Debug)]
pub(super) struct KeySet {
    pub(super) keys: Arc<VerificationKeys>,
    /// Differs from that of all other sets of the process, so that a token is remembered for one set.
    version: u64,
}

impl KeySet {
    pub(super) fn new(jwks: Jwks) -> Self {
        static VERSIONS: AtomicU64 = AtomicU64::new(0);
        let version = VERSIONS.fetch_add(1, Ordering::Relaxed);
        Self { keys: Arc::new(VerificationKeys::new(jwks)), version }
    }

    /// Whether a key has signed `jwt`.
    fn verify(&self, jwt: &Jwt, signed: &str) -> Result<(), JwtStatus> {
        if !self.keys.any_usable() {
            return Err(JwtStatus::JwksNoValidKeys);
        }
        self.keys.verify(jwt, signed)
    }
}

/// The keys to verify with, or that they have to be waited for.
pub(super) enum Keys {
    Ready(KeySet),
    Wait,
    Fail(JwtStatus),
}

impl ProviderKeys {
    pub(super) fn new(provider: &Provider, factory: &FilterFactory<'_>, stats: &Arc<JwtStats>) -> Self {
        let source = match &provider.jwks {
            JwksSource::Local(jwks) => Source::Local(KeySet::new(jwks.clone())),
            JwksSource::Remote(config) => Source::Remote(Remote::start(config, factory, stats)),
        };
        let cache = provider.jwt_cache.map(|config| Mutex::new(JwtCache::new(config)));
        Self { source, cache }
    }

    pub(super) fn remote(&self) -> Option<&Arc<Remote>> {
        match &self.source {
            Source::Local(_) => None,
            Source::Remote(remote) => Some(remote),
        }
    }

    /// The keys of now. If a request `has_waited` for them, it takes those that there are.
    pub(super) fn current(&self, now: Instant, has_waited: bool) -> Keys {
        match &self.source {
            Source::Local(set) => Keys::Ready(set.clone()),
            Source::Remote(remote) => remote.current(now, has_waited),
        }
    }

    /// Verifies the signature of `jwt`. `None` if newer keys have to be waited for, because none has the token's `kid`.
    pub(super) fn verify(
        &self,
        set: &KeySet,
        jwt: &Jwt,
        signed: &str,
        has_waited: bool,
    ) -> Option<Result<(), JwtStatus>> {
        let verified = set.verify(jwt, signed);
        let unknown_kid = verified == Err(JwtStatus::JwksKidAlgMismatch) && set.keys.jwks().lacks_kid_of(jwt);
        if unknown_kid && !has_waited && self.remote().is_some_and(|remote| remote.wants_newer_keys()) {
            return None;
        }
        Some(verified)
    }

    /// A token that was verified with `set`.
    pub(super) fn remembered(&self, token: &str, set: &KeySet) -> Option<Arc<Jwt>> {
        self.cache.as_ref()?.lock().get(token, set.version)
    }

    /// Remembers a token that was verified with `set`.
    pub(super) fn remember(&self, token: &str, jwt: &Arc<Jwt>, set: &KeySet) {
        if let Some(cache) = &self.cache {
            cache.lock().insert(token, jwt, set.version);
        }
    }

    /// Forgets a token, because it has expired.
    pub(super) fn forget(&self, token: &str) {
        if let Some(cache) = &self.cache {
            cache.lock().remove(token);
        }
    }
}
