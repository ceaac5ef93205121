//! A control plane, and how it is reached.

use std::sync::Arc;
use std::time::Duration;

use super::FileWatcher;
use super::error::Result;
use super::object::Object;

/// A control plane. gRFC A27 `xds_servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct XdsServer {
    /// Its address as it stands in the bootstrap: `HOST:PORT`, `dns:///HOST:PORT`, or `unix:PATH`.
    pub server_uri: String,
    /// Its address.
    pub address: ServerAddress,
    /// How connections to it are secured.
    pub channel_creds: ChannelCreds,
    /// How it differs from others.
    pub server_features: ServerFeatures,
}

/// How connections to a control plane are secured. gRFC A27, A65 `channel_creds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelCreds {
    /// They are not.
    Insecure,
    /// By TLS.
    Tls(TlsFiles),
}

/// The files of a connection that is secured by TLS. gRFC A65.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The files. Without authorities, those that the operating system trusts are trusted.
    pub files: FileWatcher,
}

/// What is special about a control plane. gRFC A53, A81, A88 `server_features`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFeatures {
    /// Listeners and clusters that it no longer has stay in use. Default false. gRFC A53.
    pub ignore_resource_deletion: bool,
    /// A resource that does not arrive is taken to be missing after 30 s instead of 15 s. Default false. gRFC A88.
    pub resource_timer_is_transient_error: bool,
    /// It may have the authority of requests rewritten. Default false. gRFC A81.
    pub trusted_xds_server: bool,
}

impl XdsServer {
    pub(super) fn read(object: &Object<'_>) -> Result<Self> {
        let mut features = ServerFeatures::default();
        for feature in object.strings("server_features")? {
            match feature {
                "ignore_resource_deletion" => features.ignore_resource_deletion = true,
                "resource_timer_is_transient_error" => features.resource_timer_is_transient_error = true,
                "trusted_xds_server" => features.trusted_xds_server = true,
                // The only version of the protocol there is.
                "xds_v3" => {}
                // Data errors never end the use of what is in force.
                _ => object.ignore(&format!("server_features: {feature}")),
            }
        }
        let server_uri = object.string("server_uri")?;
        let address = ServerAddress::parse(server_uri).ok_or_else(|| {
            let reason = format_args!("{server_uri:?} is not HOST:PORT, dns:///HOST:PORT or unix:PATH");
            object.refuse("server_uri", reason)
        })?;
        Ok(Self {
            server_uri: server_uri.to_owned(),
            address,
            channel_creds: ChannelCreds::read(object)?,
            server_features: features,
        })
    }
}

impl ChannelCreds {
    /// The first that are supported, as in gRPC.
    fn read(server: &Object<'_>) -> Result<Self> {
        let all = server.list("channel_creds", |creds| {
            let config = creds.object("config")?;
            let found = match creds.string("type")? {
                "insecure" => Ok(Self::Insecure),
                "tls" => Ok(Self::Tls(TlsFiles::read(&config)?)),
                other => Err(other.to_owned()),
            };
            config.finish();
            Ok(found)
        })?;
        let mut unsupported = Vec::new();
        for creds in all {
            match creds {
                Ok(creds) => return Ok(creds),
                Err(name) => unsupported.push(name),
            }
        }
        let reason = match unsupported.join(", ") {
            none if none.is_empty() => "needs at least one entry".to_owned(),
            names => format!("{names}: not supported, only insecure and tls are"),
        };
        Err(server.refuse("channel_creds", reason))
    }
}

impl TlsFiles {
    fn read(config: &Object<'_>) -> Result<Self> {
        Ok(Self { files: FileWatcher::read(config)? })
    }

    /// How often the files are read.
    #[must_use]
    pub fn refresh_interval(&self) -> Duration {
        self.files.refresh_interval
    }
}

/// The address of a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// A host name or an IP address without brackets, and a port.
    Host(String, u16),
    /// The path of a Unix socket.
    Unix(Arc<str>),
}

impl ServerAddress {
    /// The port of a `server_uri` without one, as in gRPC.
    const DEFAULT_PORT: u16 = 443;

    /// Reads a `server_uri`, which is a target of gRPC; `None` = it is not one, or has a scheme that is not supported.
    fn parse(uri: &str) -> Option<Self> {
        if let Some(path) = uri.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let schemes = ["dns:///", "passthrough:///", "ipv4:", "ipv6:", "dns:"];
        let rest = schemes.iter().find_map(|scheme| uri.strip_prefix(scheme)).unwrap_or(uri);
        if rest.contains('/') {
            return None;
        }
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 address in brackets without a port, or one without brackets.
            Some((host, _)) if rest.ends_with(']') || (host.contains(':') && !host.ends_with(']')) => (rest, None),
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (rest, None),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then(|| Self::Host(host.to_owned(), port.unwrap_or(Self::DEFAULT_PORT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_of_a_server_is_a_target_of_grpc() {
        let host = |host: &str, port| Some(ServerAddress::Host(host.to_owned(), port));
        let unix = |path: &str| Some(ServerAddress::Unix(path.into()));
        for (uri, expected) in [
            ("istiod.istio-system.svc:15010", host("istiod.istio-system.svc", 15010)),
            ("dns:///xds.example", host("xds.example", 443)),
            ("127.0.0.1:1", host("127.0.0.1", 1)),
            ("ipv4:127.0.0.1:1", host("127.0.0.1", 1)),
            ("[::1]:1", host("::1", 1)),
            ("::1", host("::1", 443)),
            ("[::1]", host("::1", 443)),
            ("unix:///etc/istio/proxy/XDS", unix("/etc/istio/proxy/XDS")),
            ("unix:./XDS", unix("./XDS")),
            ("unix:", None),
            ("https://xds.example", None),
            ("xds.example:http", None),
            (":80", None),
        ] {
            assert_eq!(ServerAddress::parse(uri), expected, "{uri}");
        }
    }
}
