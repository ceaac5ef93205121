//! Fetching of keys, as [`RemoteKeys`] decides.
//!
//! A fetch is a task of its own, so that a client that gives up does not end it. It sends a GET request to the configured
//! cluster, follows no redirect, and reads at most [`MAX_JWKS_BYTES`]. Requests that need its result wait for a change of
//! `finished`.
//!
//! Listeners of a proxy's workers fetch on their own, as in Envoy.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header::HOST};
use mesh_core::{
    filter::jwt_authn::{Jwks, JwtStatus, KeysDecision, MAX_JWKS_BYTES, RemoteJwks, RemoteKeys},
    model::{BackOff, RetryOn, RetryPolicy},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};

use super::{
    JwtStats,
    provider_keys::{KeySet, Keys},
};
use crate::{
    cluster_client::{ClientOptions, ClusterClient},
    filter::FilterFactory,
    timer,
};

/// How long before keys expire they are fetched again in advance. As in Envoy.
const REFRESH_BEFORE: Duration = Duration::from_secs(5);

/// Keys that are fetched.
#[derive(Debug)]
pub(super) struct Remote {
    config: Arc<RemoteJwks>,
    client: Arc<dyn ClusterClient>,
    stats: Arc<JwtStats>,
    times: Mutex<RemoteKeys>,
    current: ArcSwapOption<Current>,
    /// Changes with the end of each fetch.
    finished: watch::Sender<()>,
}

#[derive(Debug)]
struct Current {
    set: KeySet,
    expires: Option<Instant>,
}

impl Remote {
    /// Begins to fetch in advance, if that is configured.
    pub(super) fn start(config: &Arc<RemoteJwks>, factory: &FilterFactory<'_>, stats: &Arc<JwtStats>) -> Arc<Self> {
        let options =
            ClientOptions { timeout: config.timeout, retry_policy: retry_policy(config), ..ClientOptions::default() };
        let remote = Arc::new(Self {
            config: Arc::clone(config),
            client: factory.client(&config.cluster, &options),
            stats: Arc::clone(stats),
            times: Mutex::new(RemoteKeys::new(config.cache_duration)),
            current: ArcSwapOption::empty(),
            finished: watch::Sender::new(()),
        });
        // Without a runtime, the first request fetches the keys.
        if let (Some(advance), Ok(runtime)) = (config.async_fetch, Handle::try_current()) {
            runtime.spawn(keep_fresh(Arc::downgrade(&remote), advance.failed_refetch_duration));
        }
        remote
    }

    /// The keys of now. May begin a fetch.
    pub(super) fn current(self: &Arc<Self>, now: Instant, has_waited: bool) -> Keys {
        let current = self.current.load();
        if let Some(current) = &*current
            && current.expires.is_none_or(|expires| now < expires)
        {
            return Keys::Ready(current.set.clone());
        }
        let decision = match has_waited {
            true => self.times.lock().after_failure(now),
            false => self.decide(|times| times.decide(now)),
        };
        match (decision, &*current) {
            (KeysDecision::Use, Some(current)) => Keys::Ready(current.set.clone()),
            (KeysDecision::Fetch | KeysDecision::Wait, _) => Keys::Wait,
            _ => Keys::Fail(JwtStatus::JwksFetchFail),
        }
    }

    /// Whether to wait for a fetch, because a token has a `kid` that no key has. May begin one.
    pub(super) fn wants_newer_keys(self: &Arc<Self>) -> bool {
        self.decide(|times| times.unknown_kid(timer::now())) != KeysDecision::Use
    }

    /// Waits until the fetch that is under way has ended.
    pub(super) async fn wait(&self) {
        let mut finished = self.finished.subscribe();
        if self.times.lock().is_fetching() {
            // The sender is in `self`.
            let _ = finished.changed().await;
        }
    }

    fn decide(self: &Arc<Self>, decide: impl FnOnce(&mut RemoteKeys) -> KeysDecision) -> KeysDecision {
        let decision = decide(&mut self.times.lock());
        if decision == KeysDecision::Fetch {
            tokio::spawn(Fetch { remote: Arc::clone(self), fetched: None }.run());
        }
        decision
    }

    async fn fetch(&self) -> Result<Jwks, String> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.config.path.parse().map_err(|error| format!("the path: {error}"))?;
        let host = HeaderValue::from_str(&self.config.authority).map_err(|error| format!("the authority: {error}"))?;
        request.headers_mut().insert(HOST, host);
        let response = self.client.fetch(request, MAX_JWKS_BYTES).await.map_err(|error| error.to_string())?;
        if response.head.status != StatusCode::OK {
            return Err(format!("the response has status {}", response.head.status.as_u16()));
        }
        Jwks::parse(&response.body).map_err(|error| error.to_string())
    }
}

/// A fetch under way. If its task is dropped, for example because the runtime ends, the fetch has failed.
struct Fetch {
    remote: Arc<Remote>,
    fetched: Option<Jwks>,
}

impl Fetch {
    async fn run(mut self) {
        let RemoteJwks { cluster, authority, path, .. } = &*self.remote.config;
        match self.remote.fetch().await {
            Ok(jwks) => self.fetched = Some(jwks),
            Err(error) => {
                tracing::warn!(%cluster, %authority, %path, error, "cannot fetch the keys of JSON Web Tokens")
            }
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let (remote, now) = (&self.remote, timer::now());
        match self.fetched.take() {
            Some(jwks) => {
                remote.stats.jwks_fetch_success.inc();
                let expires = now.checked_add(remote.config.cache_duration);
                remote.current.store(Some(Arc::new(Current { set: KeySet::new(jwks), expires })));
                remote.times.lock().handle_success(now);
            }
            None => {
                remote.stats.jwks_fetch_failed.inc();
                remote.times.lock().handle_failure(now);
            }
        }
        remote.finished.send_replace(());
    }
}

/// Fetches keys in advance, until the filter is dropped. Envoy `JwksAsyncFetcher`.
async fn keep_fresh(remote: Weak<Remote>, failed_refetch_duration: Duration) {
    loop {
        let Some(strong) = remote.upgrade() else { return };
        strong.decide(|times| times.refresh(timer::now()));
        strong.wait().await;
        let pause = match strong.times.lock().has_failed() {
            true => failed_refetch_duration,
            false => Some(strong.config.cache_duration)
                .map(|duration| {
                    duration.checked_sub(REFRESH_BEFORE).filter(|pause| !pause.is_zero()).unwrap_or(duration)
                })
                .unwrap_or_default(),
        };
        drop(strong);
        timer::sleep(pause.max(MIN_PAUSE)).await;
    }
}

/// Minimum time between two fetches in advance.
const MIN_PAUSE: Duration = Duration::from_millis(1);

fn retry_policy(config: &RemoteJwks) -> Option<Arc<RetryPolicy>> {
    let [base_interval, max_interval] = config.retry_back_off;
    (config.num_retries > 0).then(|| {
        // Envoy's conditions for a fetch of keys.
        let on = RetryOn::FIVE_XX.union(RetryOn::GATEWAY_ERROR).union(RetryOn::CONNECT_FAILURE).union(RetryOn::RESET);
        let mut policy = RetryPolicy::new(on);
        policy.num_retries = config.num_retries;
        policy.back_off = BackOff { base_interval, max_interval };
        Arc::new(policy)
    })
}
