//! `envoy.extensions.transport_sockets.tls.v3`: contexts of transport security, and secrets.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_core::identity::TrustDomain;
use mesh_core::model::{
    CertificateSource, CertificateValidationContext, CipherSuite, CommonTlsContext, DownstreamTlsContext,
    KeyExchangeGroup, SanKind, SanMatcher, Secret, SecretValue, StringMatcher, TlsCertificate, TrustBundle,
    UpstreamTlsContext, ValidationSource,
};
use mesh_core::tls::TlsVersion;

use super::config_source;
use super::data_source;
use super::field::{At, Result, fields};
use super::value::{enumeration, list, optional, required, string_matcher, unpack};
use crate::proto::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
use crate::proto::envoy::extensions::transport_sockets::tls::v3::{
    self as proto, SdsSecretConfig, SpiffeCertValidatorConfig, SubjectAltNameMatcher, TlsParameters,
    certificate_validation_context::TrustChainVerification,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    downstream_tls_context::{OcspStaplePolicy, SessionTicketKeysType},
    secret::Type,
    spiffe_cert_validator_config,
    subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol,
};

/// Maximum size of a certificate chain, a key or a bundle, in bytes.
const MAX_PEM: u32 = 1024 * 1024;

/// Cipher suites that Envoy knows, but that lack forward secrecy or authenticated encryption.
const WEAK_SUITES: [&str; 10] = [
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "DES-CBC3-SHA",
];

/// The context of connections from clients.
pub(super) fn downstream(at: &At<'_>, context: &proto::DownstreamTlsContext) -> Result<DownstreamTlsContext> {
    fields! {
        proto::DownstreamTlsContext = context, at;
        use {
            common_tls_context, require_client_certificate, require_sni, disable_stateful_session_resumption,
            ocsp_staple_policy, full_scan_certs_on_sni_mismatch, session_ticket_keys_type, prefer_client_ciphers,
        }
        ignore {}
        refuse { session_timeout }
    }
    if *require_sni == Some(true) {
        return Err(at.field("require_sni").refuse("true: not supported"));
    }
    let policy_at = at.field("ocsp_staple_policy");
    if enumeration::<OcspStaplePolicy>(&policy_at, *ocsp_staple_policy)? != OcspStaplePolicy::LenientStapling {
        return Err(policy_at.refuse("only LENIENT_STAPLING is supported"));
    }
    let mut model = DownstreamTlsContext::default();
    model.common = common(at, common_tls_context.as_ref())?;
    if model.common.certificates.is_empty() {
        return Err(at.field("common_tls_context").refuse("a server needs a certificate"));
    }
    model.require_client_certificate = require_client_certificate.unwrap_or_default();
    model.prefer_client_ciphers = *prefer_client_ciphers;
    model.full_scan_certs_on_sni_mismatch = full_scan_certs_on_sni_mismatch.unwrap_or_default();
    match session_ticket_keys_type {
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disable)) => {
            // Sessions are resumed by tickets only.
            model.disable_session_resumption = *disable;
        }
        Some(
            SessionTicketKeysType::SessionTicketKeys(_) | SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_),
        ) => {
            at.field("session_ticket_keys").ignore("each process makes keys of its own");
        }
        None => {}
    }
    if *disable_stateful_session_resumption {
        at.field("disable_stateful_session_resumption").ignore("sessions are never kept by the server");
    }
    Ok(model)
}

/// The context of connections to endpoints.
pub(super) fn upstream(at: &At<'_>, context: &proto::UpstreamTlsContext) -> Result<UpstreamTlsContext> {
    fields! {
        proto::UpstreamTlsContext = context, at;
        use {
            common_tls_context, sni, auto_host_sni, auto_sni_san_validation, allow_renegotiation, max_session_keys,
            enforce_rsa_key_usage,
        }
        ignore {}
        refuse {}
    }
    if *allow_renegotiation {
        return Err(at.field("allow_renegotiation").refuse("true: not supported"));
    }
    let mut model = UpstreamTlsContext::default();
    model.common = common(at, common_tls_context.as_ref())?;
    if model.common.min_version != Some(TlsVersion::Tls13) {
        // Envoy's default for clients. With TLS 1.3, a client learns only after its handshake that it is refused.
        model.common.max_version.get_or_insert(TlsVersion::Tls12);
    }
    model.sni = (!sni.is_empty()).then(|| sni.as_str().into());
    model.auto_host_sni = *auto_host_sni;
    model.auto_sni_san_validation = *auto_sni_san_validation;
    model.max_session_keys = *max_session_keys;
    model.enforce_rsa_key_usage = enforce_rsa_key_usage.unwrap_or_default();
    if model.common.certificates.len() > 1 {
        return Err(at.field("common_tls_context").field("tls_certificates").refuse("a client has one certificate"));
    }
    Ok(model)
}

/// A secret.
pub(super) fn secret(at: &At<'_>, message: &proto::Secret) -> Result<Secret> {
    let proto::Secret { name, r#type } = message;
    let value = match required(&at.field("type"), r#type.as_ref())? {
        Type::TlsCertificate(message) => {
            SecretValue::TlsCertificate(certificate(&at.field("tls_certificate"), message)?)
        }
        Type::ValidationContext(message) => {
            SecretValue::ValidationContext(validation(&at.field("validation_context"), message)?)
        }
        Type::SessionTicketKeys(_) => return Err(at.field("session_ticket_keys").refuse("not supported")),
        Type::GenericSecret(_) => return Err(at.field("generic_secret").refuse("not supported")),
    };
    Ok(Secret { name: name.as_str().into(), value })
}

fn common(at: &At<'_>, context: Option<&proto::CommonTlsContext>) -> Result<CommonTlsContext> {
    let at = at.field("common_tls_context");
    let mut model = CommonTlsContext::default();
    let Some(context) = context else { return Ok(model) };
    fields! {
        proto::CommonTlsContext = context, at;
        use {
            tls_params, tls_certificates, tls_certificate_sds_secret_configs, tls_certificate_provider_instance,
            tls_certificate_certificate_provider_instance, alpn_protocols, validation_context_type,
        }
        ignore {}
        refuse { custom_tls_certificate_selector, tls_certificate_certificate_provider, custom_handshaker, key_log }
    }
    if let Some(params) = tls_params {
        parameters(&at.field("tls_params"), params, &mut model)?;
    }
    let inline = list(&at, "tls_certificates", tls_certificates, certificate)?;
    let inline = inline.into_iter().map(|certificate| CertificateSource::Inline(Arc::new(certificate)));
    let named = list(&at, "tls_certificate_sds_secret_configs", tls_certificate_sds_secret_configs, sds)?;
    model.certificates = inline.chain(named.into_iter().map(CertificateSource::Secret)).collect();
    let is_provider_set =
        tls_certificate_provider_instance.is_some() || tls_certificate_certificate_provider_instance.is_some();
    if is_provider_set {
        let at = at.field("tls_certificate_provider_instance");
        // Control planes that serve Envoy and gRPC with one cluster set both.
        if model.certificates.is_empty() {
            return Err(at.refuse("not supported"));
        }
        at.ignore("the certificate comes from a secret");
    }
    model.alpn_protocols = list(&at, "alpn_protocols", alpn_protocols, |at, name| match name.len() {
        1..=255 => Ok(name.as_str().into()),
        length => Err(at.refuse(format_args!("{length} bytes are not in 1..=255"))),
    })?;
    model.validation = optional(&at, validation_context_type.as_ref(), validation_source)?;
    Ok(model)
}

fn validation_source(at: &At<'_>, source: &ValidationContextType) -> Result<ValidationSource> {
    let mut model = ValidationSource::default();
    match source {
        ValidationContextType::ValidationContext(context) => {
            let at = at.field("validation_context");
            model.context = validation(&at, context)?;
            model.trust_bundles = trust_bundles(&at, context)?;
        }
        ValidationContextType::ValidationContextSdsSecretConfig(config) => {
            model.secret = Some(sds(&at.field("validation_context_sds_secret_config"), config)?);
        }
        ValidationContextType::CombinedValidationContext(combined) => {
            let at = at.field("combined_validation_context");
            fields! {
                CombinedCertificateValidationContext = combined, at;
                use {
                    default_validation_context, validation_context_sds_secret_config,
                    validation_context_certificate_provider_instance,
                }
                ignore {}
                refuse { validation_context_certificate_provider }
            }
            let context_at = at.field("default_validation_context");
            model.context = optional(&context_at, default_validation_context.as_ref(), validation)?.unwrap_or_default();
            model.trust_bundles = optional(&context_at, default_validation_context.as_ref(), trust_bundles)?.flatten();
            let secret_at = at.field("validation_context_sds_secret_config");
            model.secret = optional(&secret_at, validation_context_sds_secret_config.as_ref(), sds)?;
            if validation_context_certificate_provider_instance.is_some() {
                let at = at.field("validation_context_certificate_provider_instance");
                if model.secret.is_none() {
                    return Err(at.refuse("not supported"));
                }
                at.ignore("the authorities come from a secret");
            }
            return Ok(model);
        }
        ValidationContextType::ValidationContextCertificateProvider(_) => {
            return Err(at.field("validation_context_certificate_provider").refuse("not supported"));
        }
        ValidationContextType::ValidationContextCertificateProviderInstance(_) => {
            return Err(at.field("validation_context_certificate_provider_instance").refuse("not supported"));
        }
    }
    Ok(model)
}

/// The name of a secret in the store.
fn sds(at: &At<'_>, config: &SdsSecretConfig) -> Result<Arc<str>> {
    let SdsSecretConfig { name, sds_config } = config;
    if name.is_empty() {
        return Err(at.field("name").refuse("is empty"));
    }
    // Without a source, Envoy takes a static secret of the bootstrap.
    let Some(source) = sds_config else { return Ok(name.as_str().into()) };
    config_source::name_in_store(&at.field("sds_config"), source, name)
}

fn parameters(at: &At<'_>, params: &TlsParameters, model: &mut CommonTlsContext) -> Result<()> {
    fields! {
        TlsParameters = params, at;
        use { tls_minimum_protocol_version, tls_maximum_protocol_version, cipher_suites, ecdh_curves }
        ignore {}
        refuse { signature_algorithms, compliance_policies }
    }
    let min_at = at.field("tls_minimum_protocol_version");
    model.min_version = match enumeration(&min_at, *tls_minimum_protocol_version)? {
        TlsProtocol::TlsAuto => None,
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            min_at.ignore("TLS 1.2 is the lowest version that is supported");
            None
        }
        TlsProtocol::TlSv12 => Some(TlsVersion::Tls12),
        TlsProtocol::TlSv13 => Some(TlsVersion::Tls13),
    };
    let max_at = at.field("tls_maximum_protocol_version");
    model.max_version = match enumeration(&max_at, *tls_maximum_protocol_version)? {
        TlsProtocol::TlsAuto => None,
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            return Err(max_at.refuse("TLS 1.2 is the lowest version that is supported"));
        }
        TlsProtocol::TlSv12 => Some(TlsVersion::Tls12),
        TlsProtocol::TlSv13 => Some(TlsVersion::Tls13),
    };
    if model.min_version > model.max_version.or(Some(TlsVersion::Tls13)) {
        return Err(max_at.refuse("is lower than tls_minimum_protocol_version"));
    }
    // A group of equal preference is written [A|B].
    let split = |names: &[String]| -> Vec<String> {
        let all = names.iter().flat_map(|name| name.trim_matches(['[', ']']).split(['|', ':']));
        all.map(ToOwned::to_owned).collect()
    };
    for (index, name) in split(cipher_suites).iter().enumerate() {
        let at = at.item("cipher_suites", index);
        match CipherSuite::ALL.into_iter().find(|suite| suite.as_str() == name) {
            Some(suite) => model.cipher_suites.push(suite),
            None if WEAK_SUITES.contains(&name.as_str()) => at.ignore(format_args!("{name} is not secure enough")),
            None => return Err(at.refuse(format_args!("{name:?} is not a cipher suite of TLS 1.2"))),
        }
    }
    if !cipher_suites.is_empty() && model.cipher_suites.is_empty() {
        return Err(at.field("cipher_suites").refuse("none of them is supported"));
    }
    for (index, name) in split(ecdh_curves).iter().enumerate() {
        let at = at.item("ecdh_curves", index);
        match KeyExchangeGroup::ALL.into_iter().find(|group| group.as_str() == name) {
            Some(group) => model.ecdh_curves.push(group),
            None if name == "P-521" => at.ignore("P-521 is not supported"),
            None => return Err(at.refuse(format_args!("{name:?} is not a group of key exchange"))),
        }
    }
    if !ecdh_curves.is_empty() && model.ecdh_curves.is_empty() {
        return Err(at.field("ecdh_curves").refuse("none of them is supported"));
    }
    Ok(())
}

fn pem(at: &At<'_>, source: &DataSource) -> Result<bytes::Bytes> {
    data_source::read(at, source, MAX_PEM)
}

fn certificate(at: &At<'_>, message: &proto::TlsCertificate) -> Result<TlsCertificate> {
    fields! {
        proto::TlsCertificate = message, at;
        use { certificate_chain, private_key }
        ignore { watched_directory: "the files are read again with the next version of the resource" }
        refuse { pkcs12, private_key_provider, password, ocsp_staple, signed_certificate_timestamp, tls_params }
    }
    let part = |name, source: Option<&DataSource>| {
        let at = at.field(name);
        pem(&at, required(&at, source)?)
    };
    let (chain, key) =
        at.both(part("certificate_chain", certificate_chain.as_ref()), part("private_key", private_key.as_ref()))?;
    Ok(TlsCertificate::new(chain, key))
}

fn validation(at: &At<'_>, message: &proto::CertificateValidationContext) -> Result<CertificateValidationContext> {
    fields! {
        proto::CertificateValidationContext = message, at;
        use {
            trusted_ca, ca_certificate_provider_instance, system_root_certs, verify_certificate_spki,
            verify_certificate_hash, match_typed_subject_alt_names, match_subject_alt_names,
            require_signed_certificate_timestamp, crl, allow_expired_certificate, trust_chain_verification,
            custom_validator_config, only_verify_leaf_cert_crl, max_verify_depth, suppress_client_ca_list,
        }
        ignore { watched_directory: "the files are read again with the next version of the resource" }
        refuse {}
    }
    if *require_signed_certificate_timestamp == Some(true) {
        return Err(at.field("require_signed_certificate_timestamp").refuse("true: not supported"));
    }
    let mut model = CertificateValidationContext::default();
    model.trusted_ca = optional(&at.field("trusted_ca"), trusted_ca.as_ref(), pem)?;
    model.system_root_certs = system_root_certs.is_some();
    model.crl = optional(&at.field("crl"), crl.as_ref(), pem)?;
    let validator_at = at.field("custom_validator_config");
    model.trust_domains = optional(&validator_at, custom_validator_config.as_ref(), trust_domains)?.unwrap_or_default();
    if ca_certificate_provider_instance.is_some() {
        let at = at.field("ca_certificate_provider_instance");
        if !model.verifies_chain() {
            return Err(at.refuse("not supported"));
        }
        at.ignore("there are other authorities");
    }
    model.match_subject_alt_names =
        list(at, "match_typed_subject_alt_names", match_typed_subject_alt_names, typed_name)?;
    // Both fields are set by control planes that serve Envoy and gRPC; Envoy reads the old one only without the new one.
    let old_names = list(at, "match_subject_alt_names", match_subject_alt_names, string_matcher)?;
    if model.match_subject_alt_names.is_empty() {
        model.match_subject_alt_names = old_names.iter().flat_map(any_name).collect();
    }
    model.verify_certificate_hash = list(at, "verify_certificate_hash", verify_certificate_hash, hex_hash)?;
    model.verify_certificate_spki = list(at, "verify_certificate_spki", verify_certificate_spki, base64_hash)?;
    model.allow_expired_certificate = *allow_expired_certificate;
    model.accept_untrusted = match enumeration(&at.field("trust_chain_verification"), *trust_chain_verification)? {
        TrustChainVerification::VerifyTrustChain => false,
        TrustChainVerification::AcceptUntrusted => true,
    };
    model.only_verify_leaf_cert_crl = *only_verify_leaf_cert_crl;
    model.max_verify_depth = *max_verify_depth;
    model.suppress_client_ca_list = *suppress_client_ca_list;
    Ok(model)
}

fn typed_name(at: &At<'_>, message: &SubjectAltNameMatcher) -> Result<SanMatcher> {
    let SubjectAltNameMatcher { san_type, matcher, oid: _ } = message;
    let kind_at = at.field("san_type");
    let kind = match enumeration(&kind_at, *san_type)? {
        SanType::Email => SanKind::Email,
        SanType::Dns => SanKind::Dns,
        SanType::Uri => SanKind::Uri,
        SanType::IpAddress => SanKind::IpAddress,
        SanType::Unspecified | SanType::OtherName => {
            return Err(kind_at.refuse("only EMAIL, DNS, URI and IP_ADDRESS are supported"));
        }
    };
    let matcher_at = at.field("matcher");
    Ok(SanMatcher { kind, matcher: string_matcher(&matcher_at, required(&matcher_at, matcher.as_ref())?)? })
}

/// A matcher of names of any kind.
fn any_name(matcher: &StringMatcher) -> [SanMatcher; 4] {
    [SanKind::Dns, SanKind::Uri, SanKind::Email, SanKind::IpAddress]
        .map(|kind| SanMatcher { kind, matcher: matcher.clone() })
}

/// The authorities of trust domains.
fn trust_domains(at: &At<'_>, config: &TypedExtensionConfig) -> Result<Vec<TrustBundle>> {
    let (at, message) = spiffe_validator(at, config)?;
    fields! {
        SpiffeCertValidatorConfig = &message, at;
        use { trust_domains, trust_bundles }
        ignore {}
        refuse {}
    }
    if let Some(source) = trust_bundles {
        if !trust_domains.is_empty() {
            at.field("trust_domains").ignore("trust_bundles takes precedence");
        }
        let at = at.field("trust_bundles");
        return TrustBundle::map_from_json(&data_source::read(&at, source, MAX_PEM)?).map_err(|error| at.refuse(error));
    }
    if trust_domains.is_empty() {
        return Err(at.field("trust_domains").refuse("is empty"));
    }
    let bundles = list(&at, "trust_domains", trust_domains, |at, domain| {
        let spiffe_cert_validator_config::TrustDomain { name, trust_bundle, workload_trust_domain } = domain;
        if !workload_trust_domain.is_empty() {
            return Err(at.field("workload_trust_domain").refuse("not supported"));
        }
        let trust_domain: TrustDomain = name.parse().map_err(|error| at.field("name").refuse(error))?;
        let bundle_at = at.field("trust_bundle");
        Ok(TrustBundle { trust_domain, trust_bundle: pem(&bundle_at, required(&bundle_at, trust_bundle.as_ref())?)? })
    })?;
    for (index, bundle) in bundles.iter().enumerate() {
        if bundles[..index].iter().any(|earlier| earlier.trust_domain == bundle.trust_domain) {
            return Err(at.item("trust_domains", index).field("name").refuse("has two bundles"));
        }
    }
    Ok(bundles)
}

/// The name in the store of the trust bundles that `context` has in a file, which is followed.
fn trust_bundles(at: &At<'_>, context: &proto::CertificateValidationContext) -> Result<Option<Arc<str>>> {
    let Some(config) = &context.custom_validator_config else { return Ok(None) };
    let (_, message) = spiffe_validator(&at.field("custom_validator_config"), config)?;
    Ok(match message.trust_bundles.and_then(|source| source.specifier) {
        Some(Specifier::Filename(path)) => Some(config_source::bundles_in_file(&path)),
        _ => None,
    })
}

fn spiffe_validator<'a>(at: &'a At<'a>, config: &TypedExtensionConfig) -> Result<(At<'a>, SpiffeCertValidatorConfig)> {
    let at = at.field("typed_config");
    let message = unpack(&at, required(&at, config.typed_config.as_ref())?)?;
    Ok((at, message))
}

/// A SHA-256 hash in hexadecimal, with or without colons.
fn hex_hash(at: &At<'_>, text: &String) -> Result<[u8; 32]> {
    let refuse = || at.refuse(format_args!("{text:?} is not a SHA-256 hash in hexadecimal"));
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refuse());
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| refuse())?;
    }
    Ok(hash)
}

/// A SHA-256 hash in base64.
fn base64_hash(at: &At<'_>, text: &String) -> Result<[u8; 32]> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| at.refuse(format_args!("{text:?} is not a SHA-256 hash in base64")))
}

#[cfg(test)]
mod tests;
