//! Istio's metrics as a layer for any `tower::Service` over HTTP: no configuration, no xDS.
//!
//! Requests are counted when the response *body* has ended, as the proxies do: a streamed answer that breaks half-way is
//! not a success. Bytes of a request body are those its length announces, since the body's type is left alone; a
//! streamed upload without a length counts its headers only.

mod body;
mod service;

use std::sync::Arc;

use mesh_core::model::{DestinationService, Workload};
use tower_layer::Layer;

pub use body::MetricsBody;
pub use service::{Metrics, ResponseFuture};

use crate::telemetry::{IstioMetrics, Reporter};

/// Counts requests in [`IstioMetrics`].
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    metrics: IstioMetrics,
    who: Arc<Who>,
}

/// What all requests through one layer have in common.
#[derive(Clone, Debug)]
struct Who {
    reporter: Reporter,
    source: Option<Arc<Workload>>,
    destination: Option<Arc<Workload>>,
    service: Option<Arc<DestinationService>>,
}

impl MetricsLayer {
    /// Counts in `metrics` as `reporter`; everybody is unknown until said.
    #[must_use]
    pub fn new(metrics: IstioMetrics, reporter: Reporter) -> Self {
        Self { metrics, who: Arc::new(Who { reporter, source: None, destination: None, service: None }) }
    }

    /// Who asks.
    #[must_use]
    pub fn source(mut self, workload: Workload) -> Self {
        Arc::make_mut(&mut self.who).source = Some(Arc::new(workload));
        self
    }

    /// Who answers.
    #[must_use]
    pub fn destination(mut self, workload: Workload) -> Self {
        Arc::make_mut(&mut self.who).destination = Some(Arc::new(workload));
        self
    }

    /// Which service is asked.
    #[must_use]
    pub fn service(mut self, service: DestinationService) -> Self {
        Arc::make_mut(&mut self.who).service = Some(Arc::new(service));
        self
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Metrics<S> {
        Metrics { inner, metrics: self.metrics.clone(), who: Arc::clone(&self.who) }
    }
}

#[cfg(test)]
mod tests;
