//! Istio's metrics of TCP connections: `istio_tcp_connections_opened_total`, `istio_tcp_connections_closed_total`,
//! `istio_tcp_received_bytes_total` and `istio_tcp_sent_bytes_total`.
//!
//! A connection is counted as opened when its upstream connection exists, or when it ends without one. Bytes are counted
//! as they pass. Istio updates these metrics in reports that are some seconds apart.

use std::{fmt::Write as _, sync::Arc};

use hashbrown::HashMap;
use mesh_core::telemetry::{
    Counter,
    labels::{
        ISTIO_TCP_CONNECTIONS_CLOSED_TOTAL, ISTIO_TCP_CONNECTIONS_OPENED_TOTAL, ISTIO_TCP_RECEIVED_BYTES_TOTAL,
        ISTIO_TCP_SENT_BYTES_TOTAL,
    },
};
use parking_lot::Mutex;

/// Series in a process. Connections of further series are counted in [`TcpRegistry::dropped`] only.
const MAX_SERIES: usize = 100_000;

/// Connections with equal labels.
#[derive(Debug, Default)]
pub(crate) struct TcpSeries {
    /// Connections opened.
    pub(crate) opened: Counter,
    /// Connections closed.
    pub(crate) closed: Counter,
    /// Bytes from clients.
    pub(crate) received_bytes: Counter,
    /// Bytes to clients.
    pub(crate) sent_bytes: Counter,
}

/// A metric's name and where it is kept.
type CounterOf = (&'static str, fn(&TcpSeries) -> &Counter);

/// All series by their labels, in Prometheus' text format without the braces.
#[derive(Debug, Default)]
pub(super) struct TcpRegistry {
    by_labels: Mutex<HashMap<String, Arc<TcpSeries>>>,
    dropped: Counter,
}

impl TcpRegistry {
    /// The series of these labels; one that is not reported if there are too many.
    pub(super) fn series(&self, labels: String) -> Arc<TcpSeries> {
        let mut by_labels = self.by_labels.lock();
        if by_labels.len() >= MAX_SERIES && !by_labels.contains_key(&labels) {
            self.dropped.inc();
            return Arc::default();
        }
        Arc::clone(by_labels.entry(labels).or_default())
    }

    /// Connections that were not counted because there are too many series.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Appends all series in Prometheus' text format.
    pub(super) fn write(&self, text: &mut String) {
        let mut series: Vec<(String, Arc<TcpSeries>)> =
            self.by_labels.lock().iter().map(|(labels, series)| (labels.clone(), Arc::clone(series))).collect();
        if series.is_empty() {
            return;
        }
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let counters: [CounterOf; 4] = [
            (ISTIO_TCP_CONNECTIONS_OPENED_TOTAL, |series| &series.opened),
            (ISTIO_TCP_CONNECTIONS_CLOSED_TOTAL, |series| &series.closed),
            (ISTIO_TCP_RECEIVED_BYTES_TOTAL, |series| &series.received_bytes),
            (ISTIO_TCP_SENT_BYTES_TOTAL, |series| &series.sent_bytes),
        ];
        for (name, counter) in counters {
            let _ = writeln!(text, "# TYPE {name} counter");
            for (labels, series) in &series {
                let _ = writeln!(text, "{name}{{{labels}}} {}", counter(series).get());
            }
        }
    }
}
