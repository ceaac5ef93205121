//! Rules of a VirtualService that never match.

use std::collections::HashMap;

use crate::config::{HttpMatch, TcpMatch, TlsMatch, VirtualService};
use crate::diagnostic::{Code, Diagnostic, Position, Severity};

/// A rule for requests or connections.
struct Rule<'a> {
    position: &'a Position,
    /// Whether it matches everything that reaches it.
    takes_all: bool,
    matches: Vec<Match<'a>>,
}

struct Match<'a> {
    position: &'a Position,
    /// The conditions, as text that is equal for equal conditions.
    conditions: String,
}

pub(super) fn check(service: &VirtualService, diagnostics: &mut Vec<Diagnostic>) {
    let http = service.http.iter().map(|rule| Rule {
        position: &rule.position,
        takes_all: rule.matches.is_empty() || rule.matches.iter().any(HttpMatch::is_catch_all),
        matches: rule.matches.iter().map(of_request).collect(),
    });
    let tls = service.tls.iter().map(|rule| Rule {
        position: &rule.position,
        takes_all: false,
        matches: rule.matches.iter().map(of_tls).collect(),
    });
    let tcp = service.tcp.iter().map(|rule| Rule {
        position: &rule.position,
        takes_all: rule.matches.is_empty() || rule.matches.iter().any(TcpMatch::is_catch_all),
        matches: rule.matches.iter().map(of_connection).collect(),
    });
    check_rules(service, "http", &http.collect::<Vec<_>>(), diagnostics);
    check_rules(service, "tls", &tls.collect::<Vec<_>>(), diagnostics);
    check_rules(service, "tcp", &tcp.collect::<Vec<_>>(), diagnostics);
}

/// Reports rules behind one that matches everything, and matches that an earlier rule has. `list` is the field of the rules.
fn check_rules(service: &VirtualService, list: &str, rules: &[Rule<'_>], diagnostics: &mut Vec<Diagnostic>) {
    let catch_all = rules.iter().position(|rule| rule.takes_all);
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, rule) in rules.iter().enumerate() {
        if let Some(first) = catch_all.filter(|&first| first < i) {
            let what = if list == "http" { "request" } else { "connection" };
            let message = format!("the rule is never reached: {list}[{first}] takes every {what}");
            diagnostics.push(
                Diagnostic::warning(Code::VirtualServiceUnreachableRule, rule.position.clone(), message)
                    .at(service.metadata.resource(), format!("spec.{list}[{i}]"))
                    .label("move it up, or remove it"),
            );
            continue;
        }
        let matches = rule.matches.iter().enumerate();
        let duplicates: Vec<_> =
            matches.filter_map(|(j, matcher)| Some((j, matcher, *seen.get(matcher.conditions.as_str())?))).collect();
        let is_dead = duplicates.len() == rule.matches.len();
        for (j, matcher, first) in duplicates {
            let code = if is_dead { Code::VirtualServiceUnreachableRule } else { Code::VirtualServiceIneffectiveMatch };
            let message = format!("the match has no effect: {list}[{first}] has the same");
            let mut diagnostic = Diagnostic::warning(code, matcher.position.clone(), message)
                .at(service.metadata.resource(), format!("spec.{list}[{i}].match[{j}]"))
                .label("never the first to match");
            if !is_dead {
                diagnostic.severity = Severity::Info;
            }
            diagnostics.push(diagnostic);
        }
        for matcher in &rule.matches {
            seen.entry(&matcher.conditions).or_insert(i);
        }
    }
}

fn of_request(matcher: &HttpMatch) -> Match<'_> {
    let HttpMatch {
        position,
        name: _,
        uri,
        path_separated_prefix,
        ignore_uri_case,
        scheme,
        method,
        authority,
        headers,
        claims,
        query_params,
        listener,
    } = matcher;
    let mut headers: Vec<_> = headers.iter().map(|header| format!("{header:?}")).collect();
    headers.extend(claims.iter().map(|claim| format!("{:?} {:?} {}", claim.path, claim.value, claim.invert)));
    headers.sort_unstable();
    let pseudo_headers = (uri, path_separated_prefix, ignore_uri_case, scheme, method, authority);
    Match { position, conditions: format!("{pseudo_headers:?} {headers:?} {query_params:?} {listener:?}") }
}

fn of_tls(matcher: &TlsMatch) -> Match<'_> {
    let names: Vec<_> = matcher.sni_hosts.iter().map(|host| host.name.as_str()).collect();
    let Match { position, conditions } = of_connection(&matcher.connection);
    Match { position, conditions: format!("{names:?} {conditions}") }
}

fn of_connection(matcher: &TcpMatch) -> Match<'_> {
    let TcpMatch { position, destination_subnets, listener } = matcher;
    Match { position, conditions: format!("{destination_subnets:?} {listener:?}") }
}
