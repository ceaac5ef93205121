//! `envoy.config.route.v3.RouteMatch`.

use mesh_core::model::{PathMatcher, QueryParameterMatch, QueryParameterMatcher, RouteMatch};

use super::field::{At, Result, fields};
use super::metadata_matcher::metadata_matcher;
use super::value::{list, optional, regex, string_matcher};
use super::{header, value};
use crate::proto::envoy::config::route::v3::{
    QueryParameterMatcher as ProtoQueryParameterMatcher, RouteMatch as ProtoRouteMatch,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};

/// Decodes the conditions of a route.
pub(crate) fn decode(at: &At<'_>, route_match: &ProtoRouteMatch) -> Result<RouteMatch> {
    fields! {
        ProtoRouteMatch = route_match, at;
        use { case_sensitive, runtime_fraction, headers, query_parameters, grpc, path_specifier, dynamic_metadata }
        ignore {}
        refuse { cookies, tls_context, filter_state }
    }
    let mut model = RouteMatch::path(path(at, path_specifier.as_ref())?);
    model.case_sensitive = case_sensitive.unwrap_or(true);
    model.headers = list(at, "headers", headers, header::matcher)?;
    model.query_parameters = list(at, "query_parameters", query_parameters, query_parameter)?;
    model.grpc = grpc.is_some();
    model.runtime_fraction =
        optional(&at.field("runtime_fraction"), runtime_fraction.as_ref(), value::runtime_fraction)?;
    model.dynamic_metadata = list(at, "dynamic_metadata", dynamic_metadata, metadata_matcher)?;
    Ok(model)
}

/// Decodes the condition on the path.
pub(crate) fn path(at: &At<'_>, specifier: Option<&PathSpecifier>) -> Result<PathMatcher> {
    match specifier {
        Some(PathSpecifier::Prefix(prefix)) => Ok(PathMatcher::Prefix(prefix.as_str().into())),
        Some(PathSpecifier::Path(path)) => Ok(PathMatcher::Exact(path.as_str().into())),
        Some(PathSpecifier::SafeRegex(expression)) => {
            regex(&at.field("safe_regex"), expression).map(PathMatcher::Regex)
        }
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                let reason = format!("{prefix:?} must begin with / and not end with it, without ? and #");
                return Err(at.field("path_separated_prefix").refuse(reason));
            }
            Ok(PathMatcher::PathSeparatedPrefix(prefix.as_str().into()))
        }
        Some(PathSpecifier::ConnectMatcher(_)) => Ok(PathMatcher::Connect),
        Some(PathSpecifier::PathMatchPolicy(policy)) => {
            Err(at.field("path_match_policy").refuse(format_args!("{:?}: not supported", policy.name)))
        }
        None => Err(at.refuse("no path, prefix or regular expression is given")),
    }
}

/// Decodes a condition on a query parameter.
pub(crate) fn query_parameter(at: &At<'_>, value: &ProtoQueryParameterMatcher) -> Result<QueryParameterMatcher> {
    let ProtoQueryParameterMatcher { name, query_parameter_match_specifier } = value;
    let matches = match query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
            QueryParameterMatch::String(string_matcher(&at.field("string_match"), matcher)?)
        }
        Some(QueryParameterMatchSpecifier::PresentMatch(present)) => QueryParameterMatch::Present(*present),
        None => QueryParameterMatch::Present(true),
    };
    Ok(QueryParameterMatcher { name: name.as_str().into(), matches })
}
