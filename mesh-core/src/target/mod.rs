//! Listeners of a library: names of the services that a program calls, and of the sockets that it serves.
//!
//! A [`Target`] names a service. Names are resolved as in Kubernetes: relative to the caller's namespace first, then to
//! the cluster domain, then as fully qualified. `reviews`, `reviews.default`, `reviews.default.svc`, the fully qualified
//! name and, for external services, `api.books.example` are all valid, each with `:PORT`, which may be omitted if the
//! service has only one port. gRPC's form `xds:///reviews:9080` is equivalent.

mod error;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
    sync::Arc,
};

use crate::{
    model::{Listener, ListenerAddress},
    store::ListenerMap,
};

pub use error::{InvalidTarget, Suggestion, UnknownTarget};

/// The domain that is appended to short service names. The default of Kubernetes.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Prefix of the name of a library server's listener; the address of the socket follows. gRPC bootstrap
/// `server_listener_resource_name_template`, as Istio sets it.
pub const INBOUND_LISTENER_PREFIX: &str = "xds.istio.io/grpc/lds/inbound/";

/// gRPC's URI scheme for names that are resolved by xDS.
const XDS_SCHEME: &str = "xds:///";

/// Maximum length of a DNS name in bytes.
const MAX_HOST_BYTES: usize = 253;

/// The name of a service to call: `HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    host: Box<str>,
    port: Option<NonZeroU16>,
}

impl Target {
    /// The host, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; `None` = the only one of the service.
    #[must_use]
    pub fn port(&self) -> Option<NonZeroU16> {
        self.port
    }

    /// The listener of the target, if it is called from a workload of `namespace`.
    ///
    /// # Errors
    /// If there is none, or one for each of several ports.
    pub fn find<'a>(&self, listeners: &'a ListenerMap, namespace: &str) -> Result<&'a Arc<Listener>, UnknownTarget> {
        for host in self.hosts(namespace) {
            let mut found = ports(listeners, &host).filter(|(port, _)| self.port.is_none_or(|wanted| wanted == *port));
            let Some((_, listener)) = found.next() else { continue };
            if found.next().is_none() {
                return Ok(listener);
            }
            return Err(UnknownTarget::SeveralPorts { target: self.clone(), ports: list_ports(listeners, &host) });
        }
        let mut hosts = self.hosts(namespace).into_iter();
        match (self.port, hosts.find(|host| ports(listeners, host).next().is_some())) {
            (Some(port), Some(host)) => {
                Err(UnknownTarget::NoPort { host: self.host.clone(), port, ports: list_ports(listeners, &host) })
            }
            _ => {
                let targets = listeners.values().filter(|listener| listener.address == ListenerAddress::Api);
                let suggestion = Suggestion::new(&self.host, targets.map(|listener| &*listener.name), namespace);
                Err(UnknownTarget::NoService { target: self.clone(), suggestion })
            }
        }
    }

    /// The names that the host may stand for, the likeliest first.
    fn hosts(&self, namespace: &str) -> [String; 4] {
        let Self { host, .. } = self;
        [
            format!("{host}.{namespace}.svc.{CLUSTER_DOMAIN}"),
            format!("{host}.svc.{CLUSTER_DOMAIN}"),
            format!("{host}.{CLUSTER_DOMAIN}"),
            host.to_string(),
        ]
    }
}

/// The listener of a library server with a socket at `address`: the listener for this address, or else the one for the
/// unspecified address and the same port.
#[must_use]
pub fn inbound_listener(listeners: &ListenerMap, address: SocketAddr) -> Option<&Arc<Listener>> {
    let any = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    [address, SocketAddr::new(any, address.port())]
        .iter()
        .find_map(|address| listeners.get(format!("{INBOUND_LISTENER_PREFIX}{address}").as_str()))
}

/// The ports of a service in ascending order, for error messages.
fn list_ports(listeners: &ListenerMap, host: &str) -> String {
    let mut ports: Vec<NonZeroU16> = ports(listeners, host).map(|(port, _)| port).collect();
    ports.sort_unstable();
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The API listeners of `host` with their ports.
fn ports<'a>(
    listeners: &'a ListenerMap,
    host: &str,
) -> impl Iterator<Item = (NonZeroU16, &'a Arc<Listener>)> + use<'a> {
    let prefix = format!("{host}:");
    let from: Arc<str> = prefix.as_str().into();
    listeners
        .range(from..)
        .map_while(move |(name, listener)| name.strip_prefix(&prefix).map(|port| (port, listener)))
        .filter(|(_, listener)| listener.address == ListenerAddress::Api)
        .filter_map(|(port, listener)| Some((port.parse().ok()?, listener)))
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let fail = |reason| Err(InvalidTarget::new(text, reason));
        let rest = text.strip_prefix(XDS_SCHEME).unwrap_or(text);
        if let Some((_, of_url)) = rest.split_once("://") {
            let authority = of_url.split(['/', '?', '#']).next().unwrap_or_default();
            let mut error = InvalidTarget::new(text, "a target is not a URL");
            if let Ok(meant) = authority.parse::<Self>() {
                error.example = meant.to_string();
            }
            return Err(error);
        }
        let (host, port) = match rest.split_once(':') {
            None => (rest, None),
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return fail("the port is not a number from 1 to 65535"),
            },
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() || host.len() > MAX_HOST_BYTES {
            return fail("the host does not have 1 to 253 characters");
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !host.split('.').all(|label| !label.is_empty() && label.bytes().all(is_allowed)) {
            return fail("the host is not a DNS name");
        }
        Ok(Self { host: host.into(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HttpConnectionManager, RouteSource};

    fn listeners(names: &[&str]) -> ListenerMap {
        let listener = |name: &&str| {
            let routes = RouteSource::Rds((*name).into());
            let listener = Listener::api(name, HttpConnectionManager::new(name, routes));
            (listener.name.clone(), Arc::new(listener))
        };
        names.iter().map(listener).collect()
    }

    #[test]
    fn names_are_looked_up_as_in_kubernetes() {
        let listeners = listeners(&[
            "api.books.example:443",
            "ratings.default.svc.cluster.local:80",
            "ratings.default.svc.cluster.local:9080",
            "reviews.books.svc.cluster.local:9080",
            "reviews.default.svc.cluster.local:9080",
        ]);
        for (target, expected) in [
            ("reviews", "reviews.default.svc.cluster.local:9080"),
            ("Reviews:9080", "reviews.default.svc.cluster.local:9080"),
            ("reviews.books", "reviews.books.svc.cluster.local:9080"),
            ("reviews.books.svc:9080", "reviews.books.svc.cluster.local:9080"),
            ("xds:///reviews.books.svc.cluster.local.", "reviews.books.svc.cluster.local:9080"),
            ("ratings:80", "ratings.default.svc.cluster.local:80"),
            ("api.books.example", "api.books.example:443"),
        ] {
            let found = target.parse::<Target>().unwrap().find(&listeners, "default");
            assert_eq!(found.map(|listener| &*listener.name), Ok(expected), "{target}");
        }
        for (target, expected) in [
            ("reviews:80", "the service reviews has no port 80; it has 9080"),
            ("ratings.default:81", "the service ratings.default has no port 81; it has 80, 9080"),
            ("review", "the mesh has no service review; did you mean reviews:9080, reviews.books:9080?"),
            (
                "revews.books:80",
                "the mesh has no service revews.books:80; did you mean reviews.books:9080, reviews:9080?",
            ),
            ("api.book.example", "the mesh has no service api.book.example; did you mean api.books.example:443?"),
            (
                "shop",
                "the mesh has no service shop; known services: api.books.example:443, ratings:80, ratings:9080, \
                 reviews.books:9080, reviews:9080",
            ),
            ("ratings", "the service ratings has several ports (80, 9080); add the port"),
        ] {
            let error = target.parse::<Target>().unwrap().find(&listeners, "default").unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn the_number_of_suggestions_is_limited() {
        let names: Vec<String> = (0..9).map(|number| format!("s{number}.default.svc.cluster.local:80")).collect();
        let many = listeners(&names.iter().map(|name| &**name).collect::<Vec<_>>());
        let error = |listeners| "shop".parse::<Target>().unwrap().find(listeners, "default").unwrap_err().to_string();
        assert_eq!(
            error(&many),
            "the mesh has no service shop; known services: s0:80, s1:80, s2:80, s3:80, s4:80 and 4 more"
        );
        assert_eq!(error(&listeners(&[])), "the mesh has no service shop; no services are known");
    }

    #[test]
    fn a_url_is_not_a_target() {
        for (text, example) in [
            ("http://echo:80", "echo:80"),
            ("https://echo.books/a?b", "echo.books"),
            ("xds:///dns:///echo:80", "reviews:9080"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert_eq!((error.reason, &*error.example), ("a target is not a URL", example), "{text}");
        }
        let error = "http://echo:80".parse::<Target>().unwrap_err().to_string();
        assert!(error.ends_with("a target is not a URL; expected HOST[:PORT], such as \"echo:80\""), "{error}");
    }

    #[test]
    fn invalid_names_are_refused() {
        for text in ["", ":80", "reviews:", "reviews:0", "reviews:65536", "re views", "a..b", "http://reviews", "r/x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
