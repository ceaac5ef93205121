//! The authority as a service: Istio's `CreateCertificate`.
//!
//! A caller proves who it is by the certificate of its connection or by a token ([`Authenticate`]), and sends a CSR. Its certificate
//! has the identity that it has proved; of the CSR only the key counts. What is issued or refused is logged with the target
//! [`AUDIT`](super::AUDIT).
//!
//! The response is istiod's: the certificate, those between it and the root, and the roots, each an element.
//!
//! Sources: istiod `security/pkg/server/ca` for codes and texts, `security/pkg/server/ca/authenticate` for what tokens say.

mod signature;
mod token;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_core::causes::with_causes;
use mesh_xds::proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateService;
use mesh_xds::proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::Struct;
use prost_types::value::Kind;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Response, Status};

use super::{AUDIT, Authority, DEFAULT_TTL, Identity, IdentityError, IssueError, Issued, MAX_TTL, Request};

pub(crate) use token::TokenVerifier;
pub use token::{KeysError, TokenError, TokenSettings};

/// Most bytes of a request. A CSR has about one kilobyte.
pub(crate) const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Most bytes of what a caller has sent that are logged.
const MAX_LOGGED: usize = 256;

/// Lifetimes of certificates that callers may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetimes {
    /// That of a caller that asks for none; at most `max`. Default [`DEFAULT_TTL`]. Istio `DEFAULT_WORKLOAD_CERT_TTL`.
    pub default: Duration,
    /// The longest; at most [`MAX_TTL`], which is the default. Istio `MAX_WORKLOAD_CERT_TTL`.
    pub max: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { default: DEFAULT_TTL, max: MAX_TTL }
    }
}

/// Lifetimes that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lifetimes of {} s by default and {} s at most: the default must be above 0 and not above the most, which is at most {} s",
    .0.default.as_secs(), .0.max.as_secs(), MAX_TTL.as_secs())]
pub struct LifetimesError(Lifetimes);

impl Lifetimes {
    /// A default and a maximum.
    ///
    /// # Errors
    ///
    /// If the default is zero or above the maximum, or that is above [`MAX_TTL`].
    pub fn new(default: Duration, max: Duration) -> Result<Self, LifetimesError> {
        let lifetimes = Self { default, max };
        let is_possible = !default.is_zero() && default <= max && max <= MAX_TTL;
        if is_possible { Ok(lifetimes) } else { Err(LifetimesError(lifetimes)) }
    }

    /// The lifetime for `validity_duration`, seconds.
    fn choose(&self, seconds: i64) -> Result<Duration, Refused> {
        match u64::try_from(seconds) {
            Ok(0) | Err(_) => Ok(self.default),
            Ok(seconds) if Duration::from_secs(seconds) <= self.max => Ok(Duration::from_secs(seconds)),
            Ok(seconds) => Err(Refused::Ttl { seconds, max: self.max.as_secs() }),
        }
    }
}

/// How a caller has proved its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By the certificate of its connection.
    Certificate,
    /// By a token.
    Token,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Token => "token",
        })
    }
}

/// Who a call is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub(crate) identity: Identity,
    pub(crate) proof: Proof,
}

/// Why a caller has proved no identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unproven {
    #[error("the caller has neither a certificate with an identity nor a bearer token")]
    Nothing,
    #[error("the caller's certificate has {0} identities: expected 1")]
    Several(usize),
    #[error("the caller's certificate: {0}")]
    Identity(#[from] IdentityError),
    #[error("the caller has the trust domain {0:?}, which is not the authority's")]
    TrustDomain(String),
    #[error("the caller's token: {0}")]
    Token(#[from] TokenError),
    #[error("the caller has a bearer token, and no keys of tokens are configured")]
    NoKeys,
}

/// Decides who a call is from.
pub(crate) trait Authenticate: fmt::Debug + Send + Sync {
    fn authenticate(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        now: SystemTime,
    ) -> Result<Authenticated, Unproven>;
}

/// Why a caller gets no certificate.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Unproven(#[from] Unproven),
    #[error("requested TTL {seconds} s is greater than the max allowed TTL {max} s")]
    Ttl { seconds: u64, max: u64 },
    #[error("metadata has the key {0}, which is not supported")]
    Metadata(String),
    #[error("metadata asks for the identity of another workload")]
    Impersonation,
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Refused {
    /// The status that the caller gets, with the codes and texts of istiod. The reason for a refusal is only logged.
    fn status(&self) -> Status {
        let csr = || format!("CSR signing error ({})", with_causes(self));
        match self {
            Self::Unproven(_) => Status::unauthenticated("request authenticate failure"),
            Self::Impersonation => Status::unauthenticated("request impersonation authentication failure"),
            Self::Ttl { .. } | Self::Metadata(_) | Self::Issue(IssueError::Csr(_) | IssueError::Ttl(_)) => {
                Status::invalid_argument(csr())
            }
            Self::Issue(IssueError::AuthorityNotValid) => Status::unavailable(csr()),
            Self::Issue(IssueError::Make(_) | IssueError::Random) => Status::internal(csr()),
        }
    }
}

/// `istio.v1.auth.IstioCertificateService`.
#[derive(Clone, Debug)]
pub(crate) struct CertificateService {
    authority: Arc<Authority>,
    authenticate: Arc<dyn Authenticate>,
    lifetimes: Lifetimes,
}

impl CertificateService {
    pub(crate) fn new(authority: Arc<Authority>, authenticate: Arc<dyn Authenticate>, lifetimes: Lifetimes) -> Self {
        Self { authority, authenticate, lifetimes }
    }

    fn issue(
        &self,
        request: &IstioCertificateRequest,
        caller: Result<&Authenticated, Unproven>,
        now: SystemTime,
    ) -> Result<Issued, Refused> {
        let caller = caller?;
        check_metadata(request.metadata.as_ref())?;
        let ttl = self.lifetimes.choose(request.validity_duration)?;
        let requester = format!("{} by {}", caller.identity, caller.proof);
        Ok(self.authority.sign(&request.csr, Request::new(&caller.identity, &requester).with_ttl(ttl), now)?)
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: tonic::Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let now = SystemTime::now();
        let caller = self.authenticate.authenticate(request.metadata(), request.extensions(), now);
        let identity = caller.as_ref().map(|caller| caller.identity.to_string()).unwrap_or_default();
        let (caller, unproven) = match caller {
            Ok(caller) => (Some(caller), Unproven::Nothing),
            Err(unproven) => (None, unproven),
        };
        let issued = self.issue(request.get_ref(), caller.as_ref().ok_or(unproven), now);
        match issued {
            Ok(issued) => {
                let mut cert_chain = elements(&issued.certificate_chain);
                cert_chain.push(self.authority.roots().to_owned());
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(refused) => {
                let reason: String = with_causes(&refused).to_string().chars().take(MAX_LOGGED).collect();
                tracing::warn!(target: AUDIT, outcome = "refused", identity, reason, "refused a certificate");
                Err(refused.status())
            }
        }
    }
}

/// Refuses what a caller may ask for besides its own certificate: that of another workload, as agents of nodes do, or another signer.
fn check_metadata(metadata: Option<&Struct>) -> Result<(), Refused> {
    for (key, value) in metadata.iter().flat_map(|metadata| &metadata.fields) {
        match (key.as_str(), &value.kind) {
            // Istio's agents send the keys also without a value.
            (_, None | Some(Kind::NullValue(_))) => {}
            (_, Some(Kind::StringValue(text))) if text.is_empty() => {}
            ("ImpersonatedIdentity", _) => return Err(Refused::Impersonation),
            _ => return Err(Refused::Metadata(key.chars().take(MAX_LOGGED).collect())),
        }
    }
    Ok(())
}

/// The certificates of a chain, one by one.
fn elements(chain: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    chain.split_inclusive(END).map(str::to_owned).collect()
}

#[cfg(test)]
pub(crate) mod tests;
