use super::*;
use crate::decode::field::Notes;
use crate::json;

const ADS: &str = "sds_config: {ads: {}}";

/// The context, and the fields without effect.
fn decoded<M: prost::Message + prost::Name + Default, T>(
    yaml: &str,
    decode: fn(&At<'_>, &M) -> Result<T>,
) -> std::result::Result<(T, Vec<String>), String> {
    let message: M = json::from_text(yaml, "test").unwrap_or_else(|error| panic!("{yaml}: {error}"));
    let notes = Notes::default();
    let result = decode(&At::root(&notes), &message);
    match notes.finish(result) {
        Ok((value, ignored)) => Ok((value, ignored.iter().map(ToString::to_string).collect())),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

fn server(common: &str) -> std::result::Result<(CommonTlsContext, Vec<String>), String> {
    let secret = format!("tls_certificate_sds_secret_configs: [{{name: default, {ADS}}}]");
    let yaml = format!("{{common_tls_context: {{{secret}, {common}}}}}");
    decoded(&yaml, downstream).map(|(context, ignored)| (context.common, ignored))
}

fn validation_of(yaml: &str) -> std::result::Result<CertificateValidationContext, String> {
    let (common, _) = server(&format!("validation_context: {{{yaml}}}"))?;
    Ok(common.validation.unwrap().context)
}

#[test]
fn the_context_of_istios_sidecars_is_decoded() {
    let yaml = format!(
        "{{require_client_certificate: true, common_tls_context: {{\
         tls_params: {{tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3, cipher_suites: \
         [ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES128-GCM-SHA256, AES128-GCM-SHA256]}}, \
         alpn_protocols: [istio-peer-exchange, h2], \
         tls_certificate_sds_secret_configs: [{{name: default, {ADS}}}], \
         combined_validation_context: {{\
         default_validation_context: {{match_typed_subject_alt_names: [{{san_type: URI, matcher: {{prefix: 'spiffe://td/'}}}}]}}, \
         validation_context_sds_secret_config: {{name: ROOTCA, {ADS}}}}}}}}}"
    );
    let (context, ignored) = decoded(&yaml, downstream).unwrap();
    assert!(context.require_client_certificate);
    let common = &context.common;
    assert_eq!(common.secret_names().map(|name| &**name).collect::<Vec<_>>(), ["default", "ROOTCA"]);
    assert_eq!(common.cipher_suites, [CipherSuite::EcdheEcdsaAes256GcmSha384, CipherSuite::EcdheRsaAes128GcmSha256]);
    assert_eq!((common.min_version, common.max_version), (Some(TlsVersion::Tls12), Some(TlsVersion::Tls13)));
    assert_eq!(common.alpn_protocols, ["istio-peer-exchange".into(), "h2".into()]);
    let names = &common.validation.as_ref().unwrap().context.match_subject_alt_names;
    assert_eq!((names.len(), names[0].kind), (1, SanKind::Uri));
    assert_eq!(ignored, ["common_tls_context.tls_params.cipher_suites[2]: AES128-GCM-SHA256 is not secure enough"]);
}

#[test]
fn a_client_speaks_tls_12_unless_it_is_told_otherwise() {
    let max = |yaml: &str| decoded(yaml, upstream).unwrap().0.common.max_version;
    assert_eq!(max("{sni: a.test}"), Some(TlsVersion::Tls12));
    let params = |text: &str| format!("{{common_tls_context: {{tls_params: {{{text}}}}}}}");
    assert_eq!(max(&params("tls_maximum_protocol_version: TLSv1_3")), Some(TlsVersion::Tls13));
    assert_eq!(max(&params("tls_minimum_protocol_version: TLSv1_3")), None);
}

#[test]
fn the_old_field_of_names_is_read_only_without_the_new_one() {
    let old = "match_subject_alt_names: [{exact: old}]";
    let names = validation_of(old).unwrap().match_subject_alt_names;
    assert_eq!(names.len(), 4, "a name of any kind");
    let both = format!("{old}, match_typed_subject_alt_names: [{{san_type: DNS, matcher: {{exact: new}}}}]");
    let names = validation_of(&both).unwrap().match_subject_alt_names;
    assert_eq!(names, [SanMatcher { kind: SanKind::Dns, matcher: StringMatcher::exact("new") }]);
}

#[test]
fn hashes_are_decoded() {
    let hex = "AA".to_owned() + &":0b".repeat(31);
    let base64 = "qwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws=";
    let context =
        validation_of(&format!("verify_certificate_hash: ['{hex}'], verify_certificate_spki: ['{base64}']")).unwrap();
    assert_eq!(context.verify_certificate_hash, [std::array::from_fn(|index| if index == 0 { 0xaa } else { 0x0b })]);
    assert_eq!(context.verify_certificate_spki, [std::array::from_fn(|index| if index == 0 { 0xab } else { 0x0b })]);
    let error = validation_of(&format!("verify_certificate_hash: ['{}']", &hex[..62])).unwrap_err();
    assert!(error.contains("not a SHA-256 hash in hexadecimal"), "{error}");
    let error = validation_of("verify_certificate_spki: [qwsL]").unwrap_err();
    assert!(error.contains("not a SHA-256 hash in base64"), "{error}");
}

#[test]
fn trust_domains_have_bundles_of_their_own() {
    let validator = |domains: &str| {
        let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
        format!(
            "custom_validator_config: {{name: spiffe, typed_config: {{'@type': {kind}, trust_domains: [{domains}]}}}}"
        )
    };
    let context = validation_of(&validator("{name: td, trust_bundle: {inline_string: pem}}")).unwrap();
    assert!(context.verifies_chain());
    assert_eq!(
        (context.trust_domains[0].trust_domain.as_str(), &*context.trust_domains[0].trust_bundle),
        ("td", &b"pem"[..])
    );
    let error = validation_of(&validator("{name: TD, trust_bundle: {inline_string: pem}}")).unwrap_err();
    assert!(error.contains("trust_domains[0].name: a trust domain with 'T'"), "{error}");
    let twice = ["{name: td, trust_bundle: {inline_string: pem}}"; 2].join(", ");
    assert!(validation_of(&validator(&twice)).unwrap_err().contains("trust_domains[1].name: has two bundles"));
    assert!(validation_of(&validator("")).unwrap_err().contains("trust_domains: is empty"));
}

#[test]
fn a_map_of_trust_bundles_takes_precedence() {
    let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";
    let decode = |bundles: &str| {
        let old = "trust_domains: [{name: old, trust_bundle: {inline_string: pem}}]";
        let validator = format!("{{name: spiffe, typed_config: {{'@type': {kind}, {old}, trust_bundles: {bundles}}}}}");
        server(&format!("validation_context: {{custom_validator_config: {validator}}}"))
    };
    let map = r#"{"trust_domains": {"td": {"keys": [{"use": "x509-svid", "x5c": ["MQ=="]}]}}}"#;
    let (common, ignored) = decode(&format!("{{inline_string: '{map}'}}")).unwrap();
    let validation = common.validation.unwrap();
    let names = |context: &CertificateValidationContext| {
        context.trust_domains.iter().map(|bundle| bundle.trust_domain.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((names(&validation.context), validation.trust_bundles), (vec!["td".to_owned()], None));
    assert!(ignored.iter().any(|line| line.ends_with("trust_domains: trust_bundles takes precedence")), "{ignored:?}");

    let path = std::env::temp_dir().join(format!("mesh-bundles-{}.json", std::process::id()));
    let file = format!("{{filename: {}}}", path.display());
    assert!(decode(&file).unwrap_err().contains("trust_bundles.filename: "), "there is no such file");
    std::fs::write(&path, map).unwrap();
    let (common, _) = decode(&file).unwrap();
    std::fs::remove_file(&path).unwrap();
    let name = format!("file:@{}", path.display());
    assert_eq!(common.secret_names().map(|name| &**name).collect::<Vec<_>>(), ["default", &name]);
    assert_eq!(common.required_secret_names().count(), 1);
    assert_eq!(names(&common.validation.unwrap().context), ["td"]);

    let error = decode("{inline_string: '{}'}").unwrap_err();
    assert!(error.ends_with("trust_bundles: trust_domains: is missing or empty"), "{error}");
}

#[test]
fn what_would_weaken_security_is_refused_by_name() {
    for (common, reason) in [
        ("tls_params: {tls_maximum_protocol_version: TLSv1_1}", "TLS 1.2 is the lowest version"),
        ("tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_2}", "is lower than"),
        ("tls_params: {cipher_suites: [AES128-SHA]}", "cipher_suites: none of them is supported"),
        ("tls_params: {cipher_suites: [NULL-MD5]}", "\"NULL-MD5\" is not a cipher suite"),
        ("tls_params: {ecdh_curves: [P-512]}", "\"P-512\" is not a group"),
        ("tls_params: {signature_algorithms: [rsa_pkcs1_sha1]}", "signature_algorithms: not supported"),
        ("key_log: {path: /tmp/keys}", "key_log: not supported"),
        ("custom_handshaker: {name: x}", "custom_handshaker: not supported"),
        ("validation_context: {require_signed_certificate_timestamp: true}", "true: not supported"),
        (
            "validation_context: {match_typed_subject_alt_names: [{san_type: OTHER_NAME, matcher: {exact: a}}]}",
            "only EMAIL, DNS, URI and IP_ADDRESS",
        ),
        ("validation_context: {ca_certificate_provider_instance: {instance_name: a}}", "instance: not supported"),
        (
            "validation_context_sds_secret_config: {name: a, sds_config: {path: /x}}",
            "sds_config: a file: only resources of a bootstrap may name files",
        ),
    ] {
        let error = server(common).unwrap_err();
        assert!(error.contains(reason), "{common}: {error}");
    }
    let error = decoded("{common_tls_context: {}}", downstream).unwrap_err();
    assert!(error.contains("a server needs a certificate"), "{error}");
    let own = format!("common_tls_context: {{tls_certificate_sds_secret_configs: [{{name: default, {ADS}}}]}}");
    let error = decoded(&format!("{{{own}, session_timeout: 60s}}"), downstream).unwrap_err();
    assert!(error.contains("session_timeout: not supported"), "{error}");
    let error = decoded("{allow_renegotiation: true}", upstream).unwrap_err();
    assert!(error.contains("allow_renegotiation: true"), "{error}");
    let provider = "{common_tls_context: {tls_certificate_provider_instance: {instance_name: a}}}";
    assert!(decoded(provider, upstream).unwrap_err().contains("tls_certificate_provider_instance: not supported"));
}

#[test]
fn secrets_are_certificates_or_authorities() {
    let of = |yaml: &str| decoded(yaml, secret).map(|(secret, _)| secret);
    let certificate =
        of("{name: a, tls_certificate: {certificate_chain: {inline_string: c}, private_key: {inline_string: k}}}");
    assert_eq!(certificate.unwrap(), Secret::certificate("a", "c".into(), "k".into()));
    let authorities = of("{name: b, validation_context: {trusted_ca: {inline_string: c}}}");
    assert_eq!(authorities.unwrap(), Secret::trusted_ca("b", "c".into()));
    for (yaml, reason) in [
        ("{name: a}", "type: is missing"),
        ("{name: a, generic_secret: {secret: {inline_string: x}}}", "generic_secret: not supported"),
        ("{name: a, tls_certificate: {certificate_chain: {inline_string: c}}}", "private_key: is missing"),
        ("{name: a, tls_certificate: {pkcs12: {inline_string: c}}}", "pkcs12: not supported"),
    ] {
        let error = of(yaml).unwrap_err();
        assert!(error.contains(reason), "{yaml}: {error}");
    }
}
