//! Checks of identities, policies and certificates.

use std::{collections::BTreeSet, time::Duration};

use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use mesh::Channel;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};
use tower::ServiceExt as _;

use super::{Outcome, Scene, requests::succeeded};
use crate::{
    ports::Listener,
    reviews::Client,
    visitor::{self, Load},
};

/// A token whose key is in `mesh/security.yaml`.
const TOKEN: &str = include_str!("../reader.jwt");

/// The path that needs it.
const API: &str = "/api/v1/products/0/reviews";

/// Certificates of productpage that must be seen while they are renewed, and the time that this may take.
const CERTIFICATES: usize = 4;
const RENEWAL_LIMIT: Duration = Duration::from_secs(90);

/// The identity of productpage arrives at reviews.
pub(super) async fn caller_is_known(scene: &Scene) -> Outcome {
    let client = whoami(&reviews(scene)?).await?;
    let expected = "spiffe://cluster.local/ns/default/sa/bookinfo-productpage";
    if client.identity == expected { Ok(client.identity) } else { Err(format!("expected {expected}: {client:?}")) }
}

/// Only reviews may call ratings.
pub(super) async fn other_caller_is_denied(scene: &Scene) -> Outcome {
    let ratings = scene.bookinfo.mesh.channel("ratings:9080").map_err(|error| error.to_string())?;
    match get(&ratings, "/ratings/0").await? {
        (StatusCode::FORBIDDEN, body) if body == "RBAC: access denied" => Ok(format!("403 {body}")),
        (status, body) => Err(format!("{status}: {body}")),
    }
}

/// Neither the library nor the sidecar answers a client without TLS.
pub(super) async fn plain_text_is_refused(scene: &Scene) -> Outcome {
    let mut errors = Vec::new();
    for (listener, path) in [(Listener::ReviewsV1, "/reviews/0"), (Listener::RatingsSidecar, "/ratings/0")] {
        let address = scene.ports.address(listener);
        // It accepts connections, and closes them.
        TcpStream::connect(address).await.map_err(|error| format!("{listener:?}: {error}"))?;
        match visitor::get(address, path, None).await {
            Ok((status, body)) => return Err(format!("{listener:?}: {status}: {body}")),
            Err(error) => errors.push(format!("{listener:?}: {error}")),
        }
    }
    Ok(errors.join(", "))
}

/// Without a token 403, with another one 401, with a valid one 200; the page needs none.
pub(super) async fn gateway_needs_token(scene: &Scene) -> Outcome {
    let gateway = scene.ports.address(Listener::Gateway);
    let valid = format!("Bearer {}", TOKEN.trim());
    // The signature is that of another text.
    let forged = valid.replacen(".eyJ", ".eyK", 1);
    let mut seen = Vec::new();
    for (token, expected) in [(None, 403), (Some(&forged), 401), (Some(&valid), 200)] {
        let header = token.map(|token| ("authorization", token.as_str()));
        let (status, body) = visitor::get(gateway, API, header).await.map_err(|error| error.to_string())?;
        if status != expected {
            return Err(format!("expected {expected}, got {status}: {body}"));
        }
        seen.push(status.as_str().to_owned());
    }
    Ok(seen.join(", "))
}

/// Certificates are replaced by new ones several times, and no request fails.
pub(super) async fn certificates_are_renewed(scene: &Scene) -> Outcome {
    let reviews = reviews(scene)?;
    let load = Load::start(scene.page());
    let (started, mut serials) = (Instant::now(), BTreeSet::new());
    let mut failed = None;
    while serials.len() < CERTIFICATES && failed.is_none() && started.elapsed() < RENEWAL_LIMIT {
        match whoami(&reviews).await {
            Ok(client) => drop(serials.insert(client.serial)),
            Err(error) => failed = Some(error),
        }
        sleep(Duration::from_millis(20)).await;
    }
    let visits = load.stop().await;
    succeeded(&visits)?;
    match failed {
        Some(error) => Err(error),
        None if serials.len() < CERTIFICATES => {
            Err(format!("only {} certificates within {RENEWAL_LIMIT:?}", serials.len()))
        }
        None => Ok(format!("{} certificates, 0 of {} requests failed", serials.len(), visits.len())),
    }
}

fn reviews(scene: &Scene) -> Result<Channel, String> {
    scene.bookinfo.mesh.channel("reviews:9080").map_err(|error| error.to_string())
}

/// Who reviews thinks that productpage is.
async fn whoami(reviews: &Channel) -> Result<Client, String> {
    match get(reviews, "/whoami").await? {
        (StatusCode::OK, body) => serde_json::from_str(&body).map_err(|error| format!("{error} in {body}")),
        (status, body) => Err(format!("{status}: {body}")),
    }
}

async fn get(channel: &Channel, path: &str) -> Result<(StatusCode, String), String> {
    let request = Request::get(path).body(Empty::<bytes::Bytes>::new()).map_err(|error| error.to_string())?;
    let Ok(response) = channel.clone().oneshot(request).await;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
