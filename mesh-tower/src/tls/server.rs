//! The server's side: connections from clients.

use std::{
    io::{Error, ErrorKind, Result},
    sync::Arc,
};

use mesh_core::{
    identity::x509::Role,
    model::DownstreamTlsContext,
    store::Store,
    telemetry::TlsStats,
    tls::{TlsInfo, TlsVersion},
};
use rustls::{
    CommonState, HandshakeKind, ProtocolVersion, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    server::{Acceptor, ClientHello, NoServerSessionStorage},
    sign::SingleCertAndKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    TlsError,
    certificate::{LocalCertificate, peer_identity},
    error::handshake_failed,
    provider::{provider, suite_name, versions},
    secrets::{MadeOfSecrets, SecretValues, Secrets},
    verify::Verifier,
};

/// A connection of a client.
pub(crate) type TlsServerStream<I> = TlsStream<I>;

/// The server's side of one context.
#[derive(Debug)]
pub(crate) struct ServerTls {
    context: DownstreamTlsContext,
    provider: Arc<CryptoProvider>,
    secrets: Secrets,
    made: MadeOfSecrets<Configs>,
}

/// What is made of the context and the secrets.
#[derive(Debug)]
struct Configs {
    verifier: Option<Arc<Verifier>>,
    /// One for each certificate, in order.
    by_certificate: Vec<CertificateConfig>,
}

/// The configurations for one certificate.
#[derive(Debug)]
struct CertificateConfig {
    certificate: LocalCertificate,
    config: Arc<ServerConfig>,
    /// For clients with which there is no application protocol in common. Envoy serves them without one; with the list, rustls would
    /// refuse them.
    without_alpn: Arc<ServerConfig>,
}

impl ServerTls {
    /// The server's side of `context`.
    ///
    /// # Errors
    /// If what the context itself has cannot be used. Secrets may arrive later.
    pub(crate) fn new(context: &DownstreamTlsContext, store: &Store) -> std::result::Result<Self, TlsError> {
        if context.common.certificates.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let provider = provider(&context.common);
        let secrets = Secrets::new(&context.common, |name| store.secret_slot(name));
        let tls = Self { context: context.clone(), provider, secrets, made: MadeOfSecrets::new() };
        if tls.secrets.exist() {
            tls.configs()?;
        }
        Ok(tls)
    }

    fn configs(&self) -> std::result::Result<Arc<Configs>, TlsError> {
        self.made.get(&self.secrets, |secrets| Configs::new(&self.context, &self.provider, secrets))
    }

    /// Handshakes with a client. The caller limits the time.
    ///
    /// # Errors
    /// If the client does not speak TLS, is refused, or refuses this server. The error is counted in `stats`.
    pub(crate) async fn accept<I>(&self, io: I, stats: &TlsStats) -> Result<(TlsStream<I>, TlsInfo)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = self.handshake(io).await;
        let (stream, info) = accepted.map_err(|error| handshake_failed(stats, error))?;
        stats.count_handshake(info.version, is_resumed(stream.get_ref().1));
        if info.peer.is_none() {
            stats.no_certificate.inc();
        }
        Ok((stream, info))
    }

    async fn handshake<I>(&self, io: I) -> Result<(TlsStream<I>, TlsInfo)>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        self.secrets.wait().await;
        let configs = self.configs()?;
        let hello = start.client_hello();
        let chosen = configs.choose(&hello, self.context.full_scan_certs_on_sni_mismatch);
        let config = chosen.config_for(&hello);
        let stream = start.into_stream(Arc::clone(config)).await?;
        let (_, session) = stream.get_ref();
        let mut info = session_info(session, configs.verifier.as_deref(), Role::Client)?;
        info.server_name = session.server_name().map(|name| name.to_ascii_lowercase().into());
        info.local = Some(Arc::clone(&chosen.certificate.info));
        Ok((stream, info))
    }
}

impl Configs {
    fn new(
        context: &DownstreamTlsContext,
        provider: &Arc<CryptoProvider>,
        secrets: &SecretValues,
    ) -> std::result::Result<Self, TlsError> {
        let validation = secrets.validation(&context.common)?;
        // A server without authorities does not ask clients for certificates, unless it requires one.
        let verifier = if validation.is_some() || context.require_client_certificate {
            let verifier = Verifier::new(validation, provider)?.requiring_client(context.require_client_certificate);
            Some(Arc::new(verifier))
        } else {
            None
        };
        let by_certificate = context.common.certificates.iter().map(|source| {
            let certificate = LocalCertificate::new(secrets.certificate(source)?, provider)?;
            CertificateConfig::new(context, provider, verifier.as_ref(), certificate)
        });
        Ok(Self { by_certificate: by_certificate.collect::<std::result::Result<_, _>>()?, verifier })
    }

    /// The certificate for a client: the first for the requested name whose key the client supports; for other names,
    /// the first, or if `scans_all` the first whose key the client supports.
    fn choose(&self, hello: &ClientHello<'_>, scans_all: bool) -> &CertificateConfig {
        let supports =
            |config: &&CertificateConfig| config.certificate.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let [first, ..] = &*self.by_certificate else { unreachable!("a server has a certificate") };
        if self.by_certificate.len() == 1 {
            return first;
        }
        let named = hello.server_name().and_then(|name| {
            self.by_certificate.iter().filter(supports).find(|config| config.certificate.is_for(name))
        });
        let scans_all = scans_all || hello.server_name().is_none();
        let supported = || self.by_certificate.iter().find(supports).filter(|_| scans_all);
        named.or_else(supported).unwrap_or(first)
    }
}

impl CertificateConfig {
    fn new(
        context: &DownstreamTlsContext,
        provider: &Arc<CryptoProvider>,
        verifier: Option<&Arc<Verifier>>,
        certificate: LocalCertificate,
    ) -> std::result::Result<Self, TlsError> {
        let refuse = |field| move |error| TlsError::Refused { field, error };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions(&context.common))
            .map_err(refuse("tls_params"))?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::<Verifier>::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let resolver = SingleCertAndKey::from((*certificate.key).clone());
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        // With the order of the client, rustls's default, a client would choose.
        config.ignore_client_order = !context.prefer_client_ciphers;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if context.disable_session_resumption {
            config.send_tls13_tickets = 0;
        } else {
            // The keys of tickets belong to this configuration: with other authorities, sessions are not resumed.
            config.ticketer = Ticketer::new().map_err(refuse("session_ticket_keys"))?;
            config.send_tls13_tickets = 1;
        }
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = context.common.alpn_protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Self { certificate, config: Arc::new(config), without_alpn })
    }

    fn config_for(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        let own = &self.config.alpn_protocols;
        let has_common = hello.alpn().is_none_or(|mut offered| offered.any(|name| own.iter().any(|own| own == name)));
        if has_common { &self.config } else { &self.without_alpn }
    }
}

/// Whether the handshake has resumed a session.
pub(super) fn is_resumed(session: &CommonState) -> bool {
    session.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// What is known of a session, but for what only one of the sides knows.
///
/// # Errors
/// If the session was resumed after the peer's certificate has expired.
pub(super) fn session_info(session: &CommonState, verifier: Option<&Verifier>, peer_role: Role) -> Result<TlsInfo> {
    let mut info = TlsInfo::default();
    info.version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
        _ => TlsVersion::Tls13,
    };
    info.cipher_suite = session.negotiated_cipher_suite().map(suite_name).unwrap_or_default();
    info.application_protocol = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into());
    info.peer = session.peer_certificates().and_then(|chain| {
        let is_verified = verifier.is_some_and(|verifier| verifier.authenticates(chain, peer_role));
        peer_identity(chain, is_verified)
    });
    if let (true, Some(verifier), Some(peer)) = (is_resumed(session), verifier, &info.peer) {
        verifier.verify_resumed(&peer.certificate).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    }
    Ok(info)
}
