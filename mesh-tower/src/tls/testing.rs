//! A certificate authority for tests.

use bytes::Bytes;
use mesh_core::model::{CertificateValidationContext, TlsCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, date_time_ymd,
};

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> Bytes {
        self.0.pem().into()
    }

    /// A context that trusts it.
    pub(crate) fn validation(&self) -> CertificateValidationContext {
        let mut context = CertificateValidationContext::default();
        context.trusted_ca = Some(self.pem());
        context
    }

    /// The certificate of a workload with this URI.
    pub(crate) fn workload(&self, uri: &str) -> TlsCertificate {
        self.issue(|params| params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())])
    }

    /// The certificate of a server with this DNS name.
    pub(crate) fn server(&self, name: &str) -> TlsCertificate {
        self.issue(|params| params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())])
    }

    /// A certificate that is changed by `change` before it is signed.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> TlsCertificate {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        TlsCertificate::new(certificate.pem().into(), key.serialize_pem().into())
    }

    /// A list that revokes the certificate with this serial number.
    pub(crate) fn revocation_list(&self, serial: u64) -> Bytes {
        let revoked = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap().into()
    }
}
