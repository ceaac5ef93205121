use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    OtherNameValue, PublicKeyData, SanType, string::Ia5String,
};

use super::*;

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

/// The parameters of a valid certificate of a workload.
fn workload() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![uri("spiffe://td/ns/a/sa/b")];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn der(params: &CertificateParams) -> Vec<u8> {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn read(change: impl FnOnce(&mut CertificateParams)) -> Certificate {
    let mut params = workload();
    change(&mut params);
    Certificate::from_der(&der(&params)).unwrap()
}

fn refused(change: impl FnOnce(&mut CertificateParams)) -> SvidError {
    read(change).svid(Role::Client).unwrap_err()
}

#[test]
fn a_workload_has_one_spiffe_id() {
    let id = read(|_| {}).svid(Role::Server).unwrap();
    assert_eq!(id.as_str(), "spiffe://td/ns/a/sa/b");
    assert_eq!(refused(|params| params.subject_alt_names.clear()), SvidError::UriSans(0));
    let dns =
        |params: &mut CertificateParams| params.subject_alt_names = vec![SanType::DnsName("a.b".try_into().unwrap())];
    assert_eq!(refused(dns), SvidError::UriSans(0));
    for second in ["spiffe://td/ns/a/sa/c", "spiffe://td/ns/a/sa/b", "https://a.b/"] {
        assert_eq!(refused(|params| params.subject_alt_names.push(uri(second))), SvidError::UriSans(2), "{second}");
        assert_eq!(refused(|params| params.subject_alt_names.insert(0, uri(second))), SvidError::UriSans(2));
    }
    for other in ["https://td/a", "", "spiffe://td/", "spiffe://TD/a"] {
        let error = refused(|params| params.subject_alt_names = vec![uri(other)]);
        assert!(matches!(error, SvidError::SpiffeId { .. }), "{other}: {error}");
    }
    let error = refused(|params| params.subject_alt_names = vec![uri("spiffe://td")]);
    assert!(matches!(error, SvidError::NoPath(_)), "{error}");
    // Names of other kinds do no harm.
    let with_dns = read(|params| params.subject_alt_names.push(SanType::DnsName("a.b".try_into().unwrap())));
    assert!(with_dns.svid(Role::Client).is_ok());
}

#[test]
fn the_key_of_a_workload_signs_no_certificates() {
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_eq!(refused(ca), SvidError::Authority);
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        assert_eq!(refused(|params| params.key_usages.push(usage)), SvidError::KeyUsage);
    }
    assert_eq!(refused(|params| params.key_usages.clear()), SvidError::KeyUsage);
    let unsaid = read(|params| params.key_usages.clear());
    assert!(unsaid.workload_identity(Role::Client).is_ok());
    let encipherment = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    assert_eq!(refused(encipherment), SvidError::KeyUsage);
}

#[test]
fn extended_key_usage_limits_the_role() {
    let server = read(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert!(server.svid(Role::Server).is_ok());
    assert_eq!(server.svid(Role::Client), Err(SvidError::ExtendedKeyUsage("client")));
    let client = read(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert_eq!(client.svid(Role::Server), Err(SvidError::ExtendedKeyUsage("server")));
    let none = read(|params| params.extended_key_usages.clear());
    assert!(none.svid(Role::Server).is_ok() && none.svid(Role::Client).is_ok());
}

#[test]
fn names_that_mislead_are_refused() {
    let with = |san: SanType| {
        let mut params = workload();
        params.subject_alt_names.push(san);
        Certificate::from_der(&der(&params))
    };
    let other = |text: &str| SanType::OtherName((vec![1, 2, 3, 4], OtherNameValue::Utf8String(text.to_owned())));
    assert_eq!(with(other("a\0b")), Err(CertificateError::NameByte(0)));
    assert!(with(other("ab")).is_ok());
    for name in ["spiffe://td/a\0", "spiffe://td/a\r\nb"] {
        assert!(matches!(with(uri(name)), Err(CertificateError::NameByte(0 | b'\r'))), "{name:?}");
    }
}

#[test]
fn a_certificate_tells_its_names_and_validity() {
    let certificate = read(|params| {
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "#web + \"more\" ");
        params.serial_number = Some(vec![0, 0x0a, 0xbc].into());
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.subject_alt_names.push(SanType::Rfc822Name("a@b.c".try_into().unwrap()));
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2027, 1, 2);
    });
    let info = &certificate.info;
    assert_eq!(&*info.subject, r#"CN=\#web \+ \"more\"\ ,O=Example\, Inc."#);
    assert_eq!((&*info.issuer, &*info.serial), (&*info.subject, "0abc"));
    assert_eq!(info.ip_sans, ["127.0.0.1".into()]);
    assert_eq!(info.email_sans, ["a@b.c".into()]);
    assert_eq!(info.not_before, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_312_000)));
    assert_eq!(info.not_after, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_798_848_000)));
}

#[test]
fn the_public_key_info_is_part_of_the_certificate() {
    let key = KeyPair::generate().unwrap();
    let der = workload().self_signed(&key).unwrap().der().to_vec();
    let certificate = Certificate::from_der(&der).unwrap();
    assert_eq!(der[certificate.subject_public_key_info], key.subject_public_key_info());
}

#[test]
fn bytes_after_a_certificate_and_other_bytes_are_refused() {
    let mut bytes = der(&workload());
    bytes.push(0);
    assert!(matches!(Certificate::from_der(&bytes), Err(CertificateError::Der(_))));
    for length in [0, 1, 10, bytes.len() - 2] {
        assert!(Certificate::from_der(&bytes[..length]).is_err());
    }
}
