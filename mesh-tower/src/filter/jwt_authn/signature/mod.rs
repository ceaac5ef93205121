//! Verification of signatures by aws-lc-rs.
//!
//! Keys are prepared when they arrive, for each algorithm that they may verify, so that a request parses none. A key that
//! the library refuses, such as an RSA key below 2048 bits or a point that is not on its curve, verifies nothing.

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
        RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use mesh_core::filter::jwt_authn::{Algorithm, Jwk, Jwks, Jwt, JwtStatus, KeyMaterial};

/// The length of a signature of Ed25519, in bytes.
const ED25519_SIGNATURE: usize = 64;

/// The lengths of the modulus of an RSA key that is accepted, in bytes.
const RSA_MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// A key set, ready to verify.
#[derive(Debug)]
pub(super) struct VerificationKeys {
    jwks: Jwks,
    /// For each key of the set, what it verifies.
    prepared: Box<[Vec<(Algorithm, PreparedKey)>]>,
}

#[derive(Debug)]
enum PreparedKey {
    Public(ParsedPublicKey),
    /// Boxed, because it is much larger.
    Secret(Box<hmac::Key>),
}

impl VerificationKeys {
    pub(super) fn new(jwks: Jwks) -> Self {
        let prepared = jwks.keys().iter().map(prepare).collect();
        Self { jwks, prepared }
    }

    /// The set that was prepared.
    pub(super) fn jwks(&self) -> &Jwks {
        &self.jwks
    }

    /// Whether a key of the set can verify anything.
    pub(super) fn any_usable(&self) -> bool {
        self.prepared.iter().any(|keys| !keys.is_empty())
    }

    /// Whether a key of the set has made the signature of `jwt`, whose first two sections are `signed`.
    pub(super) fn verify(&self, jwt: &Jwt, signed: &str) -> Result<(), JwtStatus> {
        if jwt.algorithm == Algorithm::EdDsa && jwt.signature.len() != ED25519_SIGNATURE {
            return Err(JwtStatus::Ed25519SignatureWrongLength);
        }
        let mut candidates = self.jwks.candidates(jwt)?;
        let verified = candidates.any(|position| {
            let key = self.prepared[position].iter().find(|(algorithm, _)| *algorithm == jwt.algorithm);
            key.is_some_and(|(_, key)| key.verify(signed.as_bytes(), &jwt.signature))
        });
        if verified { Ok(()) } else { Err(JwtStatus::VerificationFail) }
    }
}

impl PreparedKey {
    fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(signed, signature).is_ok(),
            Self::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
        }
    }
}

fn prepare(jwk: &Jwk) -> Vec<(Algorithm, PreparedKey)> {
    let public = |algorithm, of_library: &'static dyn VerificationAlgorithm, bytes: &[u8]| {
        let key = ParsedPublicKey::new(of_library, bytes).ok()?;
        Some((algorithm, PreparedKey::Public(key)))
    };
    let all: Vec<_> = match &jwk.key {
        KeyMaterial::Rsa { n, e } if RSA_MODULUS.contains(&n.len()) => {
            let prepared = RSA.into_iter().filter_map(|(algorithm, parameters)| {
                let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()?;
                Some((algorithm, PreparedKey::Public(key)))
            });
            prepared.collect()
        }
        KeyMaterial::Rsa { .. } => Vec::new(),
        KeyMaterial::Ec { algorithm, x, y } => {
            let of_library: &'static dyn VerificationAlgorithm = match algorithm {
                Algorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
                Algorithm::Es512 => &ECDSA_P521_SHA512_FIXED,
                Algorithm::Es256k => &ECDSA_P256K1_SHA256_FIXED,
                _ => &ECDSA_P256_SHA256_FIXED,
            };
            // The uncompressed form of a point. SEC 1 section 2.3.3.
            let point = [&[4][..], x, y].concat();
            public(*algorithm, of_library, &point).into_iter().collect()
        }
        KeyMaterial::Ed25519(x) => public(Algorithm::EdDsa, &ED25519, x).into_iter().collect(),
        KeyMaterial::Oct(secret) => {
            let key = |(algorithm, of_library)| {
                (algorithm, PreparedKey::Secret(Box::new(hmac::Key::new(of_library, secret))))
            };
            HMAC.into_iter().map(key).collect()
        }
    };
    all.into_iter().filter(|(algorithm, _)| jwk.verifies(*algorithm)).collect()
}

const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
];

const HMAC: [(Algorithm, hmac::Algorithm); 3] = [
    (Algorithm::Hs256, hmac::HMAC_SHA256),
    (Algorithm::Hs384, hmac::HMAC_SHA384),
    (Algorithm::Hs512, hmac::HMAC_SHA512),
];

#[cfg(test)]
mod tests;
