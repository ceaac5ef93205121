//! Load reports over gRPC.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_core::resilience::connection_back_off;
use mesh_core::rng::Rng;
use mesh_core::store::Store;
use tokio::sync::mpsc;
use tokio::time;
use tonic::client::GrpcService;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{Body, Bytes};
use tonic::{Status, Streaming};

use super::{LoadReports, Reported};

use crate::client::transport::grpc::{Grpc, reason};
use crate::proto::envoy::config::core::v3::Node;
use crate::proto::envoy::service::load_stats::v3::{LoadStatsRequest, LoadStatsResponse};

/// The method of the service.
const STREAM_LOAD_STATS: &str = "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

/// The feature of nodes that take `send_all_clusters`.
const SUPPORTS_SEND_ALL_CLUSTERS: &str = "envoy.lrs.supports_send_all_clusters";

/// Reports the load of the clusters in `store` to the control plane at `transport`, for as long as it is polled. A stream that ends
/// is opened again after a pause, as that of a client of ADS. With [`Reported::WithLrsServer`] there is none before a cluster
/// has `lrs_server`.
pub async fn report<S>(transport: Grpc<S>, mut node: Node, store: Arc<Store>, reported: Reported, mut rng: impl Rng)
where
    S: GrpcService<tonic::body::Body> + Clone,
    S::ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static,
{
    node.client_features.push(SUPPORTS_SEND_ALL_CLUSTERS.to_owned());
    if reported == Reported::WithLrsServer {
        let mut clusters = store.watch_clusters();
        while !store.clusters().iter().any(|cluster| cluster.config().load_reporting) {
            clusters.changed().await;
        }
    }
    let mut reports = LoadReports::new(reported, now());
    let mut failures = 0;
    loop {
        let mut has_responded = false;
        let status = stream(transport.clone(), &node, &store, &mut reports, &mut has_responded).await;
        tracing::debug!("load reports: the control plane has ended the stream: {}", reason(&status));
        failures = if has_responded { 0 } else { failures + 1 };
        time::sleep(connection_back_off(failures, &mut rng)).await;
    }
}

/// Reports on one stream until it ends; returns how it did.
async fn stream<S>(
    transport: Grpc<S>,
    node: &Node,
    store: &Store,
    reports: &mut LoadReports,
    has_responded: &mut bool,
) -> Status
where
    S: GrpcService<tonic::body::Body>,
    S::ResponseBody: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>> + Send> + Send + 'static,
{
    let (requests, unsent) = mpsc::channel(1);
    let first = LoadStatsRequest { node: Some(node.clone()), cluster_stats: Vec::new() };
    // There is room for the first.
    drop(requests.try_send(first));
    let opened = transport.open(STREAM_LOAD_STATS, ReceiverStream::new(unsent)).await;
    let mut responses: Streaming<LoadStatsResponse> = match opened {
        Ok(responses) => responses,
        Err(status) => return status,
    };
    let mut interval = None;
    loop {
        tokio::select! {
            response = responses.message() => match response {
                Ok(Some(response)) => {
                    *has_responded = true;
                    interval = Some(every(reports.handle_response(&response, store, now())));
                }
                Ok(None) => return Status::ok("it closed the stream"),
                Err(status) => return status,
            },
            () = tick(&mut interval) => {
                // A control plane that does not read gets one report of the whole time.
                if let Ok(permit) = requests.try_reserve() {
                    permit.send(LoadStatsRequest { node: None, cluster_stats: reports.report(store, now()) });
                }
            }
        }
    }
}

fn every(period: Duration) -> time::Interval {
    let mut interval = time::interval_at(time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    interval
}

/// The next tick; never before there is an interval.
async fn tick(interval: &mut Option<time::Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}
