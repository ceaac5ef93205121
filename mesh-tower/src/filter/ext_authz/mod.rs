//! External authorization: asks a service whether a request is allowed, as [`mesh_core::filter::ext_authz`] says, and does
//! what the service decides. Envoy `envoy.filters.http.ext_authz`.

mod ask;
mod authorizer;
mod body;

use std::{borrow::Cow, sync::Arc, time::Instant};

use http::{StatusCode, header::CONTENT_TYPE};
use mesh_core::{
    cluster::{ClusterState, ExtAuthzStats, RequestOrigin},
    filter::{
        Filter as _,
        ext_authz::{
            Allowed, Applies, Authorization, CheckBody, CheckSettings, Denied, ExtAuthz, HeaderChange, RequestFacts,
            apply_to_request, apply_to_response, headers_of_response,
        },
    },
    grpc,
    local_reply::LocalReply,
    model::MetadataValue,
    request::RequestHead,
    rng::Rng as _,
    telemetry::{Counter, ResponseFlags, details},
};

pub(crate) use self::ask::ask_grpc;
pub(crate) use self::authorizer::AnyAuthorizer;
pub use self::authorizer::{Authorizer, AuthorizerLayer};
use self::{ask::Ask, body::ReadBody};
use super::{FilterFactory, FilterReply, FilterRequest, FilterResponse, FilterStatus, HttpFilter};
use crate::{rng::ThreadRng, timer::now};

const FAILURE_MODE_ALLOWED: http::HeaderName = http::HeaderName::from_static("x-envoy-auth-failure-mode-allowed");
/// How long the check took, in milliseconds, beside the dynamic metadata of the service.
pub(crate) const DURATION: &str = "ext_authz_duration";

/// Asks a service about requests.
#[derive(Debug)]
pub(crate) struct ExtAuthzFilter {
    config: Arc<ExtAuthz>,
    ask: Box<Ask>,
    stats: Stats,
}

/// Envoy `http.<stat_prefix>.ext_authz.`.
#[derive(Debug)]
struct Stats {
    ok: Arc<Counter>,
    denied: Arc<Counter>,
    error: Arc<Counter>,
    disabled: Arc<Counter>,
    failure_mode_allowed: Arc<Counter>,
    invalid: Arc<Counter>,
    ignored_dynamic_metadata: Arc<Counter>,
}

impl HttpFilter for ExtAuthzFilter {
    type Config = ExtAuthz;
    /// Changes of the response.
    type State = Vec<HeaderChange>;

    fn new(config: &Arc<ExtAuthz>, factory: &FilterFactory<'_>) -> Self {
        let dot = if config.stat_prefix.is_empty() { "" } else { "." };
        let counter = |name: &str| factory.stats.counter(format!("ext_authz.{}{dot}{name}", config.stat_prefix));
        let stats = Stats {
            ok: counter("ok"),
            denied: counter("denied"),
            error: counter("error"),
            disabled: counter("disabled"),
            failure_mode_allowed: counter("failure_mode_allowed"),
            invalid: counter("invalid"),
            ignored_dynamic_metadata: counter("ignored_dynamic_metadata"),
        };
        Self { ask: Box::new(Ask::new(config, factory)), config: Arc::clone(config), stats }
    }

    fn on_request<'a>(&'a self, state: &'a mut Self::State, request: FilterRequest<'a>) -> FilterStatus<'a> {
        // As in Envoy, a request without a route is not checked: nothing but 404 follows.
        if request.has_no_route() {
            return FilterStatus::Continue;
        }
        let applies = {
            let state = request.info().state();
            let by_metadata = self.config.filter_enabled_metadata.is_some();
            let metadata = if by_metadata { state.dynamic_metadata() } else { None };
            self.config.applies(request.resolved(), metadata, ThreadRng.next_u64())
        };
        match applies {
            Applies::Skip => FilterStatus::Continue,
            Applies::Disabled => {
                self.stats.disabled.inc();
                FilterStatus::Continue
            }
            Applies::Deny => {
                self.stats.disabled.inc();
                FilterStatus::Reply(unauthorized(self.config.status_on_error, "", details::EXT_AUTHZ_ERROR))
            }
            Applies::Check(settings) => FilterStatus::Wait(Box::pin(self.check(state, request, settings))),
        }
    }

    fn on_response(&self, state: &mut Self::State, response: FilterResponse<'_>) {
        if !state.is_empty() {
            apply_to_response(state, response.response.headers_mut());
        }
    }
}

impl ExtAuthzFilter {
    async fn check<'a>(
        &'a self,
        state: &'a mut Vec<HeaderChange>,
        mut request: FilterRequest<'a>,
        settings: CheckSettings,
    ) -> Option<FilterReply> {
        let body = match settings.with_request_body {
            Some(buffer) if !request.info().asks_for_upgrade() => match body::read(request.body_mut(), buffer).await {
                ReadBody::Read(body) => body,
                ReadBody::TooLarge => return Some(LocalReply::PAYLOAD_TOO_LARGE.into()),
                ReadBody::Failed => return Some(LocalReply::BAD_REQUEST.into()),
            },
            _ => None,
        };
        let pack_as_bytes = settings.with_request_body.is_some_and(|buffer| buffer.pack_as_bytes);
        let check = self.check_request(&request, body, settings);
        // The statistics are those of the cluster that the request is routed to, also if it is routed again later.
        let cluster = request.cluster().cloned();
        let begun = now();
        let authorization = self.ask.authorize(&check, pack_as_bytes).await;
        let decided = Decided { cluster: cluster.as_deref(), begun };
        self.conclude(authorization, state, &mut request, &decided)
    }

    fn check_request(
        &self,
        request: &FilterRequest<'_>,
        body: Option<CheckBody>,
        settings: CheckSettings,
    ) -> mesh_core::filter::ext_authz::CheckRequest {
        let info = request.info();
        let known = info.state();
        let facts = RequestFacts {
            remote_address: known.downstream_direct_remote_address,
            local_address: known.downstream_local_address,
            tls: known.downstream_tls.as_deref(),
            requested_server_name: known.requested_server_name.as_ref(),
            protocol: known.protocol,
            start_time: info.start_time(),
            stream_id: ThreadRng.next_u64(),
            bytes_received: info.bytes_received(),
            dynamic_metadata: known.dynamic_metadata(),
            route_metadata: request.route_metadata(),
        };
        self.config.check_request(&RequestHead::from_parts(request.head()), &facts, body, settings)
    }

    /// Does what was decided.
    fn conclude(
        &self,
        authorization: Authorization,
        state: &mut Vec<HeaderChange>,
        request: &mut FilterRequest<'_>,
        decided: &Decided<'_>,
    ) -> Option<FilterReply> {
        match authorization {
            Authorization::Allowed(allowed) => self.allow(*allowed, state, request, decided),
            Authorization::Denied(denied) => {
                self.keep_metadata(&denied.dynamic_metadata, request, None);
                Some(self.deny(&denied, request.is_grpc(), decided))
            }
            Authorization::Failed(response) => self.fail(response.map(|response| *response), request, decided),
            Authorization::Invalid => Some(self.refuse(decided)),
        }
    }

    fn allow(
        &self,
        allowed: Allowed,
        state: &mut Vec<HeaderChange>,
        request: &mut FilterRequest<'_>,
        decided: &Decided<'_>,
    ) -> Option<FilterReply> {
        let rules = self.config.decoder_header_mutation_rules.as_ref();
        let Ok(has_changed) = apply_to_request(&allowed, rules, request.head_mut()) else {
            return Some(self.refuse(decided));
        };
        if has_changed && self.config.clear_route_cache {
            request.clear_route_cache();
        }
        self.keep_metadata(&allowed.dynamic_metadata, request, Some(decided.begun));
        *state = allowed.response_headers;
        self.stats.ok.inc();
        if let Some(stats) = self.of_cluster(decided) {
            stats.ok.inc();
        }
        None
    }

    fn deny(&self, denied: &Denied, is_grpc: bool, decided: &Decided<'_>) -> FilterReply {
        let status = denied.status.unwrap_or(StatusCode::FORBIDDEN);
        self.stats.denied.inc();
        if let Some(stats) = self.of_cluster(decided) {
            stats.denied.inc();
        }
        if let Some(cluster) = decided.cluster
            && self.config.charge_cluster_response_stats
        {
            cluster.stats().count_response(status, RequestOrigin::Internal);
        }
        reply(status, denied, is_grpc, details::EXT_AUTHZ_DENIED)
    }

    fn fail(
        &self,
        response: Option<Denied>,
        request: &mut FilterRequest<'_>,
        decided: &Decided<'_>,
    ) -> Option<FilterReply> {
        let of_cluster = self.of_cluster(decided);
        self.stats.error.inc();
        if let Some(stats) = &of_cluster {
            stats.error.inc();
        }
        if self.config.failure_mode_allow {
            self.stats.failure_mode_allowed.inc();
            if let Some(stats) = &of_cluster {
                stats.failure_mode_allowed.inc();
            }
            if self.config.failure_mode_allow_header_add {
                let value = http::HeaderValue::from_static("true");
                request.head_mut().headers.append(FAILURE_MODE_ALLOWED, value);
            }
            return None;
        }
        let response = response.unwrap_or_else(|| Denied::new(None));
        let status = response.status.unwrap_or(self.config.status_on_error);
        Some(reply(status, &response, request.is_grpc(), details::EXT_AUTHZ_ERROR))
    }

    /// The service has sent what is not valid.
    fn refuse(&self, decided: &Decided<'_>) -> FilterReply {
        self.stats.invalid.inc();
        if let Some(stats) = self.of_cluster(decided) {
            stats.invalid.inc();
        }
        unauthorized(StatusCode::INTERNAL_SERVER_ERROR, "", details::EXT_AUTHZ_INVALID)
    }

    fn of_cluster(&self, decided: &Decided<'_>) -> Option<Arc<ExtAuthzStats>> {
        Some(decided.cluster?.stats().ext_authz(&self.config.stat_prefix))
    }

    /// Sets the dynamic metadata of the service, with the duration of a check that has allowed the request.
    fn keep_metadata(&self, metadata: &MetadataValue, request: &FilterRequest<'_>, begun: Option<Instant>) {
        let MetadataValue::Object(fields) = metadata else { return };
        if fields.is_empty() {
            return;
        }
        if !self.config.enable_dynamic_metadata_ingestion {
            self.stats.ignored_dynamic_metadata.inc();
            return;
        }
        let mut fields = fields.clone();
        if let Some(begun) = begun {
            let millis = now().saturating_duration_since(begun).as_millis();
            let millis = f64::from(u32::try_from(millis).unwrap_or(u32::MAX));
            fields.insert(DURATION.into(), MetadataValue::Number(millis));
        }
        request.info().state().set_dynamic_metadata(ExtAuthz::NAME, MetadataValue::Object(fields));
    }
}

/// What a decision is counted for.
#[derive(Debug)]
struct Decided<'a> {
    /// The cluster that the request is routed to.
    cluster: Option<&'a ClusterState>,
    /// When the service was asked.
    begun: Instant,
}

fn reply(status: StatusCode, response: &Denied, is_grpc: bool, details: &'static str) -> FilterReply {
    let body = String::from_utf8_lossy(&response.body).into_owned();
    let reply = unauthorized(status, body, details);
    let mut headers = headers_of_response(&response.headers);
    if is_grpc {
        // A client of gRPC understands no other form, and no other status than that of the reply.
        for name in [CONTENT_TYPE, grpc::GRPC_STATUS, grpc::GRPC_MESSAGE] {
            headers.remove(name);
        }
    }
    FilterReply { headers, ..reply }
}

fn unauthorized(status: StatusCode, body: impl Into<Cow<'static, str>>, details: &'static str) -> FilterReply {
    let reply = LocalReply::new(status, "", ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE, details);
    LocalReply { body: body.into(), ..reply }.into()
}

#[cfg(test)]
mod tests;
