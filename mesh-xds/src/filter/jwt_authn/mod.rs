//! End-user authentication: `envoy.extensions.filters.http.jwt_authn.v3`.

mod provider;
mod requirement;

use std::collections::BTreeMap;

use mesh_core::filter::jwt_authn::{JwtAuthn, PerRoute, Requirement, Rule, RuleMatch};

use super::Decode;
use crate::decode::field::{At, Result, fields};
use crate::decode::value::{list, required};
use crate::decode::{header, route_match};
use crate::proto::envoy::config::route::v3::RouteMatch;
use crate::proto::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use crate::proto::envoy::extensions::filters::http::jwt_authn::v3::{
    per_route_config::RequirementSpecifier, requirement_rule::RequirementType,
};

impl Decode for JwtAuthn {
    type Message = proto::JwtAuthentication;
    type PerRouteMessage = proto::PerRouteConfig;

    fn decode(at: &At<'_>, message: &proto::JwtAuthentication) -> Result<Self> {
        fields! {
            proto::JwtAuthentication = message, at;
            use { providers, rules, bypass_cors_preflight, requirement_map, strip_failure_response, stat_prefix }
            ignore {}
            refuse { filter_state_rules }
        }
        let names: Vec<&str> = providers.keys().map(String::as_str).collect();
        let decoded = providers.iter().map(|(name, value)| {
            let mut provider = provider::decode(&at.entry("providers", name), value)?;
            provider.name = name.as_str().into();
            Ok(provider)
        });
        let mut model = Self::new(at.all(decoded)?);
        for (name, value) in requirement_map {
            let requirement = requirement::decode(&at.entry("requirement_map", name), value, &names)?;
            model.requirement_map.insert(name.as_str().into(), requirement);
        }
        model.rules = list(at, "rules", rules, |at, rule| decode_rule(at, rule, &names, &model.requirement_map))?;
        model.bypass_cors_preflight = *bypass_cors_preflight;
        model.strip_failure_response = *strip_failure_response;
        model.stat_prefix = stat_prefix.as_str().into();
        Ok(model)
    }

    fn decode_per_route(at: &At<'_>, message: &proto::PerRouteConfig) -> Result<PerRoute> {
        let proto::PerRouteConfig { requirement_specifier } = message;
        match requirement_specifier {
            Some(RequirementSpecifier::Disabled(true)) => Ok(PerRoute::Disabled),
            Some(RequirementSpecifier::Disabled(false)) => Err(at.field("disabled").refuse("false is not allowed")),
            Some(RequirementSpecifier::RequirementName(name)) => Ok(PerRoute::RequirementName(name.as_str().into())),
            None => Err(at.refuse("neither disabled nor requirement_name is given")),
        }
    }
}

fn decode_rule(
    at: &At<'_>,
    rule: &proto::RequirementRule,
    providers: &[&str],
    named: &BTreeMap<Box<str>, Requirement>,
) -> Result<Rule> {
    let proto::RequirementRule { r#match, requirement_type } = rule;
    let match_at = at.field("match");
    let matches = decode_match(&match_at, required(&match_at, r#match.as_ref())?)?;
    let requirement = match requirement_type {
        None => Requirement::Nothing,
        Some(RequirementType::Requires(value)) => requirement::decode(&at.field("requires"), value, providers)?,
        Some(RequirementType::RequirementName(name)) => named
            .get(name.as_str())
            .cloned()
            .ok_or_else(|| at.field("requirement_name").refuse(format_args!("{name:?} is not in requirement_map")))?,
    };
    Ok(Rule { matches, requirement })
}

fn decode_match(at: &At<'_>, value: &RouteMatch) -> Result<RuleMatch> {
    fields! {
        RouteMatch = value, at;
        use { case_sensitive, headers, query_parameters, path_specifier }
        ignore {}
        refuse { runtime_fraction, grpc, cookies, tls_context, dynamic_metadata, filter_state }
    }
    let mut model = RuleMatch::path(route_match::path(at, path_specifier.as_ref())?);
    model.case_sensitive = case_sensitive.unwrap_or(true);
    model.headers = list(at, "headers", headers, header::matcher)?;
    model.query_parameters = list(at, "query_parameters", query_parameters, route_match::query_parameter)?;
    Ok(model)
}

#[cfg(test)]
mod tests;
