//! Without the feature `tls` there is no cryptography, so no token is valid. Listeners with the filter are refused by name;
//! this is for stand-alone layers, whose construction cannot fail.

use mesh_core::filter::jwt_authn::{Jwks, Jwt, JwtStatus};

/// A key set that verifies nothing.
#[derive(Debug)]
pub(super) struct VerificationKeys {
    jwks: Jwks,
}

impl VerificationKeys {
    pub(super) fn new(jwks: Jwks) -> Self {
        Self { jwks }
    }

    pub(super) fn jwks(&self) -> &Jwks {
        &self.jwks
    }

    pub(super) fn any_usable(&self) -> bool {
        false
    }

    pub(super) fn verify(&self, _: &Jwt, _: &str) -> Result<(), JwtStatus> {
        Err(JwtStatus::VerificationFail)
    }
}
