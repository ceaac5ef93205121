//! Rules of a VirtualService that never match.

use std::collections::HashMap;

use crate::config::{HttpMatch, HttpRoute, VirtualService};
use crate::diagnostic::{Code, Diagnostic, Severity};

/// Rules behind one that takes everything, and matches that an earlier rule has already.
pub(super) fn check(service: &VirtualService, diagnostics: &mut Vec<Diagnostic>) {
    let takes_all = |route: &HttpRoute| route.matches.is_empty() || route.matches.iter().any(HttpMatch::is_catch_all);
    let catch_all = service.http.iter().position(takes_all);
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, route) in service.http.iter().enumerate() {
        if let Some(first) = catch_all.filter(|&first| first < i) {
            let message = format!("the rule is never reached: http[{first}] takes every request");
            diagnostics.push(
                Diagnostic::warning(Code::VirtualServiceUnreachableRule, route.position.clone(), message)
                    .at(service.metadata.resource(), format!("spec.http[{i}]"))
                    .label("move it up, or remove it"),
            );
            continue;
        }
        let duplicates: Vec<_> = route
            .matches
            .iter()
            .enumerate()
            .filter_map(|(j, matcher)| seen.get(&key(matcher)).map(|&first| (j, matcher, first)))
            .collect();
        let is_dead = duplicates.len() == route.matches.len();
        for (j, matcher, first) in duplicates {
            let code = if is_dead { Code::VirtualServiceUnreachableRule } else { Code::VirtualServiceIneffectiveMatch };
            let message = format!("the match has no effect: http[{first}] has the same");
            let mut diagnostic = Diagnostic::warning(code, matcher.position.clone(), message)
                .at(service.metadata.resource(), format!("spec.http[{i}].match[{j}]"))
                .label("never the first to match");
            if !is_dead {
                diagnostic.severity = Severity::Info;
            }
            diagnostics.push(diagnostic);
        }
        for matcher in &route.matches {
            seen.entry(key(matcher)).or_insert(i);
        }
    }
}

/// What a match looks at, as text that is equal for equal conditions.
fn key(matcher: &HttpMatch) -> String {
    let HttpMatch { position: _, name: _, gateways, headers, .. } = matcher;
    let gateways: Vec<_> = gateways.iter().map(|gateway| &gateway.value).collect();
    let mut headers: Vec<_> = headers.iter().map(|header| format!("{header:?}")).collect();
    headers.sort_unstable();
    format!(
        "{:?} {} {:?} {:?} {:?} {headers:?} {:?} {:?} {:?} {:?} {gateways:?}",
        matcher.uri,
        matcher.ignore_uri_case,
        matcher.scheme,
        matcher.method,
        matcher.authority,
        matcher.query_params,
        matcher.port,
        matcher.source_labels,
        matcher.source_namespace,
    )
}
