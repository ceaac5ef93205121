//! Identities of workloads: SPIFFE IDs, and the certificates that prove them.
//!
//! There is no cryptography here. Chains and signatures are verified by the code that does handshakes.

mod spiffe;
#[cfg(feature = "x509")]
pub mod x509;

pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain, TrustDomainError};
