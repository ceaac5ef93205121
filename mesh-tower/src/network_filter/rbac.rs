//! Access control of connections, as [`mesh_core::filter::rbac`] decides. Envoy `envoy.filters.network.rbac`.

use std::sync::Arc;

use mesh_core::{
    filter::rbac::{Mode, Namespace, NetworkRbac, Report, Subject},
    telemetry::details,
};

use super::Status;
use crate::{
    downstream::Downstream,
    filter::rbac::{AuditLog, RbacStats, join},
    telemetry::Telemetry,
    timer,
};

/// Denies connections.
#[derive(Debug)]
pub(super) struct Rbac {
    config: Arc<NetworkRbac>,
    stats: RbacStats,
    audit: AuditLog,
}

impl Rbac {
    pub(super) fn new(config: &Arc<NetworkRbac>, telemetry: &Telemetry) -> Self {
        let counter = |name: String| telemetry.stats.network_filter_counter(join(&config.stat_prefix, &name));
        let stats = RbacStats::new(&config.policies, counter);
        Self { config: Arc::clone(config), stats, audit: AuditLog::new(&telemetry.logs) }
    }

    pub(super) async fn on_connection(&self, downstream: &mut Downstream) -> Status {
        if self.is_allowed(downstream) {
            return Status::Continue;
        }
        if !self.config.delay_deny.is_zero() {
            timer::sleep(self.config.delay_deny).await;
        }
        Status::Close
    }

    fn is_allowed(&self, downstream: &mut Downstream) -> bool {
        let policies = &self.config.policies;
        let subject = Subject {
            destination: downstream.facts.destination,
            source: downstream.facts.source,
            direct_remote: downstream.facts.direct_source,
            remote: downstream.facts.source,
            requested_server_name: downstream.requested_server_name().map(|name| &**name),
            tls: downstream.tls.as_deref(),
            dynamic_metadata: downstream.dynamic_metadata.as_deref(),
            ..Subject::default()
        };
        let mut denied = None;
        let mut metadata = subject.dynamic_metadata.cloned().unwrap_or_default();
        for (mode, engine) in [(Mode::Shadow, &policies.shadow_rules), (Mode::Enforced, &policies.rules)] {
            let Some(engine) = engine else { continue };
            let decision = engine.decide(&subject);
            self.stats.count(mode, decision, false);
            self.audit.write(engine.audit(), &subject, decision);
            if mode == Mode::Enforced && !decision.is_allowed() {
                denied = Some(details::rbac_access_denied(decision.policy()));
            }
            Report::new(policies, policies, Namespace::Network, mode, decision).write(&mut metadata);
        }
        downstream.dynamic_metadata = Some(Box::new(metadata));
        let is_allowed = denied.is_none();
        if let Some(details) = denied {
            downstream.connection_termination_details = Some(details.into());
        }
        is_allowed
    }
}
