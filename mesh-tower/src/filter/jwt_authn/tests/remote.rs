//! Keys that are fetched, in virtual time.

use std::{
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use mesh_core::{
    filter::jwt_authn::{AsyncFetch, MAX_JWKS_BYTES, RemoteJwks},
    model::ClusterName,
};

use super::*;
use crate::cluster_client::{ClientOptions, ClusterClient, ClusterClients};

/// An issuer whose answers a test sets.
#[derive(Clone, Debug)]
struct Issuer(Arc<IssuerState>);

#[derive(Debug)]
struct IssuerState {
    answer: Mutex<(u16, Vec<u8>, Duration)>,
    requests: AtomicU32,
}

impl Issuer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let answer = Mutex::new((status, body.into(), Duration::from_millis(10)));
        Self(Arc::new(IssuerState { answer, requests: AtomicU32::new(0) }))
    }

    fn answer(&self, status: u16, body: impl Into<Vec<u8>>) {
        *self.0.answer.lock().unwrap() = (status, body.into(), Duration::from_millis(10));
    }

    fn requests(&self) -> u32 {
        self.0.requests.load(Ordering::Relaxed)
    }
}

impl ClusterClients for Issuer {
    fn client(&self, cluster: &ClusterName, options: &ClientOptions) -> Arc<dyn ClusterClient> {
        assert_eq!((cluster.as_str(), options.timeout), ("keys", Duration::from_secs(5)));
        Arc::new(self.clone())
    }
}

impl ClusterClient for Issuer {
    fn send(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
        assert_eq!((request.uri().path(), request.headers()["host"].to_str().unwrap()), ("/jwks", "issuer.test"));
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let (status, body, delay) = self.0.answer.lock().unwrap().clone();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            let response = Response::builder().status(status).header("location", "http://127.0.0.1/jwks");
            response.body(Body::from(Bytes::from(body))).unwrap()
        })
    }
}

/// A filter whose provider fetches its keys.
fn fixture(issuer: &Issuer, configure: impl FnOnce(&mut RemoteJwks)) -> Fixture {
    let mut remote = RemoteJwks::new("issuer.test", "/jwks", "keys", Duration::from_secs(5));
    configure(&mut remote);
    let provider = Provider::new("issuer", JwksSource::Remote(Arc::new(remote)));
    let (stats, filter) = (HttpStats::default(), Chained::new(filter(vec![provider], of(0))));
    let layer = FilterLayer::with_factory(
        filter,
        &FilterFactory { stats: &stats, logs: &Arc::default(), clients: Some(issuer), authorizer: None },
    );
    Fixture { layer, stats }
}

const CLAIMS: &str = r#"{"iss":"issuer"}"#;

fn failed() -> (u16, String) {
    (401, "Jwks remote fetch is failed".to_owned())
}

#[tokio::test(start_paused = true)]
async fn requests_share_a_fetch_and_its_keys_until_they_expire() {
    let issuer = Issuer::new(200, jwks("k"));
    let fixture = fixture(&issuer, |_| {});
    assert_eq!(issuer.requests(), 0, "keys are fetched with the first request");
    let (token, invalid) = (token(CLAIMS), token(r#"{"iss":"other"}"#));
    let (one, two, three) = tokio::join!(fixture.bearer(&token), fixture.bearer(&token), fixture.bearer(&invalid));
    assert_eq!((one.0, two.0, three.0, issuer.requests()), (200, 200, 401, 1));
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_eq!((fixture.bearer(&token).await.0, issuer.requests()), (200, 1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((fixture.bearer(&token).await.0, issuer.requests()), (200, 2));
    assert_eq!(fixture.count("jwt_authn.jwks_fetch_success"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_keys_is_a_failure() {
    let large = format!("{}{}", jwks("k"), " ".repeat(MAX_JWKS_BYTES));
    let many = vec![jwks("k").split_once('[').unwrap().1.trim_end_matches("]}").to_owned(); 10_000];
    let many = format!(r#"{{"keys":[{}]}}"#, many.join(","));
    for (status, body) in
        [(200, ""), (200, "{}"), (200, &*large), (200, &*many), (301, &*jwks("k")), (404, &*jwks("k")), (503, "")]
    {
        let issuer = Issuer::new(status, body);
        let fixture = fixture(&issuer, |_| {});
        assert_eq!(fixture.bearer(&token(CLAIMS)).await, failed(), "{status}");
        assert_eq!((fixture.count("jwt_authn.jwks_fetch_failed"), issuer.requests()), (1, 1));
        assert_eq!(fixture.bearer(&token(CLAIMS)).await, failed());
        assert_eq!(issuer.requests(), 1, "within the back-off, no request fetches");
        issuer.answer(200, jwks("k"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(fixture.bearer(&token(CLAIMS)).await.0, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_are_used_for_a_limited_time() {
    let issuer = Issuer::new(200, jwks("k"));
    let fixture = fixture(&issuer, |_| {});
    assert_eq!(fixture.bearer(&token(CLAIMS)).await.0, 200);
    issuer.answer(503, "");
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!((fixture.bearer(&token(CLAIMS)).await.0, issuer.requests()), (200, 2));
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(fixture.bearer(&token(CLAIMS)).await, failed());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kid_leads_to_newer_keys_but_not_to_many_fetches() {
    let issuer = Issuer::new(200, jwks("old"));
    let fixture = fixture(&issuer, |_| {});
    assert_eq!(fixture.bearer(&token_of("old", CLAIMS)).await.0, 200);
    issuer.answer(200, jwks("new"));
    for _ in 0..3 {
        assert_eq!(fixture.bearer(&token_of("new", CLAIMS)).await.0, 401);
    }
    assert_eq!(issuer.requests(), 1, "the keys are younger than 5 s");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!((fixture.bearer(&token_of("new", CLAIMS)).await.0, issuer.requests()), (200, 2));
    assert_eq!(fixture.bearer(&token_of("old", CLAIMS)).await.0, 401, "the old key is gone");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!((fixture.bearer(&token_of("x", CLAIMS)).await.0, issuer.requests()), (401, 3));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gives_up_does_not_end_the_fetch() {
    let issuer = Issuer::new(200, jwks("k"));
    let fixture = fixture(&issuer, |_| {});
    let token = token(CLAIMS);
    let given_up = tokio::time::timeout(Duration::from_millis(1), fixture.bearer(&token)).await;
    assert!(given_up.is_err());
    assert_eq!((fixture.bearer(&token).await.0, issuer.requests()), (200, 1));
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_in_advance() {
    let issuer = Issuer::new(503, "");
    let fixture = fixture(&issuer, |remote| {
        remote.async_fetch = Some(AsyncFetch { failed_refetch_duration: Duration::from_secs(2) });
    });
    let passed = async |seconds| tokio::time::sleep(Duration::from_secs(seconds)).await;
    passed(1).await;
    assert_eq!(issuer.requests(), 1);
    issuer.answer(200, jwks("k"));
    passed(2).await;
    assert_eq!((issuer.requests(), fixture.count("jwt_authn.jwks_fetch_success")), (2, 1));
    assert_eq!(fixture.bearer(&token(CLAIMS)).await.0, 200);
    passed(594).await;
    assert_eq!(issuer.requests(), 2);
    passed(2).await;
    assert_eq!(issuer.requests(), 3, "before they expire");
    drop(fixture);
    passed(1800).await;
    assert_eq!(issuer.requests(), 3, "the filter is gone");
}
