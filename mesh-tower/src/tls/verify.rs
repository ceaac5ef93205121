//! Verification of the peer's certificate: its chain by webpki, then its names, pins and, for workloads, the rules of SPIFFE.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use mesh_core::{
    identity::{
        SpiffeId,
        x509::{Certificate, Role},
    },
    model::{CertificateValidationContext, SanKind, StringPattern},
    tls::CertificateInfo,
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, TrustAnchor, UnixTime, pem::PemObject as _,
};
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder,
};

use super::{TlsError, certificate, error::VerifyError};

/// Verifies the certificates of peers.
#[expect(clippy::struct_excessive_bools, reason = "independent checks, each on or off")]
pub(super) struct Verifier {
    context: CertificateValidationContext,
    provider: Arc<CryptoProvider>,
    /// The authorities; `None` = chains are not verified.
    anchors: Option<Anchors>,
    crls: Vec<CertRevocationList<'static>>,
    /// Whether peers are workloads, which have one identity.
    expects_workloads: bool,
    /// Whether a server's certificate must be for the requested name.
    checks_server_name: bool,
    is_client_required: bool,
    /// Whether a server's key must be for signatures.
    checks_key_usage: bool,
    hints: Vec<DistinguishedName>,
}

/// The authorities that are trusted.
enum Anchors {
    /// For all peers.
    Common(Roots),
    /// For the workloads of each trust domain.
    ByTrustDomain(HashMap<Box<str>, Roots>),
}

/// Authorities, and their certificates: a peer that presents one of these itself is trusted, too.
#[derive(Default)]
struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// A verifier for `context`. `None` = nothing is verified.
    ///
    /// # Errors
    /// If the authorities or revocation lists cannot be read.
    pub(super) fn new(
        context: Option<CertificateValidationContext>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let context = context.unwrap_or_default();
        let anchors = Anchors::new(&context)?;
        let crls = context.crl.as_deref().map(revocation_lists).transpose()?.unwrap_or_default();
        let told = anchors.iter().filter(|_| !context.suppress_client_ca_list);
        let hints = told.flat_map(Anchors::all).flat_map(|roots| &roots.anchors);
        let hints = hints.map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
        let expects_workloads = !context.trust_domains.is_empty() || names_workloads(&context);
        let provider = Arc::clone(provider);
        let (checks_server_name, is_client_required, checks_key_usage) = (false, false, false);
        Ok(Self {
            context,
            provider,
            anchors,
            crls,
            expects_workloads,
            checks_server_name,
            is_client_required,
            checks_key_usage,
            hints,
        })
    }

    /// Refuses clients without a certificate.
    pub(super) fn requiring_client(self, is_client_required: bool) -> Self {
        Self { is_client_required, ..self }
    }

    /// Refuses servers whose certificate is not for the requested name.
    pub(super) fn checking_server_name(self, checks_server_name: bool) -> Self {
        Self { checks_server_name, ..self }
    }

    /// Refuses servers whose certificate says that its key is not for signatures.
    pub(super) fn checking_key_usage(self, checks_key_usage: bool) -> Self {
        Self { checks_key_usage, ..self }
    }

    /// Verifies again what may have changed since a session began that is resumed: the date.
    ///
    /// # Errors
    /// If the peer's certificate has expired.
    pub(super) fn verify_resumed(&self, peer: &CertificateInfo) -> Result<(), Error> {
        match peer.not_after {
            Some(end)
                if self.anchors.is_some() && !self.context.allow_expired_certificate && end < SystemTime::now() =>
            {
                Err(CertificateError::Expired.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether a peer that this verifier has accepted is authenticated. `chain` is what it has presented.
    pub(super) fn authenticates(&self, chain: &[CertificateDer<'_>], role: Role) -> bool {
        let Some((end_entity, intermediates)) = chain.split_first() else { return false };
        match &self.anchors {
            None => false,
            Some(_) if !self.context.accept_untrusted => true,
            // Its chain may be valid or not, and neither has been refused.
            Some(_) => Presented::read(end_entity, intermediates, role)
                .is_ok_and(|peer| self.verify_chain(&peer, UnixTime::now()).is_ok()),
        }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: Role,
    ) -> Result<(), Error> {
        let peer = Presented::read(end_entity, intermediates, role)?;
        let read = &peer.read;
        match self.verify_chain(&peer, now) {
            Err(_) if self.context.accept_untrusted => {}
            verified => verified?,
        }
        self.verify_pins(read, end_entity)?;
        let matchers = &self.context.match_subject_alt_names;
        if !matchers.is_empty() && !matchers.iter().any(|matcher| matcher.matches(&read.info)) {
            let names = read.info.uri_sans.iter().chain(&read.info.dns_sans).map(|name| &**name).collect::<Vec<_>>();
            return Err(VerifyError::SubjectAltName(names.join(", ")).into());
        }
        if self.checks_key_usage && read.key_usage.is_some_and(|usage| !usage.digital_signature) {
            return Err(VerifyError::KeyUsage.into());
        }
        if self.expects_workloads {
            read.workload_identity(role).map_err(VerifyError::from)?;
        }
        Ok(())
    }

    fn verify_chain(&self, peer: &Presented<'_>, now: UnixTime) -> Result<(), Error> {
        let Presented { read, end_entity, intermediates, role } = peer;
        let (roots, id) = match &self.anchors {
            None => return Ok(()),
            Some(Anchors::Common(roots)) => (roots, None),
            Some(Anchors::ByTrustDomain(domains)) => {
                let id: SpiffeId = read.svid(*role).map_err(VerifyError::from)?;
                let untrusted = || VerifyError::TrustDomain(id.trust_domain().to_owned());
                (domains.get(id.trust_domain()).ok_or_else(untrusted)?, Some(id))
            }
        };
        if let Some(max) = self.context.max_verify_depth
            && intermediates.len() > max as usize
        {
            return Err(VerifyError::Depth(max).into());
        }
        // Envoy verifies at the time of a certificate that has expired if it accepts expired ones.
        let now = match read.info.not_after.filter(|_| self.context.allow_expired_certificate) {
            Some(end) => UnixTime::since_unix_epoch(
                end.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().min(since_epoch(now)),
            ),
            None => now,
        };
        if roots.certificates.iter().any(|root| root == *end_entity) && !self.expects_workloads {
            return verify_validity(read, now);
        }
        let lists: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            let leaf_only = self.context.only_verify_leaf_cert_crl;
            let depth = if leaf_only { RevocationCheckDepth::EndEntity } else { RevocationCheckDepth::Chain };
            options.with_depth(depth).build()
        });
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        let certificate = EndEntityCert::try_from(*end_entity).map_err(chain_error)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let path = certificate
            .verify_for_usage(algorithms, &roots.anchors, intermediates, now, usage, revocation, None)
            .map_err(chain_error)?;
        let authorities = path.intermediate_certificates().filter(|_| id.is_some());
        for authority in authorities {
            let authority = Certificate::from_der(&authority.der()).map_err(VerifyError::from)?;
            verify_intermediate(&authority, id.as_ref())?;
        }
        Ok(())
    }

    fn verify_pins(&self, read: &Certificate, der: &[u8]) -> Result<(), VerifyError> {
        let (hashes, keys) = (&self.context.verify_certificate_hash, &self.context.verify_certificate_spki);
        if hashes.is_empty() && keys.is_empty() {
            return Ok(());
        }
        let is_in = |pins: &[[u8; 32]], bytes: &[u8]| {
            let hash = digest(&SHA256, bytes);
            pins.iter().any(|pin| pin == hash.as_ref())
        };
        let is_pinned = is_in(hashes, der) || is_in(keys, &der[read.subject_public_key_info.clone()]);
        is_pinned.then_some(()).ok_or(VerifyError::Hash)
    }
}

/// What a peer has presented.
struct Presented<'a> {
    read: Certificate,
    end_entity: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    role: Role,
}

impl<'a> Presented<'a> {
    fn read(
        end_entity: &'a CertificateDer<'a>,
        intermediates: &'a [CertificateDer<'a>],
        role: Role,
    ) -> Result<Self, VerifyError> {
        Ok(Self { read: Certificate::from_der(end_entity)?, end_entity, intermediates, role })
    }
}

impl Anchors {
    fn new(context: &CertificateValidationContext) -> Result<Option<Self>, TlsError> {
        if !context.verifies_chain() {
            return Ok(None);
        }
        if !context.trust_domains.is_empty() {
            let mut domains = HashMap::new();
            for bundle in &context.trust_domains {
                let roots: &mut Roots = domains.entry(bundle.trust_domain.as_str().into()).or_default();
                roots.add_pem("trust_bundle", &bundle.trust_bundle)?;
            }
            return Ok(Some(Self::ByTrustDomain(domains)));
        }
        let mut roots = Roots::default();
        if let Some(pem) = &context.trusted_ca {
            roots.add_pem("trusted_ca", pem)?;
        }
        if context.system_root_certs {
            let native = rustls_native_certs::load_native_certs();
            let mut store = RootCertStore::empty();
            let (added, _) = store.add_parsable_certificates(native.certs);
            if added == 0 {
                let reasons: Vec<_> = native.errors.iter().map(ToString::to_string).collect();
                return Err(TlsError::SystemRoots(format!("no authorities were found: {}", reasons.join("; "))));
            }
            roots.anchors.extend(store.roots);
        }
        Ok(Some(Self::Common(roots)))
    }

    fn all(&self) -> impl Iterator<Item = &Roots> {
        let (one, many) = match self {
            Self::Common(roots) => (Some(roots), None),
            Self::ByTrustDomain(domains) => (None, Some(domains.values())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl Roots {
    fn add_pem(&mut self, field: &'static str, pem: &[u8]) -> Result<(), TlsError> {
        for certificate in certificate::certificates(field, pem)? {
            let refuse = |error| TlsError::Refused { field, error };
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|error| refuse(chain_error(error)))?;
            self.anchors.push(anchor.to_owned());
            self.certificates.push(certificate);
        }
        Ok(())
    }
}

/// Whether a name that is expected is a SPIFFE ID, or begins like one.
fn names_workloads(context: &CertificateValidationContext) -> bool {
    context.match_subject_alt_names.iter().any(|san| {
        san.kind == SanKind::Uri
            && match san.matcher.pattern() {
                StringPattern::Exact(text) | StringPattern::Prefix(text) => text.starts_with("spiffe://"),
                _ => false,
            }
    })
}

fn revocation_lists(pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>, TlsError> {
    let refuse = |reason: String| TlsError::Pem { field: "crl", reason };
    let mut lists = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(pem) {
        let der = der.map_err(|error| refuse(error.to_string()))?;
        let list = OwnedCertRevocationList::from_der(&der).map_err(|error| refuse(error.to_string()))?;
        lists.push(list.into());
    }
    if lists.is_empty() { Err(refuse("no revocation list in PEM".to_owned())) } else { Ok(lists) }
}

fn since_epoch(time: UnixTime) -> std::time::Duration {
    std::time::Duration::from_secs(time.as_secs())
}

/// Whether a certificate that is trusted itself is valid at `now`.
fn verify_validity(read: &Certificate, now: UnixTime) -> Result<(), Error> {
    let now = std::time::UNIX_EPOCH + since_epoch(now);
    let (begin, end) = (read.info.not_before, read.info.not_after);
    if begin.is_some_and(|begin| now < begin) {
        Err(CertificateError::NotValidYet.into())
    } else if end.is_some_and(|end| now > end) {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

/// An authority with a SPIFFE ID issues identities of its own trust domain only. X509-SVID section 3.2.
fn verify_intermediate(authority: &Certificate, issued: Option<&SpiffeId>) -> Result<(), VerifyError> {
    let is_spiffe =
        |uri: &&Arc<str>| uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe"));
    let is_of_domain = |own: SpiffeId| issued.is_none_or(|id| own.trust_domain() == id.trust_domain());
    match authority.info.uri_sans.iter().filter(is_spiffe).find(|uri| !uri.parse().is_ok_and(is_of_domain)) {
        Some(uri) => Err(VerifyError::Intermediate(uri.to_string())),
        None => Ok(()),
    }
}

/// What rustls says for an error of webpki.
fn chain_error(error: webpki::Error) -> Error {
    match error {
        webpki::Error::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        webpki::Error::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    }
    .into()
}

/// Both traits of rustls have these methods.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Role::Server)?;
        if self.checks_server_name {
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    verify_signatures!();
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_client_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Role::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    verify_signatures!();
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("context", &self.context).finish_non_exhaustive()
    }
}
