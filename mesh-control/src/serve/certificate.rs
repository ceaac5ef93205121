//! The certificate of the TLS port, which is renewed while it is in use.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use mesh_core::causes::with_causes;
use mesh_core::rng::SplitMix64;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::Error;
use crate::ca::{Authority, Identity, Request};
use crate::identities::Renewal;

/// Namespace and service account of a control plane. istiod's.
const NAMESPACE: &str = "istio-system";
const SERVICE_ACCOUNT: &str = "istiod";
const WHAT: &str = "the port of the control plane";

/// The certificate.
pub(super) struct ServerCertificate {
    authority: Arc<Authority>,
    identity: Identity,
    dns_names: Vec<String>,
    current: RwLock<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("dns_names", &self.dns_names).finish_non_exhaustive()
    }
}

impl ServerCertificate {
    /// A certificate for these names of hosts.
    pub(super) fn issue(
        authority: Arc<Authority>,
        trust_domain: &str,
        dns_names: Vec<String>,
        now: SystemTime,
    ) -> Result<Self, Error> {
        let identity = Identity::new(trust_domain, NAMESPACE, SERVICE_ACCOUNT).map_err(tls)?;
        let current = RwLock::new(issue(&authority, &identity, &dns_names, now)?);
        Ok(Self { authority, identity, dns_names, current })
    }

    /// How TLS is served: clients may have a certificate of the roots.
    pub(super) fn config(self: &Arc<Self>, roots: &str) -> Result<ServerConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            store.add(root.map_err(tls)?).map_err(tls)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(tls)?;
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = builder.map_err(tls)?.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// Renews the certificate at about half of its lifetime. It never returns.
    pub(super) async fn renew(self: Arc<Self>) {
        // The standard library's hasher has a random key.
        let mut rng = SplitMix64::new(std::hash::RandomState::new().hash_one(0));
        let mut renewal = Renewal::default();
        let now = SystemTime::now();
        renewal.handle_identity(Some(self.identity.to_string()), now);
        renewal.handle_issued(self.read().not_after, now, &mut rng);
        while let Some(due) = renewal.poll_timeout() {
            tokio::time::sleep(due.duration_since(SystemTime::now()).unwrap_or_default()).await;
            let now = SystemTime::now();
            match issue(&self.authority, &self.identity, &self.dns_names, now) {
                Ok(next) => {
                    renewal.handle_issued(next.not_after, now, &mut rng);
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
                }
                Err(error) => {
                    let wait = renewal.handle_failure(now, &mut rng);
                    tracing::warn!("{}, the next try is in {wait:?}", with_causes(&error));
                }
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.read().key))
    }
}

fn issue(authority: &Authority, identity: &Identity, dns_names: &[String], now: SystemTime) -> Result<Current, Error> {
    let request = Request::new(identity, WHAT).with_dns_names(dns_names);
    let issued = authority.issue(request, now)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(issued.certificate_chain.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.private_key.as_bytes()).map_err(tls)?;
    let key = CertifiedKey::from_der(chain.map_err(tls)?, key, &aws_lc_rs::default_provider()).map_err(tls)?;
    Ok(Current { key: Arc::new(key), not_after: issued.not_after })
}

fn tls(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Tls { what: WHAT, source: Box::new(source) }
}
