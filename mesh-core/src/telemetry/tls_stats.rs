//! Statistics of TLS handshakes, `ssl.*` of a listener or a cluster. Envoy "TLS statistics".

use std::sync::Arc;

use super::Counter;
use crate::tls::TlsVersion;

macro_rules! tls_stats {
    ($($(#[$doc:meta])* $field:ident => $name:literal,)*) => {
        /// Statistics of the handshakes of a listener or a cluster.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct TlsStats {
            $($(#[$doc])* pub $field: Arc<Counter>,)*
        }

        impl TlsStats {
            /// Statistics whose counters are those that `counter` returns for their names.
            #[must_use]
            pub fn from_counters(mut counter: impl FnMut(&'static str) -> Arc<Counter>) -> Self {
                Self { $($field: counter($name),)* }
            }

            /// All counters with their names.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, &Arc<Counter>)> {
                [$(($name, &self.$field),)*].into_iter()
            }
        }
    };
}

tls_stats! {
    /// Handshakes that failed for other reasons than the ones below.
    connection_error => "ssl.connection_error",
    /// Handshakes that succeeded.
    handshake => "ssl.handshake",
    /// Handshakes that resumed a session.
    session_reused => "ssl.session_reused",
    /// Handshakes that succeeded without a certificate of the client.
    no_certificate => "ssl.no_certificate",
    /// Handshakes that failed because a client has no certificate.
    fail_verify_no_cert => "ssl.fail_verify_no_cert",
    /// Handshakes that failed because the chain of the peer's certificate is not valid.
    fail_verify_error => "ssl.fail_verify_error",
    /// Handshakes that failed because of the names in the peer's certificate.
    fail_verify_san => "ssl.fail_verify_san",
    /// Handshakes that failed because of a pinned hash.
    fail_verify_cert_hash => "ssl.fail_verify_cert_hash",
    /// Handshakes with TLS 1.2.
    tls12 => "ssl.versions.TLSv1.2",
    /// Handshakes with TLS 1.3.
    tls13 => "ssl.versions.TLSv1.3",
}

impl TlsStats {
    /// Counts a handshake that succeeded.
    pub fn count_handshake(&self, version: TlsVersion, is_resumed: bool) {
        self.handshake.inc();
        match version {
            TlsVersion::Tls12 => self.tls12.inc(),
            TlsVersion::Tls13 => self.tls13.inc(),
        }
        if is_resumed {
            self.session_reused.inc();
        }
    }
}
