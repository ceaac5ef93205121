//! The keys of those who issue tokens, and verification of signatures by aws-lc-rs.
//!
//! Only public keys are supported. With a shared secret, everyone who can verify a token can also issue one.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use mesh_core::filter::jwt_authn::{Algorithm, Jwk, Jwks, Jwt, JwtStatus, KeyMaterial};
use x509_parser::pem::Pem;

use super::token::KeysError;

/// The keys of a file.
#[derive(Debug)]
pub(super) enum Keys {
    /// A key set, and for each of its keys what it verifies.
    Set { jwks: Jwks, prepared: Box<[Vec<Key>]> },
    /// A single key, or several, without names.
    Pem(Vec<Key>),
}

type Key = (Algorithm, ParsedPublicKey);

const RSA: [(Algorithm, &RsaParameters); 3] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
];

const OTHERS: [(Algorithm, &dyn VerificationAlgorithm); 4] = [
    (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED),
    (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED),
    (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED),
    (Algorithm::EdDsa, &ED25519),
];

impl Keys {
    /// The keys of a JSON Web Key Set, or public keys in PEM, such as `sa.pub` of Kubernetes.
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let keys = if text.trim_ascii_start().starts_with(b"-----BEGIN") {
            Self::Pem(of_pem(text)?)
        } else {
            let jwks = Jwks::parse(text)?;
            let prepared = jwks.keys().iter().map(of_jwk).collect();
            Self::Set { jwks, prepared }
        };
        let is_usable = match &keys {
            Self::Set { prepared, .. } => prepared.iter().any(|keys| !keys.is_empty()),
            Self::Pem(keys) => !keys.is_empty(),
        };
        if is_usable { Ok(keys) } else { Err(KeysError::NoneUsable) }
    }

    /// Whether one of the keys has made the signature of `jwt`, whose first two sections are `signed`.
    pub(super) fn verify(&self, jwt: &Jwt, signed: &str) -> Result<(), JwtStatus> {
        let verifies = |(algorithm, key): &Key| {
            *algorithm == jwt.algorithm && key.verify_sig(signed.as_bytes(), &jwt.signature).is_ok()
        };
        let is_verified = match self {
            Self::Set { jwks, prepared } => {
                jwks.candidates(jwt)?.any(|position| prepared[position].iter().any(verifies))
            }
            Self::Pem(keys) => keys.iter().any(verifies),
        };
        if is_verified { Ok(()) } else { Err(JwtStatus::VerificationFail) }
    }
}

fn of_pem(text: &[u8]) -> Result<Vec<Key>, KeysError> {
    let mut keys = Vec::new();
    for pem in Pem::iter_from_buffer(text) {
        let pem = pem.map_err(|_| KeysError::Pem)?;
        if pem.label != "PUBLIC KEY" {
            return Err(KeysError::Label(pem.label));
        }
        let rsa = RSA.iter().map(|(algorithm, of_library)| (*algorithm, *of_library as &dyn VerificationAlgorithm));
        // The DER names the kind of the key, so that no other algorithm takes it.
        let all = rsa.chain(OTHERS).filter_map(|(algorithm, of_library)| {
            ParsedPublicKey::new(of_library, pem.contents.as_slice()).ok().map(|key| (algorithm, key))
        });
        keys.extend(all);
    }
    Ok(keys)
}

fn of_jwk(jwk: &Jwk) -> Vec<Key> {
    let other = |wanted: Algorithm, bytes: &[u8]| -> Vec<Key> {
        let of_library = OTHERS.iter().filter(|(algorithm, _)| *algorithm == wanted);
        of_library
            .filter_map(|(algorithm, of_library)| Some((*algorithm, ParsedPublicKey::new(*of_library, bytes).ok()?)))
            .collect()
    };
    let keys = match &jwk.key {
        KeyMaterial::Rsa { n, e } => RSA
            .iter()
            .filter_map(|(algorithm, parameters)| {
                Some((*algorithm, RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()?))
            })
            .collect(),
        // The uncompressed form of a point. SEC 1 section 2.3.3.
        KeyMaterial::Ec { algorithm, x, y } => other(*algorithm, &[&[4][..], x, y].concat()),
        KeyMaterial::Ed25519(x) => other(Algorithm::EdDsa, x),
        KeyMaterial::Oct(_) => Vec::new(),
    };
    keys.into_iter().filter(|(algorithm, _)| jwk.verifies(*algorithm)).collect()
}
