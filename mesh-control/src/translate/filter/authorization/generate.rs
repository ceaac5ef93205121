//! The values of one attribute, as permissions or principals.

use std::net::IpAddr;

use super::rule::{permission, principal};
use crate::translate::proto::core::{CidrRange, TypedExtensionConfig};
use crate::translate::proto::matcher::{
    ListMatcher, MetadataMatcher, OrMatcher, PathMatcher, RegexMatcher, StringMatcher, ValueMatcher, list_matcher,
    metadata_matcher::{PathSegment, path_segment::Segment},
    path_matcher,
    string_matcher::MatchPattern,
    value_matcher,
};
use crate::translate::proto::rbac::{
    Permission, Principal,
    permission::Rule,
    principal::{self, Authenticated, Identifier},
};
use crate::translate::proto::route::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use crate::translate::proto::{any, uri_template::UriTemplateMatchConfig};

/// The filter whose metadata has the claims of tokens, and the key of its namespace that has them.
const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
const JWT_PAYLOAD: &str = "payload";
/// The claim of the audiences of a token.
pub(super) const AUDIENCES: &str = "aud";
/// The claim of the party that a token was issued to.
pub(super) const PRESENTER: &str = "azp";
/// What every identity begins with.
const SPIFFE: &str = "spiffe://";

/// What the ports of a filter speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Tcp,
}

/// The attribute is one of requests, but the ports do not speak HTTP; or a value cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotEnforceable;

pub(super) type Result<T> = std::result::Result<T, NotEnforceable>;

/// An attribute of what is requested.
#[derive(Clone, Copy, Debug)]
pub(super) enum PermissionAttribute<'a> {
    Host,
    Method,
    Path,
    DestinationPort,
    DestinationIp,
    ConnectionSni,
    EnvoyMetadata { filter: &'a str, key: &'a str },
}

/// An attribute of who requests it.
#[derive(Clone, Copy, Debug)]
pub(super) enum PrincipalAttribute<'a> {
    Principal,
    RequestPrincipal,
    ServiceAccount {
        /// That of service accounts without one.
        namespace: &'a str,
    },
    TrustDomain,
    Namespace,
    RemoteIp,
    SourceIp,
    Header(&'a str),
    Claim(&'a str),
    ClaimAt(&'a [String]),
}

impl PermissionAttribute<'_> {
    /// Whether all values together make one permission.
    pub(super) fn is_one(self) -> bool {
        matches!(self, Self::EnvoyMetadata { .. })
    }

    pub(super) fn permissions(self, values: &[String], protocol: Protocol) -> Result<Vec<Permission>> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        if protocol == Protocol::Tcp && matches!(self, Self::Host | Self::Method | Self::Path) {
            return Err(NotEnforceable);
        }
        if let Self::EnvoyMetadata { filter, key } = self {
            let value = or_values(values.iter().map(|value| envoy_value(value)).collect());
            return Ok(vec![permission(Rule::Metadata(metadata(filter, [key], value)))]);
        }
        values.iter().map(|value| self.rule(value).map(permission)).collect()
    }

    fn rule(self, value: &str) -> Result<Rule> {
        Ok(match self {
            Self::Host => Rule::Header(header(":authority", value, true)),
            Self::Method => Rule::Header(header(":method", value, false)),
            Self::Path if value.contains("{*}") || value.contains("{**}") => {
                let path_template = value.replace("{*}", "*").replace("{**}", "**");
                Rule::UriTemplate(TypedExtensionConfig {
                    name: "uri-template".to_owned(),
                    typed_config: Some(any(&UriTemplateMatchConfig { path_template })),
                })
            }
            Self::Path => {
                let rule = Some(path_matcher::Rule::Path(text(value, "")));
                Rule::UrlPath(PathMatcher { rule })
            }
            Self::DestinationPort => Rule::DestinationPort(value.parse::<u16>().map_err(|_| NotEnforceable)?.into()),
            Self::DestinationIp => Rule::DestinationIp(addresses(value)?),
            Self::ConnectionSni => Rule::RequestedServerName(text(value, "")),
            Self::EnvoyMetadata { filter, key } => Rule::Metadata(metadata(filter, [key], envoy_value(value))),
        })
    }
}

impl PrincipalAttribute<'_> {
    /// Whether all values together make one principal.
    pub(super) fn is_one(self) -> bool {
        matches!(self, Self::RequestPrincipal | Self::Claim(_) | Self::ClaimAt(_))
    }

    pub(super) fn principals(self, values: &[String], protocol: Protocol) -> Result<Vec<Principal>> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let is_of_requests =
            matches!(self, Self::RequestPrincipal | Self::Header(_) | Self::Claim(_) | Self::ClaimAt(_));
        if protocol == Protocol::Tcp && is_of_requests {
            return Err(NotEnforceable);
        }
        Ok(match self {
            Self::RequestPrincipal => vec![match values {
                [value] => request_principal(value),
                values => one_of(values.iter().map(|value| request_principal(value)).collect()),
            }],
            Self::Claim(name) => vec![claim(std::iter::once(name), values)],
            Self::ClaimAt(path) => vec![claim(path.iter().map(String::as_str), values)],
            _ => values.iter().map(|value| self.identifier(value).map(principal)).collect::<Result<_>>()?,
        })
    }

    fn identifier(self, value: &str) -> Result<Identifier> {
        Ok(match self {
            Self::Principal => authenticated(text(value, SPIFFE)),
            Self::ServiceAccount { namespace } => {
                let (namespace, name) = value.split_once('/').unwrap_or((namespace, value));
                let (namespace, name) = (quote(namespace), quote(name));
                authenticated(regex(format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?")))
            }
            Self::TrustDomain => authenticated(match value.split_once('*') {
                Some(("", "")) => pattern(MatchPattern::Prefix(SPIFFE.to_owned())),
                None => pattern(MatchPattern::Prefix(format!("{SPIFFE}{value}/"))),
                Some((before, after)) => regex(format!("spiffe://{}[^/]*{}/.*", quote(before), quote(after))),
            }),
            Self::Namespace => {
                let parts: Vec<_> = value.split('*').map(quote).collect();
                authenticated(regex(format!(".*/ns/{}/.*", parts.join(".*"))))
            }
            Self::RemoteIp => Identifier::RemoteIp(addresses(value)?),
            Self::SourceIp => Identifier::DirectRemoteIp(addresses(value)?),
            Self::Header(name) => Identifier::Header(header(name, value, false)),
            Self::RequestPrincipal | Self::Claim(_) | Self::ClaimAt(_) => return Err(NotEnforceable),
        })
    }
}

/// One of the principals.
pub(super) fn one_of(ids: Vec<Principal>) -> Principal {
    principal(Identifier::OrIds(principal::Set { ids }))
}

fn authenticated(name: StringMatcher) -> Identifier {
    Identifier::Authenticated(Authenticated { principal_name: Some(name) })
}

/// `ISSUER/SUBJECT`, of which a `*` at the beginning or the end belongs to the part where it is.
fn request_principal(value: &str) -> Principal {
    let any = || regex(".+".to_owned());
    let exact = |text: &str| pattern(MatchPattern::Exact(text.to_owned()));
    let suffix = |text: &str| pattern(MatchPattern::Suffix(text.to_owned()));
    let prefix = |text: &str| pattern(MatchPattern::Prefix(text.to_owned()));
    let (issuer, subject) = match (value.rsplit_once('/'), value.strip_prefix('*'), value.strip_suffix('*')) {
        (_, Some(""), _) => (any(), any()),
        (Some(("*", subject)), ..) => (any(), exact(subject)),
        (Some((issuer, subject)), Some(_), _) => (suffix(&issuer[1..]), exact(subject)),
        (None, Some(subject), _) => (any(), suffix(subject)),
        (Some((issuer, "*")), ..) => (exact(issuer), any()),
        (Some((issuer, subject)), _, Some(_)) => (exact(issuer), prefix(subject.trim_end_matches('*'))),
        (None, _, Some(issuer)) => (prefix(issuer), any()),
        (Some((issuer, subject)), ..) => (exact(issuer), exact(subject)),
        (None, ..) => (exact(value), exact("")),
    };
    let of_claim = |name, matcher| {
        let value = value_of(value_matcher::MatchPattern::StringMatch(matcher));
        principal(Identifier::Metadata(metadata(JWT_FILTER, [JWT_PAYLOAD, name], value)))
    };
    let ids = vec![of_claim("iss", issuer), of_claim("sub", subject)];
    principal(Identifier::AndIds(principal::Set { ids }))
}

/// A claim that is a text, or a list of texts.
fn claim<'a>(path: impl Iterator<Item = &'a str>, values: &[String]) -> Principal {
    let value = or_values(values.iter().map(|value| string_value(text(value, ""))).collect());
    let one_of = list_of(value.clone());
    let either = value_of(value_matcher::MatchPattern::OrMatch(OrMatcher { value_matchers: vec![one_of, value] }));
    principal(Identifier::Metadata(metadata(JWT_FILTER, std::iter::once(JWT_PAYLOAD).chain(path), either)))
}

/// A value of metadata; `[TEXT]` is a list with the text.
fn envoy_value(value: &str) -> ValueMatcher {
    if value.starts_with('[') && value.ends_with(']') {
        return list_of(string_value(text(value.trim_matches(['[', ']']), "")));
    }
    string_value(text(value, ""))
}

fn value_of(pattern: value_matcher::MatchPattern) -> ValueMatcher {
    ValueMatcher { match_pattern: Some(pattern) }
}

pub(super) fn string_value(matcher: StringMatcher) -> ValueMatcher {
    value_of(value_matcher::MatchPattern::StringMatch(matcher))
}

fn list_of(item: ValueMatcher) -> ValueMatcher {
    let match_pattern = Some(list_matcher::MatchPattern::OneOf(Box::new(item)));
    value_of(value_matcher::MatchPattern::ListMatch(Box::new(ListMatcher { match_pattern })))
}

fn or_values(mut matchers: Vec<ValueMatcher>) -> ValueMatcher {
    if matchers.len() == 1 {
        return matchers.remove(0);
    }
    value_of(value_matcher::MatchPattern::OrMatch(OrMatcher { value_matchers: matchers }))
}

pub(super) fn metadata<'a>(
    filter: &str,
    path: impl IntoIterator<Item = &'a str>,
    value: ValueMatcher,
) -> MetadataMatcher {
    let segment = |key: &str| PathSegment { segment: Some(Segment::Key(key.to_owned())) };
    let path = path.into_iter().map(segment).collect();
    MetadataMatcher { filter: filter.to_owned(), path, value: Some(value), invert: false }
}

fn header(name: &str, value: &str, ignore_case: bool) -> HeaderMatcher {
    let matching =
        |pattern| HeaderMatchSpecifier::StringMatch(StringMatcher { ignore_case, match_pattern: Some(pattern) });
    let specifier = match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => HeaderMatchSpecifier::PresentMatch(true),
        (Some(suffix), _) => matching(MatchPattern::Suffix(suffix.to_owned())),
        (None, Some(prefix)) => matching(MatchPattern::Prefix(prefix.to_owned())),
        (None, None) => matching(MatchPattern::Exact(value.to_owned())),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..HeaderMatcher::default() }
}

/// Exact, `prefix*`, `*suffix` or `*`, after a prefix.
fn text(value: &str, before: &str) -> StringMatcher {
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => regex(".+".to_owned()),
        (Some(suffix), _) if before.is_empty() => pattern(MatchPattern::Suffix(suffix.to_owned())),
        (Some(suffix), _) => regex(format!("{before}.*{}", quote(suffix))),
        (None, Some(prefix)) => pattern(MatchPattern::Prefix(format!("{before}{prefix}"))),
        (None, None) => pattern(MatchPattern::Exact(format!("{before}{value}"))),
    }
}

fn pattern(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ignore_case: false }
}

fn regex(regex: String) -> StringMatcher {
    pattern(MatchPattern::SafeRegex(RegexMatcher { regex, ..RegexMatcher::default() }))
}

/// A text as a regular expression that matches it.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// An address, or a range of them.
fn addresses(value: &str) -> Result<CidrRange> {
    let (address, length) = value.split_once('/').unwrap_or((value, ""));
    let address: IpAddr = address.parse().map_err(|_| NotEnforceable)?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = if length.is_empty() { whole } else { length.parse().map_err(|_| NotEnforceable)? };
    Ok(CidrRange { address_prefix: address.to_string(), prefix_len: Some(length) })
}
