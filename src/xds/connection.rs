//! The connection to a control plane: a channel of the mesh to a cluster of one server, with a store of its own.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use http::uri::Authority;
use mesh_core::{
    model::{
        CertificateSource, CertificateValidationContext, Cluster, Discovery, DnsOptions, Endpoint, EndpointAddress,
        Http2Keepalive, HttpProtocol, LoadAssignment, TcpKeepalive, UpstreamTlsContext, UpstreamTransportSocket,
        ValidationSource,
    },
    store::Store,
};
use mesh_tower::{
    ClusterChannel, Upstream, UpstreamOptions, Worker,
    dns::{DnsDiscovery, Resolve},
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

/// The name of the cluster.
const NAME: &str = "xds_server";

/// A channel to a control plane, and what keeps it working.
pub(super) struct Connection {
    pub(super) channel: ClusterChannel,
    _dns: Option<DnsDiscovery>,
    _files: JoinSet<()>,
}

impl Connection {
    /// A channel to `server`, in the current runtime. It connects when it is used.
    pub(super) fn new(server: &XdsServer, resolver: &Arc<dyn Resolve>) -> Result<Self, Error> {
        let store = Arc::new(Store::new());
        let mut files = JoinSet::new();
        let (discovery, authority) = match &server.address {
            ServerAddress::Host(host, port) => match host.parse::<IpAddr>() {
                Ok(ip) => {
                    let address = SocketAddr::new(ip, *port);
                    (Discovery::Static([address].into_iter().collect()), address.to_string())
                }
                Err(_) => {
                    let endpoint = EndpointAddress::Name { host: host.as_str().into(), port: *port };
                    let endpoints: LoadAssignment = vec![Endpoint::new(endpoint)].into();
                    let discovery = Discovery::StrictDns(endpoints, DnsOptions::default());
                    (discovery, format!("{host}:{port}"))
                }
            },
            ServerAddress::Unix(path) => {
                let endpoint = EndpointAddress::Pipe(Arc::clone(path));
                (Discovery::Static(vec![Endpoint::new(endpoint)].into()), "localhost".to_owned())
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
        let dns = store.clusters().iter().any(|cluster| cluster.config().discovery.is_dns());
        let dns = dns.then(|| DnsDiscovery::start(Arc::clone(&store), Arc::clone(resolver)));
        let upstream = Upstream::new(Worker::single());
        let upstream = upstream.with_options(UpstreamOptions { envoy_headers: false, ..UpstreamOptions::default() });
        let channel = ClusterChannel::new(&store, upstream, &NAME.into(), Some(authority.as_str()));
        let channel = channel.expect("an authority is a header value");
        Ok(Self { channel, _dns: dns, _files: files })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
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
