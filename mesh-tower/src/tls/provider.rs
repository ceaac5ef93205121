//! The cryptography: aws-lc-rs, with the versions, cipher suites and groups of a context.
//!
//! Groups of key exchange that are secure against quantum computers are supported in any case, and used if the peer prefers
//! them or a context names them. With the feature `prefer-post-quantum`, contexts that name none prefer them.

use std::sync::Arc;

use mesh_core::{
    model::{CipherSuite, CommonTlsContext, KeyExchangeGroup},
    tls::TlsVersion,
};
use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    version,
};

/// The provider for a context.
pub(super) fn provider(context: &CommonTlsContext) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    if !context.cipher_suites.is_empty() {
        // The suites of TLS 1.3 are not configurable, as in Envoy.
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend(context.cipher_suites.iter().copied().map(tls12_suite));
    }
    if !context.ecdh_curves.is_empty() {
        provider.kx_groups = context.ecdh_curves.iter().copied().map(group).collect();
    } else if cfg!(feature = "prefer-post-quantum") {
        provider.kx_groups = KeyExchangeGroup::ALL.map(group).into();
    }
    Arc::new(provider)
}

/// The versions of a context, at least one.
pub(super) fn versions(context: &CommonTlsContext) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match (context.min_version, context.max_version) {
        (Some(TlsVersion::Tls13), _) => &BOTH[..1],
        (_, Some(TlsVersion::Tls12)) => &BOTH[1..],
        (Some(TlsVersion::Tls12) | None, Some(TlsVersion::Tls13) | None) => &BOTH,
    }
}

fn tls12_suite(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdheEcdsaAes128GcmSha256 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheRsaAes128GcmSha256 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdheEcdsaAes256GcmSha384 => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheRsaAes256GcmSha384 => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdheEcdsaChacha20Poly1305 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdheRsaChacha20Poly1305 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group(group: KeyExchangeGroup) -> &'static dyn SupportedKxGroup {
    match group {
        KeyExchangeGroup::X25519 => kx_group::X25519,
        KeyExchangeGroup::P256 => kx_group::SECP256R1,
        KeyExchangeGroup::P384 => kx_group::SECP384R1,
        KeyExchangeGroup::X25519MlKem768 => kx_group::X25519MLKEM768,
    }
}

/// The name of a negotiated suite in the notation of OpenSSL, as Envoy writes it.
pub(super) fn suite_name(suite: SupportedCipherSuite) -> Arc<str> {
    let known = CipherSuite::ALL.into_iter().find(|known| tls12_suite(*known).suite() == suite.suite());
    let name = match (known, suite.suite().as_str()) {
        (Some(known), _) => known.as_str(),
        (None, Some(name)) => name,
        (None, None) => "",
    };
    // rustls writes TLS13_AES_256_GCM_SHA384 for TLS_AES_256_GCM_SHA384.
    name.replace("TLS13_", "TLS_").into()
}
