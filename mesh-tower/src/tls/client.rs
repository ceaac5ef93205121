//! The client's side: connections to endpoints.

use std::{
    io::Result,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock},
};

use mesh_core::{
    identity::x509::Role,
    model::UpstreamTlsContext,
    slot::SecretSlot,
    telemetry::TlsStats,
    tls::{CertificateInfo, TlsInfo},
};
use rustls::{
    ClientConfig,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    TlsError,
    certificate::LocalCertificate,
    error::handshake_failed,
    provider::{provider, versions},
    secrets::{MadeOfSecrets, SecretValues, Secrets},
    server::{is_resumed, session_info},
    verify::Verifier,
};
use crate::Protocol;

/// The client's side of one context.
#[derive(Debug)]
pub(crate) struct ClientTls {
    context: UpstreamTlsContext,
    provider: Arc<CryptoProvider>,
    secrets: Secrets,
    made: MadeOfSecrets<Configs>,
}

/// The endpoint of a handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsEndpoint<'a> {
    /// Its IP address; `None` if it is a unix socket.
    pub(crate) address: Option<IpAddr>,
    /// Its host name, if it has one.
    pub(crate) hostname: Option<&'a Arc<str>>,
    /// The name to request, instead of that of the context.
    pub(crate) server_name: Option<&'a Arc<str>>,
    /// The protocol that is to be spoken.
    pub(crate) protocol: Option<Protocol>,
}

/// What is made of the context and the secrets.
#[derive(Debug)]
struct Configs {
    verifier: Arc<Verifier>,
    local: Option<Arc<CertificateInfo>>,
    config: ClientConfig,
    /// With the application protocols of each kind of connection, made when it is first used.
    with_alpn: [OnceLock<Arc<ClientConfig>>; 3],
}

impl ClientTls {
    /// The client's side of `context`.
    ///
    /// # Errors
    /// If what the context itself has cannot be used. Secrets may arrive later.
    pub(crate) fn new(
        context: &UpstreamTlsContext,
        slot: impl FnMut(&Arc<str>) -> Arc<SecretSlot>,
    ) -> std::result::Result<Self, TlsError> {
        if let Some(sni) = &context.sni {
            server_name(sni)?;
        }
        let provider = provider(&context.common);
        let secrets = Secrets::new(&context.common, slot);
        let tls = Self { context: context.clone(), provider, secrets, made: MadeOfSecrets::new() };
        if tls.secrets.exist() {
            tls.configs()?;
        }
        Ok(tls)
    }

    fn configs(&self) -> std::result::Result<Arc<Configs>, TlsError> {
        self.made.get(&self.secrets, |secrets| Configs::new(&self.context, &self.provider, secrets))
    }

    /// Handshakes with an endpoint. The caller limits the time.
    ///
    /// # Errors
    /// If the endpoint does not speak TLS, is refused, or refuses this client. The error is counted in `stats`.
    pub(crate) async fn connect<I>(
        &self,
        io: I,
        peer: TlsEndpoint<'_>,
        stats: &TlsStats,
    ) -> Result<(TlsStream<I>, TlsInfo)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let connected = self.handshake(io, peer).await;
        let (stream, info) = connected.map_err(|error| handshake_failed(stats, error))?;
        stats.count_handshake(info.version, is_resumed(stream.get_ref().1));
        Ok((stream, info))
    }

    async fn handshake<I>(&self, io: I, peer: TlsEndpoint<'_>) -> Result<(TlsStream<I>, TlsInfo)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        self.secrets.wait().await;
        let configs = self.configs()?;
        let hostname = peer.hostname.filter(|_| self.context.auto_host_sni);
        let sni = peer.server_name.or(hostname).or(self.context.sni.as_ref());
        // An IP address is not sent as a server name. Nor is any name for a unix socket, which has no address.
        let address = peer.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let name = sni.map_or(Ok(ServerName::IpAddress(address.into())), server_name)?;
        let config = configs.for_protocol(peer.protocol, &self.context);
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, io).await?;
        let (_, session) = stream.get_ref();
        let mut info = session_info(session, Some(&configs.verifier), Role::Server)?;
        info.server_name = sni.cloned();
        info.local.clone_from(&configs.local);
        Ok((stream, info))
    }
}

impl Configs {
    fn new(
        context: &UpstreamTlsContext,
        provider: &Arc<CryptoProvider>,
        secrets: &SecretValues,
    ) -> std::result::Result<Self, TlsError> {
        let verifier = Verifier::new(secrets.validation(&context.common)?, provider)?;
        let verifier = Arc::new(
            verifier
                .checking_server_name(context.auto_sni_san_validation)
                .checking_key_usage(context.enforce_rsa_key_usage),
        );
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions(&context.common))
            .map_err(|error| TlsError::Refused { field: "tls_params", error })?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Verifier>::clone(&verifier));
        let certificates = context.common.certificates.iter();
        let certificates = certificates.map(|source| LocalCertificate::new(secrets.certificate(source)?, provider));
        let local = certificates.collect::<std::result::Result<Vec<_>, _>>()?.into_iter().next();
        let (mut config, info) = match local {
            Some(LocalCertificate { key, info }) => (builder.with_client_cert_resolver(single(&key)), Some(info)),
            None => (builder.with_no_client_auth(), None),
        };
        config.resumption = match context.max_session_keys.unwrap_or(1) {
            0 => Resumption::disabled(),
            // The number is of sessions for one server name.
            keys => Resumption::in_memory_sessions(usize::try_from(keys).unwrap_or(usize::MAX).clamp(8, 1024)),
        };
        Ok(Self { verifier, local: info, config, with_alpn: Default::default() })
    }

    fn for_protocol(&self, protocol: Option<Protocol>, context: &UpstreamTlsContext) -> &Arc<ClientConfig> {
        let (index, own): (usize, &[&str]) = match protocol {
            None | Some(Protocol::Tcp) => (0, &[]),
            Some(Protocol::Http1) => (1, &["http/1.1"]),
            Some(Protocol::Http2) => (2, &["h2"]),
        };
        self.with_alpn[index].get_or_init(|| {
            let mut config = self.config.clone();
            config.alpn_protocols = if context.common.alpn_protocols.is_empty() {
                own.iter().map(|name| name.as_bytes().to_vec()).collect()
            } else {
                context.common.alpn_protocols.iter().map(|name| name.as_bytes().to_vec()).collect()
            };
            Arc::new(config)
        })
    }
}

fn single(key: &Arc<CertifiedKey>) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from((**key).clone()))
}

fn server_name(name: &Arc<str>) -> std::result::Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_string()).map_err(|_| TlsError::ServerName(Arc::clone(name)))
}
