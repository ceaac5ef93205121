//! Role-based access control: denies requests, as [`mesh_core::filter::rbac`] decides. Envoy `envoy.filters.http.rbac`.
//!
//! What was decided is part of the dynamic metadata of the request, and in the details of a denial. `audit` writes audit
//! logs, `stats` counts; both also serve the filter of connections.

mod audit;
mod stats;

use std::sync::Arc;

use mesh_core::{
    filter::rbac::{Mode, Namespace, Rbac, Report, Subject},
    local_reply::LocalReply,
    request::RequestHead,
};

pub(crate) use audit::AuditLog;
pub(crate) use stats::{RbacStats, join};

use super::{FilterFactory, FilterRequest, FilterStatus, HttpFilter, most_specific};

/// Denies requests.
#[derive(Debug)]
pub(crate) struct RbacFilter {
    config: Arc<Rbac>,
    stats: RbacStats,
    audit: AuditLog,
}

impl HttpFilter for RbacFilter {
    type Config = Rbac;
    type State = ();

    fn new(config: &Arc<Rbac>, factory: &FilterFactory<'_>) -> Self {
        let stats = RbacStats::new(config, |name| factory.stats.counter(name));
        Self { config: Arc::clone(config), stats, audit: AuditLog::new(factory.logs) }
    }

    fn on_request<'a>(&'a self, (): &'a mut (), request: FilterRequest<'a>) -> FilterStatus<'a> {
        let config = most_specific(request.resolved(), &self.config);
        if config.rules.is_none() && config.shadow_rules.is_none() {
            return FilterStatus::Continue;
        }
        match self.decide(config, &request) {
            None => FilterStatus::Continue,
            Some(denial) => FilterStatus::Reply(denial.into()),
        }
    }
}

impl RbacFilter {
    /// The reply to a request that is denied.
    fn decide(&self, config: &Arc<Rbac>, request: &FilterRequest<'_>) -> Option<LocalReply> {
        let mut state = request.info().state();
        let mut reports = [None, None];
        let mut denial = None;
        {
            let engines = [&config.rules, &config.shadow_rules];
            let reads_metadata = engines.into_iter().flatten().any(|engine| engine.reads_metadata());
            let subject = Subject {
                head: Some(RequestHead::from_parts(request.head())),
                destination: state.downstream_local_address,
                source: state.downstream_direct_remote_address,
                direct_remote: state.downstream_direct_remote_address,
                remote: state.downstream_remote_address,
                requested_server_name: state.requested_server_name.as_deref(),
                tls: state.downstream_tls.as_deref(),
                dynamic_metadata: if reads_metadata { state.dynamic_metadata() } else { None },
                route_metadata: request.route_metadata(),
            };
            let counts_policies = self.config.track_per_rule_stats && Arc::ptr_eq(config, &self.config);
            let modes = [(Mode::Shadow, &config.shadow_rules), (Mode::Enforced, &config.rules)];
            for ((mode, engine), report) in modes.into_iter().zip(&mut reports) {
                let Some(engine) = engine else { continue };
                let decision = engine.decide(&subject);
                self.stats.count(mode, decision, counts_policies);
                self.audit.write(engine.audit(), &subject, decision);
                if mode == Mode::Enforced && !decision.is_allowed() {
                    denial = Some(LocalReply::rbac_access_denied(decision.policy()));
                }
                *report = Some(Report::new(config, &self.config, Namespace::Http, mode, decision));
            }
        }
        reports.into_iter().flatten().for_each(|report| state.observe_access(report));
        denial
    }
}
