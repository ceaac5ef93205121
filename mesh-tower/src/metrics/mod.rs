//! Istio's metrics as a layer for any `tower::Service` over HTTP, without xDS.
//!
//! A request is counted when the response *body* has ended, as in Envoy: a streamed response that fails half-way is not a
//! success.

use std::sync::Arc;

use http::Response;
use mesh_core::model::{DestinationService, Workload};

use crate::{
    Body, BoxError,
    call::{Call, OnFailure, Recorder, RequestTelemetry, ResponseBody, StreamInfo, StreamTimeouts, flags_of},
    layer::{HttpService, Middleware, layers},
    telemetry::{AccessLogs, IstioMetrics, Reporter},
    timer::now,
};

/// Counts requests in [`IstioMetrics`].
///
/// ```
/// use http::{Request, Response};
/// use mesh_tower::{Body, BoxError, metrics::MetricsLayer, telemetry::{IstioMetrics, Reporter}};
/// use tower::{Layer as _, ServiceExt as _, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let metrics = IstioMetrics::default();
/// let layer = MetricsLayer::new(metrics.clone(), Reporter::Destination);
/// let service = layer.layer(service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty()))));
/// service.oneshot(Request::new(Body::empty())).await?;
/// assert!(metrics.prometheus_text().contains("istio_requests_total{reporter=\"destination\""));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    metrics: IstioMetrics,
    reporter: Reporter,
    source: Option<Arc<Workload>>,
    destination: Option<Arc<Workload>>,
    service: Option<Arc<DestinationService>>,
    telemetry: Arc<RequestTelemetry>,
}

layers!(MetricsLayer);

impl MetricsLayer {
    /// Counts in `metrics` as `reporter`; source, destination and service are unknown until they are set.
    #[must_use]
    pub fn new(metrics: IstioMetrics, reporter: Reporter) -> Self {
        let telemetry = Arc::new(RequestTelemetry::of_metrics(&metrics, reporter));
        Self { metrics, reporter, source: None, destination: None, service: None, telemetry }
    }

    /// Sets the workload that sends requests.
    #[must_use]
    pub fn source(mut self, workload: Workload) -> Self {
        self.source = Some(Arc::new(workload));
        self.compiled()
    }

    /// Sets the workload that answers requests.
    #[must_use]
    pub fn destination(mut self, workload: Workload) -> Self {
        self.destination = Some(Arc::new(workload));
        self.compiled()
    }

    /// Sets the service that requests are for.
    #[must_use]
    pub fn service(mut self, service: DestinationService) -> Self {
        self.service = Some(Arc::new(service));
        self.compiled()
    }

    fn compiled(mut self) -> Self {
        let (workload, peer) = match self.reporter {
            Reporter::Source => (&self.source, &self.destination),
            Reporter::Destination => (&self.destination, &self.source),
        };
        self.telemetry = Arc::new(RequestTelemetry {
            workload: workload.clone(),
            peer: peer.clone(),
            service: self.service.clone(),
            ..RequestTelemetry::of_metrics(&self.metrics, self.reporter)
        });
        self
    }
}

impl RequestTelemetry {
    fn of_metrics(metrics: &IstioMetrics, reporter: Reporter) -> Self {
        Self {
            istio: metrics.clone(),
            reporter,
            workload: None,
            peer: None,
            service: None,
            host_header_fallback: false,
            access_logs: AccessLogs::default(),
            http: None,
        }
    }
}

impl Middleware for MetricsLayer {
    type Error<E: Into<BoxError> + Send> = E;

    async fn serve<S: HttpService>(self, mut service: S, mut call: Call) -> Result<Response<Body>, S::Error> {
        let mut recorder = Recorder::start(&self.telemetry, None, StreamInfo::new(now()), &mut call);
        match service.send(call.take_request().unwrap_or_default()).await {
            Ok(response) => {
                recorder.info().state().response_flags.insert(flags_of(&response));
                recorder.observe_response(response.status(), response.headers());
                Ok(ResponseBody::wrap(response, recorder, StreamTimeouts::default(), OnFailure::Error).map(Body::new))
            }
            Err(error) => {
                recorder.service_failed();
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests;
