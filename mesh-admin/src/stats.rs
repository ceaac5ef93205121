//! `/stats` and `/stats/prometheus`.

use std::sync::Arc;

use http::StatusCode;
use mesh_tower::telemetry::{
    ClusterStatSource, Scope, Stat, StatSnapshot, StatSource, StatValue, StatVisitor, plain_text, prometheus_text,
};
use regex::Regex;
use serde_json::json;

use crate::{Answer, Phase, Process, Query, config_stats::ConfigStats, server_info::resident_bytes};

pub(crate) fn stats(process: &impl Process, query: &Query<'_>) -> Answer {
    match query.get("format").as_deref() {
        None | Some("text") => with_stats(process, query, |stats| Answer::text(plain_text(&stats))),
        Some("json") => with_stats(process, query, |stats| Answer::json(&stats_json(&stats))),
        Some("prometheus") => prometheus(process, query),
        Some(_) => Answer::text("usage: /stats?format=(json|prometheus|text)\n\n").with_status(StatusCode::BAD_REQUEST),
    }
}

pub(crate) fn prometheus(process: &impl Process, query: &Query<'_>) -> Answer {
    with_stats(process, query, |stats| {
        let mut text = prometheus_text(&stats);
        if !query.has("filter") {
            text.push_str(&process.telemetry().istio.prometheus_text());
            if let Some(status) = process.config_dump().dynamic {
                text.push_str(&status.prometheus_text());
            }
        }
        Answer::text(text)
    })
}

pub(crate) fn reset_counters(process: &impl Process, _: &Query<'_>) -> Answer {
    for source in stat_sources(process) {
        source.reset_counters();
    }
    Answer::ok()
}

fn with_stats(process: &impl Process, query: &Query<'_>, show: impl FnOnce(Vec<Stat>) -> Answer) -> Answer {
    let Ok(filter) = query.get("filter").map(|filter| Regex::new(&filter)).transpose() else {
        return Answer::text("Invalid regex: \"filter\"\n").with_status(StatusCode::BAD_REQUEST);
    };
    let sources = stat_sources(process);
    let mut stats = Stat::collect(sources.iter().map(|source| &**source));
    stats.retain(|stat| {
        (!query.has("usedonly") || is_listed_as_used(stat))
            && filter.as_ref().is_none_or(|filter| filter.is_match(&stat.name))
    });
    show(stats)
}

/// All sources of statistics.
fn stat_sources(process: &impl Process) -> Vec<Arc<dyn StatSource>> {
    let of_process = ProcessStats {
        concurrency: process.concurrency() as u64,
        uptime_seconds: process.uptime().as_secs(),
        phase: process.phase(),
        listeners: process.listeners().len() as u64,
        clusters: process.store().clusters().len() as u64,
    };
    let store = process.store();
    let mut sources: Vec<Arc<dyn StatSource>> = vec![
        Arc::clone(&process.telemetry().stats) as _,
        Arc::new(ClusterStatSource::new(Arc::clone(store))),
        Arc::new(of_process),
    ];
    if let Some(status) = process.config_dump().dynamic {
        sources.push(Arc::new(ConfigStats { client: status.client, store: Arc::clone(store) }));
    }
    sources
}

/// Whether `usedonly` includes the statistic. Gauges that end in `_active` are included even at 0, because Envoy counts a
/// gauge as used once it was set.
fn is_listed_as_used(stat: &Stat) -> bool {
    stat.is_used() || matches!(stat.value, StatSnapshot::Gauge(0)) && stat.name.ends_with("_active")
}

fn stats_json(stats: &[Stat]) -> serde_json::Value {
    let plain = stats.iter().filter_map(|stat| match &stat.value {
        StatSnapshot::Counter(n) | StatSnapshot::Gauge(n) => Some(json!({ "name": stat.name, "value": n })),
        StatSnapshot::Text(text) => Some(json!({ "name": stat.name, "value": text })),
        StatSnapshot::Histogram(_) => None,
    });
    let histograms: Vec<_> = stats.iter().filter_map(histogram_json).collect();
    let mut values: Vec<_> = plain.collect();
    if !histograms.is_empty() {
        values.push(json!({ "histograms": histograms }));
    }
    json!({ "stats": values })
}

fn histogram_json(stat: &Stat) -> Option<serde_json::Value> {
    let StatSnapshot::Histogram(histogram) = &stat.value else { return None };
    let buckets: Vec<_> = histogram
        .cumulative
        .iter()
        .filter(|(bound, _)| bound.is_finite())
        .map(|(bound, count)| json!({ "upper_bound": bound, "cumulative": count }))
        .collect();
    Some(json!({ "name": stat.name, "buckets": buckets, "count": histogram.count(), "sum": histogram.sum }))
}

/// Statistics of the process. Envoy `server.`, `listener_manager.`, `cluster_manager.`.
#[derive(Debug)]
struct ProcessStats {
    concurrency: u64,
    uptime_seconds: u64,
    phase: Phase,
    listeners: u64,
    clusters: u64,
}

impl StatSource for ProcessStats {
    fn visit(&self, visitor: &mut StatVisitor<'_>) {
        let gauges = [
            ("server.live", u64::from(self.phase == Phase::Live)),
            ("server.state", self.phase.number()),
            ("server.concurrency", self.concurrency),
            ("server.uptime", self.uptime_seconds),
            ("server.memory_physical_size", resident_bytes()),
            ("listener_manager.total_listeners_active", self.listeners),
            ("cluster_manager.active_clusters", self.clusters),
        ];
        for (name, value) in gauges {
            visitor(Scope::Process, name, StatValue::Gauge(value));
        }
    }

    fn reset_counters(&self) {}
}
