//! Checks of responses and metrics.

use std::{net::SocketAddr, time::Duration};

use axum::http::StatusCode;

use super::{Outcome, Scene};
use crate::{
    ports::Listener,
    visitor::{self, Load, Visit, tally},
};

/// Number of visits in the check of the split.
const SAMPLE: u32 = 1000;

/// The percentages of v1, v2 and v3 in the original configuration.
const WEIGHTS: [(&str, u32); 3] = [("v1", 50), ("v2", 30), ("v3", 20)];

/// Standard deviations by which a share may differ from its weight. A correct split exceeds this once in 15,000 runs.
const TOLERANCE: f64 = 4.0;

/// Time within which the sidecar of ratings must exit.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The page contains the response of every service.
pub(super) async fn page_is_shown(scene: &Scene, listener: Listener) -> Outcome {
    let page = body(scene.ports.address(listener), "/productpage").await?;
    for text in ["The Comedy of Errors", "William Shakespeare", "data-version=\"v", "Reviewer1"] {
        if !page.contains(text) {
            return Err(format!("{text} is missing in {page}"));
        }
    }
    Ok(format!("{} bytes", page.len()))
}

/// Each version's share of a sample is within the deviation that its binomial distribution allows.
pub(super) async fn split_is_as_weighted(scene: &Scene) -> Outcome {
    let mut visits = Vec::new();
    for _ in 0..SAMPLE {
        visits.push(visitor::visit(scene.page(), None).await);
    }
    let seen = tally(&visits);
    for (version, percent) in WEIGHTS {
        let count = seen.get(version).copied().unwrap_or_default();
        let (sample, share) = (f64::from(SAMPLE), f64::from(percent) / 100.0);
        let allowed = TOLERANCE * (sample * share * (1.0 - share)).sqrt();
        if (f64::from(count) - sample * share).abs() > allowed {
            return Err(format!("{version} should have {percent} % of {seen:?}"));
        }
    }
    succeeded(&visits)
}

/// The rule for testers takes precedence over the split.
pub(super) async fn header_chooses_version(scene: &Scene) -> Outcome {
    let mut visits = Vec::new();
    for _ in 0..20 {
        visits.push(visitor::visit(scene.page(), Some(("end-user", "jason"))).await);
    }
    all_from("v2", &visits)
}

/// The metrics of productpage about its calls.
pub(super) async fn library_reports_metrics(scene: &Scene) -> Outcome {
    let metrics = body(scene.ports.address(Listener::ProductpageAdmin), "/stats/prometheus").await?;
    has_series(
        &metrics,
        "istio_requests_total",
        &[
            "reporter=\"source\"",
            "source_canonical_service=\"productpage\"",
            "destination_service=\"reviews.default.svc.cluster.local\"",
            "response_code=\"200\"",
        ],
    )?;
    has_series(&metrics, "istio_requests_total", &["reporter=\"source\"", "request_protocol=\"grpc\""])?;
    // Both ends know each other's name.
    let ends = ["source_workload=\"productpage-v1\"", "destination_workload=\"reviews-v2\""];
    has_series(&metrics, "istio_requests_total", &ends)?;
    let of_reviews = body(scene.ports.address(Listener::ReviewsV2Admin), "/stats/prometheus").await?;
    has_series(&of_reviews, "istio_requests_total", &[&ends[..], &["reporter=\"destination\""]].concat())?;
    has_series(&metrics, "istio_request_duration_milliseconds_bucket", &["reporter=\"destination\""])?;
    has_series(&metrics, "envoy_cluster_upstream_rq_total", &["outbound|9080|v1|reviews.default.svc.cluster.local"])
}

/// The metrics of the sidecar about the calls to ratings.
pub(super) async fn sidecar_reports_metrics(scene: &Scene) -> Outcome {
    let metrics = body(scene.ports.address(Listener::RatingsSidecarAdmin), "/stats/prometheus").await?;
    has_series(
        &metrics,
        "istio_requests_total",
        &[
            "reporter=\"destination\"",
            "source_workload=\"reviews-v2\"",
            "destination_service=\"ratings.default.svc.cluster.local\"",
            "destination_canonical_service=\"ratings\"",
            "response_code=\"200\"",
        ],
    )
}

/// The sidecar exits in time and with success, and no visit fails meanwhile.
pub(super) async fn sidecar_drains(scene: &mut Scene) -> Outcome {
    let load = Load::start(scene.page());
    let ended = scene.bookinfo.stop_sidecar(DRAIN_LIMIT).await;
    let visits = load.stop().await;
    let status = ended.map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    Ok(format!("{status}, {}", succeeded(&visits)?))
}

/// Every visit was successful. Returns the number of responses of each version.
pub(super) fn succeeded<'a>(visits: impl IntoIterator<Item = &'a Visit> + Clone) -> Outcome {
    let failed = visits.clone().into_iter().filter(|visit| visit.outcome.is_err()).count();
    let seen = tally(visits);
    if failed > 0 {
        return Err(format!("{failed} requests failed: {seen:?}"));
    }
    Ok(seen.iter().map(|(version, count)| format!("{count} {version}")).collect::<Vec<_>>().join(", "))
}

/// There were visits, and `version` responded to all of them.
pub(super) fn all_from<'a>(version: &str, visits: impl IntoIterator<Item = &'a Visit> + Clone) -> Outcome {
    let seen = tally(visits);
    if seen.len() == 1 && seen.contains_key(version) {
        Ok(format!("{} from {version}", seen[version]))
    } else {
        Err(format!("all should be from {version}: {seen:?}"))
    }
}

async fn body(address: SocketAddr, path: &str) -> Outcome {
    match visitor::get(address, path, None).await {
        Ok((StatusCode::OK, body)) => Ok(body),
        Ok((status, body)) => Err(format!("http://{address}{path}: {status}: {body}")),
        Err(error) => Err(format!("http://{address}{path}: {error}")),
    }
}

/// A series of the metric `name` has all of `labels` and is not zero.
fn has_series(metrics: &str, name: &str, labels: &[&str]) -> Outcome {
    let series = metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let mut with_labels = series.filter(|line| labels.iter().all(|label| line.contains(label)));
    match with_labels.find(|line| !line.ends_with(" 0")) {
        Some(line) => Ok(line.to_owned()),
        None => {
            let near: Vec<&str> = metrics.lines().filter(|line| line.starts_with(name)).take(5).collect();
            Err(format!("no {name} with {} in\n{}", labels.join(", "), near.join("\n")))
        }
    }
}
