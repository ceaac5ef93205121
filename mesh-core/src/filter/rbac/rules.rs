//! What policies consist of.

use std::{collections::BTreeMap, ops::Range};

use ipnet::IpNet;

use super::{audit::Audit, uri_template::UriTemplate};
use crate::value::{HeaderMatcher, MetadataMatcher, StringMatcher};

/// Policies and what happens to the requests that one of them matches. Envoy `config.rbac.v3.RBAC`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Rules {
    /// What happens to a request that a policy matches.
    pub action: Action,
    /// The policies by name. The first in the order of names that matches a request is the one that is reported.
    pub policies: BTreeMap<Box<str>, Policy>,
    /// Which decisions are audited; by default none.
    pub audit: Audit,
}

/// What happens to a request that a policy matches. Envoy `config.rbac.v3.RBAC.Action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It is allowed; all others are denied.
    #[default]
    Allow,
    /// It is denied; all others are allowed.
    Deny,
    /// It is marked for access logs. Every request is allowed.
    Log,
}

/// A policy matches a request that has one of the permissions and one of the principals. Envoy `config.rbac.v3.Policy`;
/// conditions in CEL are not supported.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// What is requested.
    pub permissions: Vec<Condition>,
    /// Who requests it.
    pub principals: Vec<Condition>,
}

/// A rule of which the first that matches decides. Envoy `xds.type.matcher.v3.Matcher` with `config.rbac.v3.Action`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OrderedRule {
    /// Name of the action, which is reported.
    pub name: Box<str>,
    /// What it matches.
    pub condition: Condition,
    /// What happens to a request that it matches; `None` = it is denied as if no rule matched.
    pub action: Option<Action>,
}

impl OrderedRule {
    /// A rule.
    #[must_use]
    pub fn new(name: &str, condition: Condition, action: Option<Action>) -> Self {
        Self { name: name.into(), condition, action }
    }
}

/// A predicate over a request and its connection. Envoy `config.rbac.v3.Permission` and `config.rbac.v3.Principal`, which
/// differ in the predicates that they may have.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Condition {
    /// All of them hold.
    And(Vec<Self>),
    /// One of them holds.
    Or(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// Holds for every request.
    Always,
    /// Of a header; false for connections.
    Header(HeaderMatcher),
    /// Of the path without its query; false if there is none.
    UrlPath(StringMatcher),
    /// Of the path without its query, by a template.
    UriTemplate(UriTemplate),
    /// The connection has arrived at an address of the network.
    DestinationIp(IpNet),
    /// The connection has arrived at the port.
    DestinationPort(u16),
    /// The connection has arrived at a port in the range, whose end is excluded.
    DestinationPortRange(Range<u32>),
    /// Of the server name (SNI) that the client requests, empty if there is none.
    RequestedServerName(StringMatcher),
    /// Of the peer's identity: a URI or DNS subject alternative name, or the subject, of a verified certificate; empty if
    /// there is none. `None` holds for every connection with TLS. Always false in plain text.
    Authenticated(Option<StringMatcher>),
    /// The peer has a verified certificate, with a subject alternative name that matches, if a matcher is given. Envoy
    /// `rbac.principals.mtls_authenticated.v3.Config`.
    MtlsAuthenticated(Option<SanMatcher>),
    /// The client's address, without regard to HTTP headers. Deprecated in Envoy.
    SourceIp(IpNet),
    /// The address of the peer of the connection.
    DirectRemoteIp(IpNet),
    /// The client's address, which may come from a trusted `x-forwarded-for`.
    RemoteIp(IpNet),
    /// Of dynamic metadata, which earlier filters have written.
    Metadata(MetadataMatcher),
    /// Of the route's metadata; false without a route.
    RouteMetadata(MetadataMatcher),
}

/// A predicate over subject alternative names of one type. Envoy `SubjectAltNameMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SanMatcher {
    /// Of type URI.
    Uri(StringMatcher),
    /// Of type DNS.
    Dns(StringMatcher),
    /// Of type email address.
    Email(StringMatcher),
    /// Of type IP address, in its usual notation.
    Ip(StringMatcher),
}

impl Rules {
    /// Policies with an action, which are not audited.
    #[must_use]
    pub fn new(action: Action, policies: BTreeMap<Box<str>, Policy>) -> Self {
        Self { action, policies, audit: Audit::default() }
    }

    /// Sets which decisions are audited.
    #[must_use]
    pub fn with_audit(mut self, audit: Audit) -> Self {
        self.audit = audit;
        self
    }
}

impl Policy {
    /// A policy for requests with one of the permissions and one of the principals.
    #[must_use]
    pub fn new(permissions: Vec<Condition>, principals: Vec<Condition>) -> Self {
        Self { permissions, principals }
    }
}

impl Condition {
    /// Whether it depends on dynamic metadata.
    pub(super) fn reads_metadata(&self) -> bool {
        match self {
            Self::And(list) | Self::Or(list) => list.iter().any(Self::reads_metadata),
            Self::Not(inner) => inner.reads_metadata(),
            Self::Metadata(_) => true,
            _ => false,
        }
    }
}
