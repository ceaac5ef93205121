//! Telemetry of requests and connections: Envoy's statistics, Istio's metrics, and access logs.

mod access_log;
mod cluster_stats;
mod connection_stats;
mod destination;
mod http_stats;
mod istio;
mod istio_tcp;
mod log_file;
mod metric;
mod shared;
mod stat;

pub(crate) use access_log::AccessLogs;
pub use cluster_stats::ClusterStatSource;
pub use connection_stats::{CodecStats, HttpInspectorStats, TcpStats, TlsInspectorStats};
pub(crate) use destination::{NamedHost, unregistered};
pub use http_stats::{DownstreamStats, HttpStats, ListenerHttpStats, ListenerStats};
pub use istio::{IstioMetrics, RequestSample, SeriesKey};
pub(crate) use istio_tcp::TcpSeries;
pub use log_file::{LogFile, LogFiles, OpenError};
pub use mesh_core::telemetry::labels::{Reporter, RequestProtocol};
pub use metric::{Histogram, HistogramSnapshot};
pub use shared::{LocalInfo, Telemetry};
pub use stat::{Scope, Stat, StatSnapshot, StatSource, StatValue, StatVisitor, plain_text, prometheus_text};
