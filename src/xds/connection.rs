//! The connection to a control plane: a channel of the mesh to a cluster of one server, with a store of its own.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use http::uri::Authority;
use mesh_core::{
    model::{
        CertificateSource, CertificateValidationContext, Cluster, Discovery, DnsOptions, Endpoint, EndpointAddress,
        Http2Keepalive, HttpConnectionManager, HttpProtocol, Listener, LoadAssignment, PathMatcher, Route, RouteAction,
        RouteConfiguration, RouteMatch, RouteSource, TcpKeepalive, UpstreamTlsContext, UpstreamTransportSocket,
        ValidationSource, VirtualHost,
    },
    store::Store,
};
use mesh_tower::{
    Channel, Connect, ConnectTo, Connected, Connecting, Io, Upstream, Worker,
    dns::{DnsDiscovery, Resolve},
    telemetry::Telemetry,
};
use mesh_xds::bootstrap::grpc::{
    ChannelCreds, ServerAddress, TlsFiles, XdsServer, identity_secret, keep, roots_secret,
};
use tokio::task::JoinSet;

use crate::{Error, background::rng};

/// How often a connection on which nothing arrives is checked by a PING, as gRPC's clients do for control planes: servers of gRPC
/// close a connection with more frequent ones.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(300);
/// How long the answer to a PING may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may take, as in gRPC.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Probes of TCP find a dead link within a minute.
const TCP_KEEPALIVE: TcpKeepalive = TcpKeepalive {
    keepalive_probes: NonZeroU16::new(3),
    keepalive_time: Some(Duration::from_secs(30)),
    keepalive_interval: Some(Duration::from_secs(10)),
};

/// The name of the cluster and of the listener.
const NAME: &str = "xds_server";

/// A channel to a control plane, and what keeps it working.
pub(super) struct Connection {
    pub(super) channel: Channel,
    _dns: Option<DnsDiscovery>,
    _files: JoinSet<()>,
}

impl Connection {
    /// A channel to `server`, in the current runtime. It connects when it is used.
    pub(super) fn new(server: &XdsServer, resolver: &Arc<dyn Resolve>) -> Result<Self, Error> {
        let store = Arc::new(Store::new());
        let mut files = JoinSet::new();
        let (discovery, authority, worker) = match &server.address {
            ServerAddress::Host(host, port) => match host.parse::<IpAddr>() {
                Ok(ip) => {
                    let address = SocketAddr::new(ip, *port);
                    (Discovery::Static([address].into_iter().collect()), address.to_string(), Worker::single())
                }
                Err(_) => {
                    let endpoint = EndpointAddress::Name { host: host.as_str().into(), port: *port };
                    let endpoints: LoadAssignment = vec![Endpoint::new(endpoint)].into();
                    let discovery = Discovery::StrictDns(endpoints, DnsOptions::default());
                    (discovery, format!("{host}:{port}"), Worker::single())
                }
            },
            ServerAddress::Unix(path) => {
                let worker = Worker::new(0, NonZeroUsize::MIN, UnixSocket(path.clone()));
                (Discovery::Static([NO_ADDRESS].into_iter().collect()), "localhost".to_owned(), worker)
            }
        };
        let authority: Authority = authority.parse().unwrap_or_else(|_| Authority::from_static(NAME));
        let mut cluster = Cluster::new(NAME, discovery);
        cluster.connect_timeout = CONNECT_TIMEOUT;
        cluster.http_protocol_options.protocol = HttpProtocol::Http2;
        cluster.http_protocol_options.idle_timeout = None;
        cluster.http_protocol_options.connection_keepalive =
            Some(Http2Keepalive::new(KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT));
        cluster.tcp_keepalive = Some(TCP_KEEPALIVE);
        if let ChannelCreds::Tls(creds) = &server.channel_creds {
            cluster.transport_socket = UpstreamTransportSocket::Tls(Arc::new(tls(creds, authority.host())));
            files.spawn(keep(Arc::clone(&store), NAME.into(), creds.files.clone()));
        }
        store.set_cluster(Arc::new(cluster), Instant::now(), &mut rng());
        store.set_listener(Arc::new(listener()));
        let dns = store.clusters().iter().any(|cluster| cluster.config().discovery.is_dns());
        let dns = dns.then(|| DnsDiscovery::start(Arc::clone(&store), Arc::clone(resolver)));
        let channel = Channel::of_listener(NAME.into(), authority, store, Upstream::new(worker), Telemetry::default());
        Ok(Self { channel, _dns: dns, _files: files })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// All requests go to the server, without time limits.
fn listener() -> Listener {
    let everything = RouteMatch::path(PathMatcher::Prefix("/".into()));
    let action = RouteAction::to_cluster(NAME).with_timeout(Duration::ZERO);
    let hosts = vec![VirtualHost::new(NAME, vec![Route::new(everything, action)])];
    let routes = RouteSource::Inline(Arc::new(RouteConfiguration::new(NAME, hosts)));
    let mut http = HttpConnectionManager::new(NAME, routes);
    http.stream_idle_timeout = None;
    http.generate_request_id = false;
    http.envoy_headers = false;
    Listener::api(NAME, http)
}

/// TLS with the files of the bootstrap. The certificate of the server must be for `host`.
fn tls(creds: &TlsFiles, host: &str) -> UpstreamTlsContext {
    let mut context = UpstreamTlsContext::default();
    let mut validation = ValidationSource::default();
    validation.context = CertificateValidationContext::default();
    if creds.files.ca_certificate_file.is_some() {
        validation.secret = Some(roots_secret(NAME));
    } else {
        validation.context.system_root_certs = true;
    }
    context.common.validation = Some(validation);
    if creds.files.certificate.is_some() {
        context.common.certificates = vec![CertificateSource::Secret(identity_secret(NAME))];
    }
    context.sni = Some(host.into());
    context.auto_sni_san_validation = true;
    context
}

/// Stands for the endpoint of a Unix socket, which has no IP address.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Connects to one Unix socket.
#[derive(Debug)]
struct UnixSocket(PathBuf);

impl Connect for UnixSocket {
    #[cfg(unix)]
    fn connect<'a>(&'a self, _: ConnectTo<'a>) -> Connecting<'a> {
        Box::pin(async move {
            let stream = tokio::net::UnixStream::connect(&self.0).await?;
            Ok(Connected::plain_text(Io::boxed(stream)))
        })
    }

    #[cfg(not(unix))]
    fn connect<'a>(&'a self, _: ConnectTo<'a>) -> Connecting<'a> {
        Box::pin(async { Err(std::io::Error::from(std::io::ErrorKind::Unsupported)) })
    }
}
