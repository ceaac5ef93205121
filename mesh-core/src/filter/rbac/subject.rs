//! What policies are evaluated on, and the predicates without those that combine others.

use std::net::SocketAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::rules::{Condition, SanMatcher};
use crate::{
    request::RequestHead,
    tls::TlsInfo,
    value::{HeaderMatch, HeaderMatcher, Metadata, StringMatcher},
};

/// A request and its connection, or a connection alone. Facts that are not known match nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// The request in canonical form; `None` for a connection.
    pub head: Option<RequestHead<'a>>,
    /// The address on which the connection has arrived.
    pub destination: Option<SocketAddr>,
    /// The client's address, without regard to HTTP headers.
    pub source: Option<SocketAddr>,
    /// The address of the peer of the connection.
    pub direct_remote: Option<SocketAddr>,
    /// The client's address, which may come from a trusted `x-forwarded-for`.
    pub remote: Option<SocketAddr>,
    /// The server name (SNI) that the client requests.
    pub requested_server_name: Option<&'a str>,
    /// The result of the TLS handshake; `None` = plain text.
    pub tls: Option<&'a TlsInfo>,
    /// What earlier filters have written.
    pub dynamic_metadata: Option<&'a Metadata>,
    /// The metadata of the route; `None` = there is no route.
    pub route_metadata: Option<&'a Metadata>,
}

/// How a predicate over several values is judged, so that a client cannot evade a policy by repeating a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantifier {
    /// One value suffices: the condition can lead to a denial.
    Any,
    /// All values have to match: the condition can lead to a permission.
    All,
}

impl Quantifier {
    /// That of a condition within a negation.
    pub(super) fn inverted(self) -> Self {
        match self {
            Self::Any => Self::All,
            Self::All => Self::Any,
        }
    }
}

/// Repeated lines that are joined on the stack.
type Joined = SmallVec<[u8; 512]>;

impl<'a> Subject<'a> {
    /// The path without its query; `None` if there is none.
    pub(super) fn path(&self) -> Option<&'a str> {
        self.head.as_ref().map(RequestHead::path).filter(|path| !path.is_empty())
    }

    /// The identities of the peer: the subject alternative names of types URI and DNS and the subject of its verified
    /// certificate, or the empty one. None in plain text.
    pub(super) fn identities(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let peer = self.tls.and_then(TlsInfo::verified_peer);
        let names = peer.into_iter().flat_map(|peer| peer.uri_sans.iter().chain(&peer.dns_sans)).map(|name| &**name);
        let subject = self.tls.map(|_| peer.map_or("", |peer| &*peer.subject));
        names.chain(subject)
    }

    /// The identity that is reported: the first that is not empty.
    #[must_use]
    pub fn principal(&self) -> &'a str {
        self.identities().next().unwrap_or("")
    }

    /// Calls `visit` with each value of a header that is judged: every line, and several lines joined by commas.
    pub(super) fn for_each_header_value(&self, key: &crate::value::HeaderKey, mut visit: impl FnMut(&[u8])) {
        let Some(head) = &self.head else { return };
        let mut joined = Joined::new();
        let mut lines = 0;
        for line in head.values(key) {
            visit(line);
            joined.extend_from_slice(if lines == 0 { b"" } else { b"," });
            joined.extend_from_slice(line);
            lines += 1;
        }
        if lines > 1 {
            visit(&joined);
        }
    }

    /// Whether the condition, which combines no others, holds.
    pub(super) fn holds(&self, condition: &Condition, quantifier: Quantifier) -> bool {
        match condition {
            Condition::Header(matcher) => self.header_holds(matcher, quantifier),
            Condition::UrlPath(matcher) => self.path().is_some_and(|path| matcher.matches(path)),
            Condition::UriTemplate(template) => self.path().is_some_and(|path| template.matches(path)),
            Condition::DestinationIp(network) => contains(network, self.destination),
            Condition::DestinationPort(port) => self.destination.is_some_and(|address| address.port() == *port),
            Condition::DestinationPortRange(range) => {
                self.destination.is_some_and(|address| range.contains(&address.port().into()))
            }
            Condition::RequestedServerName(matcher) => matcher.matches(self.requested_server_name.unwrap_or("")),
            Condition::Authenticated(None) => self.tls.is_some(),
            Condition::Authenticated(Some(matcher)) => self.identities().any(|identity| matcher.matches(identity)),
            Condition::MtlsAuthenticated(matcher) => self.has_certificate(matcher.as_ref()),
            Condition::SourceIp(network) => contains(network, self.source),
            Condition::DirectRemoteIp(network) => contains(network, self.direct_remote),
            Condition::RemoteIp(network) => contains(network, self.remote),
            Condition::Metadata(matcher) => matcher.matches(self.dynamic_metadata),
            Condition::RouteMetadata(matcher) => {
                self.route_metadata.is_some_and(|metadata| matcher.matches(Some(metadata)))
            }
            Condition::Always => true,
            Condition::And(all) => all.iter().all(|condition| self.holds(condition, quantifier)),
            Condition::Or(any) => any.iter().any(|condition| self.holds(condition, quantifier)),
            Condition::Not(inner) => !self.holds(inner, quantifier.inverted()),
        }
    }

    fn has_certificate(&self, matcher: Option<&SanMatcher>) -> bool {
        let Some(peer) = self.tls.and_then(TlsInfo::verified_peer) else { return false };
        let any = |names: &[std::sync::Arc<str>], matcher: &StringMatcher| names.iter().any(|it| matcher.matches(it));
        match matcher {
            None => true,
            Some(SanMatcher::Uri(matcher)) => any(&peer.uri_sans, matcher),
            Some(SanMatcher::Dns(matcher)) => any(&peer.dns_sans, matcher),
            Some(SanMatcher::Email(matcher)) => any(&peer.email_sans, matcher),
            Some(SanMatcher::Ip(matcher)) => peer.ip_sans.iter().any(|address| matcher.matches(address)),
        }
    }

    /// As in a route, a missing header matches no value, also if inverted. Each line is judged, and the lines together.
    fn header_holds(&self, matcher: &HeaderMatcher, quantifier: Quantifier) -> bool {
        let Some(head) = &self.head else { return false };
        let missing = head.values(&matcher.key).next().is_none();
        let hit = match &matcher.matches {
            HeaderMatch::Present(wanted) => (!missing || matcher.treat_missing_header_as_empty) == *wanted,
            value if missing && matcher.treat_missing_header_as_empty => value_hits(value, b""),
            _ if missing => return false,
            value => {
                let (mut any, mut all) = (false, true);
                self.for_each_header_value(&matcher.key, |line| {
                    let hits = value_hits(value, line);
                    any |= hits;
                    all &= hits;
                });
                let quantifier = if matcher.invert_match { quantifier.inverted() } else { quantifier };
                if quantifier == Quantifier::Any { any } else { all }
            }
        };
        hit != matcher.invert_match
    }
}

fn value_hits(matches: &HeaderMatch, line: &[u8]) -> bool {
    match matches {
        HeaderMatch::Present(wanted) => *wanted,
        HeaderMatch::String(matcher) => matcher.matches_bytes(line),
        HeaderMatch::Range { start, end } => {
            let number = std::str::from_utf8(line).ok().and_then(|line| line.parse().ok());
            number.is_some_and(|number| (*start..*end).contains(&number))
        }
    }
}

fn contains(network: &IpNet, address: Option<SocketAddr>) -> bool {
    address.is_some_and(|address| network.contains(&address.ip().to_canonical()))
}
