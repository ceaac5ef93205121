//! How a program finds the listeners that stand for what it calls and for what it serves.
//!
//! What it calls is a service under the name that the programmer knows. Names are looked up as a Kubernetes resolver
//! does: relative to the caller's namespace first, then to the cluster's domain, then as they stand. `reviews`,
//! `reviews.default`, `reviews.default.svc`, the fully qualified name and, for services outside, `api.books.example` all
//! work, each with `:PORT` or, if the service has one port only, without. gRPC's spelling `xds:///reviews:9080` means the
//! same.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    str::FromStr,
    sync::Arc,
};

use thiserror::Error;

use crate::{
    model::{Listener, ListenerAddress},
    store::ListenerMap,
};

/// The domain of services, which short names lack. Istio MeshConfig `trustDomain` and Kubernetes have this default.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Begins the name of the listener for a socket of a program that is itself part of the mesh; its address follows. gRPC
/// bootstrap `server_listener_resource_name_template`, as Istio sets it.
pub const INBOUND_LISTENER_PREFIX: &str = "xds.istio.io/grpc/lds/inbound/";

/// gRPC's scheme for names that a control plane resolves.
const XDS_SCHEME: &str = "xds:///";

/// Longest host name in DNS, in bytes.
const MAX_HOST_BYTES: usize = 253;

/// A service to call, as the programmer wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    host: Box<str>,
    port: Option<NonZeroU16>,
}

/// A text that names no service.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid target {target:?}: {reason}; expected HOST[:PORT], such as \"reviews:9080\"")]
pub struct InvalidTarget {
    /// The text as given.
    pub target: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Why no listener stands for a target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnknownTarget {
    /// The mesh has no service of this name and port.
    #[error("the mesh has no service {0}")]
    NoService(Target),
    /// The port is needed to tell which of the service's ports is meant.
    #[error("the service {target} has several ports ({ports}); add the port")]
    SeveralPorts {
        /// The target.
        target: Target,
        /// The ports, in ascending order.
        ports: String,
    },
}

impl Target {
    /// The listener that stands for the target when it is called from a workload of `namespace`.
    ///
    /// # Errors
    /// If there is none, or several that differ in their port.
    pub fn find<'a>(&self, listeners: &'a ListenerMap, namespace: &str) -> Result<&'a Arc<Listener>, UnknownTarget> {
        for host in self.hosts(namespace) {
            let mut found = ports(listeners, &host).filter(|(port, _)| self.port.is_none_or(|wanted| wanted == *port));
            let Some((_, listener)) = found.next() else { continue };
            if found.next().is_none() {
                return Ok(listener);
            }
            let mut ports: Vec<NonZeroU16> = ports(listeners, &host).map(|(port, _)| port).collect();
            ports.sort_unstable();
            let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(UnknownTarget::SeveralPorts { target: self.clone(), ports });
        }
        Err(UnknownTarget::NoService(self.clone()))
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

/// The listener that stands for a socket which a program opened at `address`: one for this address, else one for all
/// addresses of the machine with its port.
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

/// The listeners of `host` that stand for a service, with their ports.
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
        let fail = |reason| Err(InvalidTarget { target: text.to_owned(), reason });
        let rest = text.strip_prefix(XDS_SCHEME).unwrap_or(text);
        let (host, port) = match rest.split_once(':') {
            None => (rest, None),
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return fail("the port is not a number from 1 to 65535"),
            },
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if host.is_empty() || host.len() > MAX_HOST_BYTES {
            return fail("the host has not 1 to 253 characters");
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
            ("reviews:80", "the mesh has no service reviews:80"),
            ("review", "the mesh has no service review"),
            ("ratings", "the service ratings has several ports (80, 9080); add the port"),
        ] {
            let error = target.parse::<Target>().unwrap().find(&listeners, "default").unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", ":80", "reviews:", "reviews:0", "reviews:65536", "re views", "a..b", "http://reviews", "r/x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
