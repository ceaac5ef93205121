//! Faults in the assembled stack: the listener's filters, one after the other.

use http::request::Parts;
use mesh_core::{
    filter::{
        FilterConfig, HttpFilter,
        fault::{self, Fault},
    },
    local_reply::LocalReply,
    request::RequestHead,
    route::ChosenCluster,
    telemetry::ResponseFlags,
};

use super::ActiveFaults;
use crate::{StreamInfo, route::Route, timer::Timers};

/// Holds a request as `filters` and its route say; the answer if it is to fail.
pub(crate) async fn filter(
    filters: &[HttpFilter],
    (route, random): (&Route, u64),
    parts: &Parts,
    info: &StreamInfo,
    (timers, active): (&Timers, &ActiveFaults),
) -> Option<LocalReply> {
    for filter in filters {
        let FilterConfig::Fault(of_filter) = &filter.config;
        let (weighted, cluster) = {
            let head = RequestHead::from_parts(parts);
            let choice = route.select_cluster(&head, random);
            let cluster = choice.as_ref().and_then(|choice| match choice.cluster {
                ChosenCluster::Resolved(slot) => Some(slot.name().as_str().to_owned()),
                ChosenCluster::Named(name) => Some(name.to_owned()),
                ChosenCluster::Unnamed => None,
            });
            (choice.and_then(|choice| choice.weighted), cluster)
        };
        let resolved = route.filter_override(weighted, &filter.name);
        if !filter.runs(resolved) {
            continue;
        }
        let config = resolved.and_then(|resolved| resolved.most_specific::<Fault>()).unwrap_or(of_filter);
        let reply = inject(config, parts, cluster.as_deref(), info, (timers, active)).await;
        if reply.is_some() {
            return reply;
        }
    }
    None
}

/// Holds a request as `config` says; the answer if it is to fail.
pub(crate) async fn inject(
    config: &Fault,
    parts: &Parts,
    cluster: Option<&str>,
    info: &StreamInfo,
    (timers, active): (&Timers, &ActiveFaults),
) -> Option<LocalReply> {
    let draws = [fastrand::u64(..), fastrand::u64(..)];
    let decision = fault::decide(config, &RequestHead::from_parts(parts), cluster, draws);
    if decision.delay.is_none() && decision.abort.is_none() {
        return None;
    }
    let _active = active.start(config.max_active_faults)?;
    if let Some(delay) = decision.delay {
        info.state().response_flags.insert(ResponseFlags::DELAY_INJECTED);
        timers.sleep(delay).await;
    }
    decision.abort.map(LocalReply::fault)
}
