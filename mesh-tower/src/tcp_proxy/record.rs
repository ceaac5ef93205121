//! The record of a proxied connection: its attributes, its metrics and its access log lines.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use mesh_core::{
    cluster::{ClusterState, EndpointState},
    model::{DestinationService, TrafficDirection, Workload},
    resilience::breaker::Permit,
    telemetry::{Attributes, Counter, ResponseFlags},
    tls::TlsInfo,
};

use super::upstream::NotConnected;
use crate::{
    Downstream, TransportError,
    connect::UpstreamStream,
    machine::hostname,
    telemetry::{AccessLogs, IstioMetrics, Reporter, RequestProtocol, SeriesKey, TcpSeries, Telemetry, unregistered},
    timer::now,
};

/// Where the connections of one TCP proxy are counted and logged.
#[derive(Debug)]
pub(crate) struct ConnectionTelemetry {
    istio: IstioMetrics,
    reporter: Reporter,
    /// The workload of this process, or the one that it is the sidecar of.
    workload: Option<Arc<Workload>>,
    /// The service of connections whose cluster does not name one.
    service: Option<Arc<DestinationService>>,
    /// The access logs of the proxy, and those of its listener.
    access_logs: [Arc<AccessLogs>; 2],
}

/// A connection in progress. It is recorded when this is dropped.
#[derive(Debug)]
pub(super) struct Record<'a> {
    telemetry: &'a ConnectionTelemetry,
    downstream: &'a Downstream,
    start: Instant,
    start_time: SystemTime,
    flags: ResponseFlags,
    pub(super) cluster: Option<Arc<ClusterState>>,
    /// The endpoint of the last attempt.
    endpoint: Option<Arc<EndpointState>>,
    pub(super) attempts: u32,
    upstream_local_address: Option<SocketAddr>,
    upstream_tls: Option<Arc<TlsInfo>>,
    transport_failure: Option<Arc<str>>,
    /// Bytes from the client.
    pub(super) received: Counter,
    /// Bytes to the client.
    pub(super) sent: Counter,
    /// `None` until there is an upstream connection.
    series: Option<Arc<TcpSeries>>,
}

impl ConnectionTelemetry {
    pub(crate) fn new(direction: TrafficDirection, telemetry: &Telemetry, access_logs: [Arc<AccessLogs>; 2]) -> Self {
        Self {
            istio: telemetry.istio.clone(),
            reporter: match direction {
                TrafficDirection::Inbound => Reporter::Destination,
                TrafficDirection::Outbound | TrafficDirection::Unspecified => Reporter::Source,
            },
            workload: telemetry.workload.clone(),
            service: telemetry.service.clone().filter(|_| direction == TrafficDirection::Inbound),
            access_logs,
        }
    }
}

impl<'a> Record<'a> {
    /// Where the connection was made to before it was redirected to this process.
    pub(super) fn original_destination(&self) -> Option<SocketAddr> {
        self.downstream.original_destination()
    }

    /// Starts the record of a connection.
    pub(super) fn new(telemetry: &'a ConnectionTelemetry, downstream: &'a Downstream) -> Self {
        Self {
            telemetry,
            downstream,
            start: now(),
            start_time: SystemTime::now(),
            flags: downstream.closed.map_or(ResponseFlags::NONE, |(flags, _)| flags),
            cluster: None,
            endpoint: None,
            attempts: 0,
            upstream_local_address: None,
            upstream_tls: None,
            transport_failure: None,
            received: Counter::default(),
            sent: Counter::default(),
            series: None,
        }
    }

    /// Adds response flags.
    pub(super) fn flag(&mut self, flags: ResponseFlags) {
        self.flags.insert(flags);
    }

    /// Records why there is no upstream connection.
    pub(super) fn fail(&mut self, flags: ResponseFlags) -> NotConnected {
        self.flag(flags);
        NotConnected
    }

    /// Records the upstream connection.
    pub(super) fn connected(&mut self, endpoint: Arc<EndpointState>, stream: &UpstreamStream<Permit>) {
        self.endpoint = Some(endpoint);
        self.upstream_local_address = stream.local_address();
        self.upstream_tls = stream.tls().cloned();
    }

    /// Records a failed attempt. As in Envoy, its flag stays even if a later attempt succeeds.
    pub(super) fn observe_failed_attempt(&mut self, endpoint: Arc<EndpointState>, error: &TransportError) {
        self.endpoint = Some(endpoint);
        self.flag(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        self.transport_failure = error.transport_failure().map(|text| text.replace(' ', "_").into());
    }

    /// Counts the connection as opened, in the series that also counts its bytes.
    pub(super) fn open(&mut self) -> Arc<TcpSeries> {
        let series = self.series();
        series.opened.inc();
        self.series = Some(Arc::clone(&series));
        series
    }

    /// The series of Istio's metrics that the connection belongs to, with what is known so far.
    fn series(&self) -> Arc<TcpSeries> {
        let telemetry = self.telemetry;
        let of_endpoint = self.endpoint.as_ref().and_then(|endpoint| endpoint.workload());
        let (source, destination) = match telemetry.reporter {
            Reporter::Source => (telemetry.workload.as_ref(), of_endpoint),
            Reporter::Destination => (None, telemetry.workload.as_ref().or(of_endpoint)),
        };
        let of_cluster = self.cluster.as_ref().and_then(|cluster| cluster.config().service.as_ref());
        let unregistered = unregistered(of_cluster.map(|service| &**service), None, None);
        let tls = match telemetry.reporter {
            Reporter::Source => &self.upstream_tls,
            Reporter::Destination => &self.downstream.tls,
        };
        let [source_principal, destination_principal] = telemetry.reporter.principals(tls.as_deref());
        telemetry.istio.tcp(SeriesKey {
            reporter: telemetry.reporter,
            source,
            destination,
            service: unregistered.as_ref().or(of_cluster).or(telemetry.service.as_ref()),
            protocol: RequestProtocol::Tcp,
            response_code: 0,
            grpc_status: None,
            flags: self.flags,
            source_principal,
            destination_principal,
        })
    }

    fn attributes(&self) -> Attributes<'_> {
        let duration = now().saturating_duration_since(self.start);
        let endpoint = self.endpoint.as_deref();
        let cluster = self.cluster.as_deref().map(|cluster| &**cluster.config());
        Attributes {
            response_flags: self.flags,
            bytes_received: self.received.get(),
            bytes_sent: self.sent.get(),
            start_time: Some(self.start_time),
            emit_time: Some(self.start_time + duration),
            duration: Some(duration),
            upstream_host: endpoint.map(EndpointState::address),
            upstream_host_name: endpoint.and_then(EndpointState::hostname).map(|name| &**name),
            upstream_remote_address: endpoint.filter(|_| self.series.is_some()).map(EndpointState::address),
            upstream_local_address: self.upstream_local_address,
            upstream_tls: self.upstream_tls.as_deref(),
            upstream_cluster: cluster.map(|cluster| &*cluster.stat_name),
            upstream_cluster_raw: cluster.map(|cluster| cluster.name.as_str()),
            upstream_request_attempt_count: self.attempts,
            upstream_transport_failure_reason: self.transport_failure.as_deref(),
            hostname: hostname(),
            access_log_type: Some("TcpConnectionEnd"),
            ..self.downstream.attributes()
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if self.series.is_none() {
            self.series().opened.inc();
        }
        // Flags that were added since the connection was opened select another series.
        self.series().closed.inc();
        let logs = self.telemetry.access_logs.iter().filter(|logs| !logs.is_empty());
        let attributes = self.attributes();
        logs.for_each(|logs| logs.write(&attributes));
    }
}
