//! End-user authentication: the RequestAuthentications that select the workload.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_core::node::Role;

use super::{Side, http_filter};
use crate::config::{JwksUri, JwtKeys, JwtRule, RequestAuthentication, selects};
use crate::translate::cluster::jwks_cluster;
use crate::translate::proto::{any, core, duration, http, jwt, route};
use crate::translate::view::View;
use jwt::jwt_provider::{JwksSourceSpecifier, NormalizePayload};
use jwt::jwt_requirement::RequiresType;

pub(super) const NAME: &str = "envoy.filters.http.jwt_authn";

/// Key of the payload in the filter's metadata, which authorization and routes read.
const PAYLOAD: &str = "payload";
/// Default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a proxy fetches keys again.
const CACHE_DURATION: Duration = Duration::from_secs(5 * 60);
/// Claims that are always lists.
const SPACE_DELIMITED: [&str; 2] = ["permission", "scope"];

pub(super) fn add_http(view: &View<'_>, side: Side, filters: &mut Vec<http::HttpFilter>) {
    if side == Side::Outbound {
        return;
    }
    let rules = rules(view);
    if !rules.is_empty() {
        filters.push(http_filter(NAME, any(&config(view, &rules))));
    }
}

/// The rules for the workload, by issuer, as Istio sorts them.
pub(in crate::translate) fn rules<'a>(view: &View<'a>) -> Vec<&'a JwtRule> {
    let root = view.mesh.config.mesh_config.root_namespace();
    let is_for_node = |policy: &&RequestAuthentication| {
        let namespace = &policy.metadata.namespace;
        (*namespace == view.node.namespace || namespace == root) && selects(&policy.selector, &view.node.labels)
    };
    let policies = view.mesh.config.request_authentications.iter().filter(is_for_node);
    let mut rules: Vec<_> = policies.flat_map(|policy| &policy.jwt_rules).collect();
    rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    rules
}

fn config(view: &View<'_>, rules: &[&JwtRule]) -> jwt::JwtAuthentication {
    let names: Vec<_> = (0..rules.len()).map(|index| format!("origins-{index}")).collect();
    let providers = names.iter().cloned().zip(rules.iter().map(|rule| provider(view, rule))).collect();
    let requires = |requires_type| jwt::JwtRequirement { requires_type: Some(requires_type) };
    let of = |name: &String| requires(RequiresType::ProviderName(name.clone()));
    let any_of = |requirements| requires(RequiresType::RequiresAny(jwt::JwtRequirementOrList { requirements }));
    let optional = |name| any_of(vec![of(name), requires(RequiresType::AllowMissing(()))]);
    let requirement = match &names[..] {
        [name] => optional(name),
        names => {
            let all = jwt::JwtRequirementAndList { requirements: names.iter().map(optional).collect() };
            any_of(names.iter().map(of).chain([requires(RequiresType::RequiresAll(all))]).collect())
        }
    };
    let everything = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..route::RouteMatch::default()
    };
    jwt::JwtAuthentication {
        providers,
        rules: vec![jwt::RequirementRule {
            r#match: Some(everything),
            requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(requirement)),
        }],
        bypass_cors_preflight: true,
        ..jwt::JwtAuthentication::default()
    }
}

fn provider(view: &View<'_>, rule: &JwtRule) -> jwt::JwtProvider {
    let header = |header: &crate::config::JwtHeader| jwt::JwtHeader {
        name: header.name.clone(),
        value_prefix: header.prefix.clone(),
    };
    let claim = |claim: &crate::config::ClaimToHeader| jwt::JwtClaimToHeader {
        header_name: claim.header.clone(),
        claim_name: claim.claim.clone(),
        ..jwt::JwtClaimToHeader::default()
    };
    let space_delimited: BTreeSet<&str> =
        rule.space_delimited_claims.iter().map(String::as_str).chain(SPACE_DELIMITED).collect();
    jwt::JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forward_original_token,
        forward_payload_header: rule.output_payload_to_header.clone().unwrap_or_default(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: space_delimited.into_iter().map(str::to_owned).collect(),
        }),
        clear_route_cache: view.node.role == Role::Gateway,
        claim_to_headers: rule.output_claim_to_headers.iter().map(claim).collect(),
        from_headers: rule.from_headers.iter().map(header).collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        jwks_source_specifier: Some(match &rule.keys {
            JwtKeys::Inline(jwks) => JwksSourceSpecifier::LocalJwks(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(jwks.clone())),
                ..core::DataSource::default()
            }),
            JwtKeys::Remote(uri) => JwksSourceSpecifier::RemoteJwks(remote(view, uri, rule.timeout)),
        }),
        ..jwt::JwtProvider::default()
    }
}

fn remote(view: &View<'_>, uri: &JwksUri, timeout: Option<Duration>) -> jwt::RemoteJwks {
    jwt::RemoteJwks {
        http_uri: Some(core::HttpUri {
            uri: uri.text.clone(),
            timeout: Some(duration(timeout.unwrap_or(TIMEOUT))),
            http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(jwks_cluster(view, uri).name)),
        }),
        cache_duration: Some(duration(CACHE_DURATION)),
        ..jwt::RemoteJwks::default()
    }
}
