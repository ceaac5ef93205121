//! Names and values of Istio's metric labels. Istio "Standard Metrics".
//!
//! Dashboards and Kiali read these labels, so names, order and defaults are exactly Istio's: `unknown` for an unknown
//! value, `latest` for a missing canonical revision, `0` for the code of a missing response, `-` for no response flag.

use std::sync::Arc;

use http::StatusCode;
use smallvec::SmallVec;

use super::ResponseFlags;
use crate::{
    model::{DestinationService, Workload},
    tls::TlsInfo,
};

/// Counter of requests.
pub const ISTIO_REQUESTS_TOTAL: &str = "istio_requests_total";
/// Histogram of request durations in milliseconds.
pub const ISTIO_REQUEST_DURATION_MILLISECONDS: &str = "istio_request_duration_milliseconds";
/// Histogram of request sizes in bytes, headers and body.
pub const ISTIO_REQUEST_BYTES: &str = "istio_request_bytes";
/// Histogram of response sizes in bytes, headers and body.
pub const ISTIO_RESPONSE_BYTES: &str = "istio_response_bytes";

/// Counter of TCP connections made.
pub const ISTIO_TCP_CONNECTIONS_OPENED_TOTAL: &str = "istio_tcp_connections_opened_total";
/// Counter of TCP connections ended.
pub const ISTIO_TCP_CONNECTIONS_CLOSED_TOTAL: &str = "istio_tcp_connections_closed_total";
/// Counter of bytes from the client to the server.
pub const ISTIO_TCP_RECEIVED_BYTES_TOTAL: &str = "istio_tcp_received_bytes_total";
/// Counter of bytes from the server to the client.
pub const ISTIO_TCP_SENT_BYTES_TOTAL: &str = "istio_tcp_sent_bytes_total";

/// Upper bounds of histogram buckets without `+Inf`. Envoy's default for Prometheus.
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

const UNKNOWN: &str = "unknown";
const LATEST: &str = "latest";

/// Label `reporter`: the end of the request that reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client.
    Source,
    /// The server.
    Destination,
}

/// Label `request_protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    /// HTTP other than gRPC.
    Http,
    /// gRPC.
    Grpc,
    /// Bytes that are not understood. There is no response, so metrics have no labels for its codes.
    Tcp,
}

/// Label `connection_security_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionSecurityPolicy {
    /// Not known; reported by clients.
    Unknown,
    /// Without TLS.
    None,
    /// With mutual TLS.
    MutualTls,
}

/// The data of one request's labels.
#[derive(Clone, Copy, Debug)]
pub struct RequestLabels<'a> {
    /// The end that reports.
    pub reporter: Reporter,
    /// The client's workload.
    pub source: Option<&'a Workload>,
    /// The server's workload.
    pub destination: Option<&'a Workload>,
    /// The client's identity: the URI name of its certificate, verified if the server reports it; `None` = the one of its
    /// workload.
    pub source_principal: Option<&'a str>,
    /// The server's identity, likewise.
    pub destination_principal: Option<&'a str>,
    /// The service that was called.
    pub destination_service: Option<&'a DestinationService>,
    /// The protocol.
    pub request_protocol: RequestProtocol,
    /// Status of the response; `None` if there was no response.
    pub response_code: Option<StatusCode>,
    /// gRPC status of the response to a gRPC request.
    pub grpc_response_status: Option<u32>,
    /// Response flags.
    pub response_flags: ResponseFlags,
    /// Security of the connection.
    pub connection_security_policy: ConnectionSecurityPolicy,
}

/// The labels of HTTP and gRPC metrics, in Istio's order. TCP metrics have the same without those of responses.
pub const REQUEST_LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// The labels that only requests have.
const RESPONSE_LABELS: [&str; 2] = ["response_code", "grpc_response_status"];

impl RequestLabels<'_> {
    /// Calls `visit` with the name and value of each label, in the order of [`REQUEST_LABELS`]. Does not allocate.
    pub fn for_each(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        let mut flags = SmallVec::<[u8; 64]>::new();
        let flags = flags_text(self.response_flags, &mut flags);
        let code = self.response_code;
        let (source, destination) = (Peer(self.source), Peer(self.destination));
        let service = |field: fn(&DestinationService) -> &str| self.destination_service.map_or("", field);
        // A request to no particular service counts for the server's own service.
        let fallback = match self.reporter {
            Reporter::Source => UNKNOWN,
            Reporter::Destination => destination.known(|workload| &workload.canonical_service),
        };
        let values: [&str; 25] = [
            self.reporter.as_str(),
            source.known(|workload| &workload.name),
            source.known(|workload| &workload.canonical_service),
            source.canonical_revision(),
            self.source_namespace(),
            self.source_principal.unwrap_or_else(|| source.known(|workload| &workload.principal)),
            source.known(|workload| &workload.app),
            source.known(|workload| &workload.version),
            source.known(|workload| &workload.cluster),
            destination.known(|workload| &workload.name),
            self.destination_namespace(),
            self.destination_principal.unwrap_or_else(|| destination.known(|workload| &workload.principal)),
            destination.known(|workload| &workload.app),
            destination.known(|workload| &workload.version),
            or(service(|service| &service.host), fallback),
            destination.known(|workload| &workload.canonical_service),
            destination.canonical_revision(),
            or(service(|service| &service.name), fallback),
            self.service_namespace(),
            destination.known(|workload| &workload.cluster),
            self.request_protocol.as_str(),
            code.as_ref().map_or("0", StatusCode::as_str),
            self.grpc_response_status.map_or("", grpc_status_text),
            flags,
            self.connection_security_policy.as_str(),
        ];
        let has_response = self.request_protocol != RequestProtocol::Tcp;
        for (name, value) in REQUEST_LABELS.into_iter().zip(values) {
            if has_response || !RESPONSE_LABELS.contains(&name) {
                visit(name, value);
            }
        }
    }

    /// The namespace in the identity of a peer takes precedence over what the peer says about itself.
    fn source_namespace(&self) -> &str {
        let proven = self.source_principal.filter(|_| self.reporter == Reporter::Destination);
        proven.and_then(namespace_of).unwrap_or_else(|| Peer(self.source).known(|workload| &workload.namespace))
    }

    fn destination_namespace(&self) -> &str {
        let proven = self.destination_principal.filter(|_| self.reporter == Reporter::Source);
        proven.and_then(namespace_of).unwrap_or_else(|| Peer(self.destination).known(|workload| &workload.namespace))
    }

    /// A server reports its own namespace. A client reports the namespace of the service, or else of the workload.
    fn service_namespace(&self) -> &str {
        let of_service = self.destination_service.map_or("", |service| &*service.namespace);
        let of_workload = self.destination_namespace();
        let (first, second) = match self.reporter {
            Reporter::Source => (of_service, of_workload),
            Reporter::Destination => (of_workload, of_service),
        };
        [first, second].into_iter().find(|namespace| !["", UNKNOWN].contains(namespace)).unwrap_or(UNKNOWN)
    }
}

/// The namespace in `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
fn namespace_of(principal: &str) -> Option<&str> {
    let (_, rest) = principal.split_once("/ns/")?;
    rest.split('/').next().filter(|namespace| !namespace.is_empty())
}

struct Peer<'a>(Option<&'a Workload>);

impl<'a> Peer<'a> {
    fn known(&self, field: fn(&Workload) -> &str) -> &'a str {
        or(self.0.map_or("", field), UNKNOWN)
    }

    fn canonical_revision(&self) -> &'a str {
        or(self.0.map_or("", |workload| &workload.canonical_revision), LATEST)
    }
}

fn or<'a>(value: &'a str, fallback: &'a str) -> &'a str {
    if value.is_empty() { fallback } else { value }
}

fn flags_text(flags: ResponseFlags, buffer: &mut SmallVec<[u8; 64]>) -> &str {
    if let Some(name) = flags.as_static_str() {
        return name;
    }
    for (_, short, _) in flags.iter() {
        buffer.extend_from_slice(if buffer.is_empty() { b"" } else { b"," });
        buffer.extend_from_slice(short.as_bytes());
    }
    std::str::from_utf8(buffer).expect("flag names are ASCII")
}

/// Unassigned numbers share one value, so that an upstream cannot create time series at will.
fn grpc_status_text(status: u32) -> &'static str {
    const NUMBERS: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    usize::try_from(status).ok().and_then(|status| NUMBERS.get(status)).copied().unwrap_or(UNKNOWN)
}

impl Reporter {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

impl Reporter {
    /// The identities of client and server by their certificates, in the connection `tls` of the reporter to its peer.
    #[must_use]
    pub fn principals(self, tls: Option<&TlsInfo>) -> [Option<&Arc<str>>; 2] {
        let own = tls.and_then(TlsInfo::local_uri_san);
        let peer = tls.and_then(TlsInfo::principal);
        match self {
            Self::Source => [own, peer],
            Self::Destination => [peer, own],
        }
    }
}

impl RequestProtocol {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

impl ConnectionSecurityPolicy {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => UNKNOWN,
            Self::None => "none",
            Self::MutualTls => "mutual_tls",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &RequestLabels<'_>) -> String {
        let mut text = String::new();
        labels.for_each(&mut |name, value| text.push_str(&format!("{name}={value} ")));
        text
    }

    const NOTHING: RequestLabels<'static> = RequestLabels {
        reporter: Reporter::Source,
        source: None,
        destination: None,
        source_principal: None,
        destination_principal: None,
        destination_service: None,
        request_protocol: RequestProtocol::Http,
        response_code: None,
        grpc_response_status: None,
        response_flags: ResponseFlags::NONE,
        connection_security_policy: ConnectionSecurityPolicy::Unknown,
    };

    #[test]
    fn unknown_values_have_istios_defaults() {
        assert_eq!(
            labels(&NOTHING),
            "reporter=source source_workload=unknown source_canonical_service=unknown \
             source_canonical_revision=latest source_workload_namespace=unknown source_principal=unknown \
             source_app=unknown source_version=unknown source_cluster=unknown destination_workload=unknown \
             destination_workload_namespace=unknown destination_principal=unknown destination_app=unknown \
             destination_version=unknown destination_service=unknown destination_canonical_service=unknown \
             destination_canonical_revision=latest destination_service_name=unknown \
             destination_service_namespace=unknown destination_cluster=unknown request_protocol=http \
             response_code=0 grpc_response_status= response_flags=- connection_security_policy=unknown "
        );
    }

    #[test]
    fn a_tcp_connection_has_no_response() {
        let flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        let text = labels(&RequestLabels { request_protocol: RequestProtocol::Tcp, response_flags: flags, ..NOTHING });
        let end =
            "destination_cluster=unknown request_protocol=tcp response_flags=UF connection_security_policy=unknown ";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn known_values_are_written_under_their_names() {
        let workload = Workload {
            name: "reviews-v1".into(),
            namespace: "default".into(),
            canonical_service: "reviews".into(),
            canonical_revision: "v1".into(),
            app: "reviews".into(),
            version: "v1".into(),
            cluster: "Kubernetes".into(),
            principal: "spiffe://cluster.local/ns/default/sa/reviews".into(),
        };
        let service = DestinationService {
            host: "reviews.default.svc.cluster.local".into(),
            name: "reviews".into(),
            namespace: "default".into(),
        };
        let flags = ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED.union(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT);
        let text = labels(&RequestLabels {
            reporter: Reporter::Destination,
            destination: Some(&workload),
            destination_service: Some(&service),
            request_protocol: RequestProtocol::Grpc,
            response_code: Some(StatusCode::GATEWAY_TIMEOUT),
            grpc_response_status: Some(4),
            response_flags: flags,
            connection_security_policy: ConnectionSecurityPolicy::MutualTls,
            ..NOTHING
        });
        for expected in [
            "reporter=destination ",
            "destination_workload=reviews-v1 destination_workload_namespace=default \
             destination_principal=spiffe://cluster.local/ns/default/sa/reviews destination_app=reviews \
             destination_version=v1 destination_service=reviews.default.svc.cluster.local \
             destination_canonical_service=reviews destination_canonical_revision=v1 \
             destination_service_name=reviews destination_service_namespace=default destination_cluster=Kubernetes \
             request_protocol=grpc response_code=504 grpc_response_status=4 response_flags=URX,UT \
             connection_security_policy=mutual_tls ",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn an_identity_takes_precedence_over_what_a_peer_says_about_itself() {
        let says = Workload { namespace: "sent".into(), principal: "sent".into(), ..Workload::default() };
        let own = "spiffe://cluster.local/ns/own/sa/a";
        for (peer, principal, namespace) in [
            (Some("spiffe://cluster.local/ns/books/sa/b"), "spiffe://cluster.local/ns/books/sa/b", "books"),
            (Some("spiffe://cluster.local/ns//sa/b"), "spiffe://cluster.local/ns//sa/b", "sent"),
            (Some("spiffe://cluster.local"), "spiffe://cluster.local", "sent"),
            (None, "sent", "sent"),
        ] {
            for reporter in [Reporter::Source, Reporter::Destination] {
                let of_client = reporter == Reporter::Destination;
                let text = labels(&RequestLabels {
                    reporter,
                    source: Some(&says),
                    destination: Some(&says),
                    source_principal: if of_client { peer } else { Some(own) },
                    destination_principal: if of_client { Some(own) } else { peer },
                    ..NOTHING
                });
                let (this, that) = if of_client { ("destination", "source") } else { ("source", "destination") };
                let expected = [
                    format!(" {that}_principal={principal} "),
                    format!(" {that}_workload_namespace={namespace} "),
                    format!(" {this}_principal={own} "),
                    format!(" {this}_workload_namespace=sent "),
                ];
                for label in expected {
                    assert!(text.contains(&label), "{label}: {text}");
                }
            }
        }
    }

    #[test]
    fn labels_of_an_unknown_service_come_from_the_workload() {
        let workload =
            Workload { namespace: "books".into(), canonical_service: "reviews".into(), ..Workload::default() };
        let service = |host: &str, name: &str, namespace: &str| {
            Some(DestinationService { host: host.into(), name: name.into(), namespace: namespace.into() })
        };
        for (reporter, service, expected) in [
            (Reporter::Source, None, ["unknown", "unknown", "books"]),
            (Reporter::Source, service("a.b", "a", ""), ["a.b", "a", "books"]),
            (Reporter::Source, service("a.b", "a", "b"), ["a.b", "a", "b"]),
            (Reporter::Source, service("", "PassthroughCluster", ""), ["unknown", "PassthroughCluster", "books"]),
            (Reporter::Destination, None, ["reviews", "reviews", "books"]),
            (Reporter::Destination, service("a.b", "a", "b"), ["a.b", "a", "books"]),
            (
                Reporter::Destination,
                service("", "InboundPassthroughCluster", ""),
                ["reviews", "InboundPassthroughCluster", "books"],
            ),
        ] {
            let text = labels(&RequestLabels {
                reporter,
                destination: Some(&workload),
                destination_service: service.as_ref(),
                ..NOTHING
            });
            let [host, name, namespace] = expected;
            for label in [
                format!(" destination_service={host} "),
                format!(" destination_service_name={name} "),
                format!(" destination_service_namespace={namespace} "),
            ] {
                assert!(text.contains(&label), "{label} in {text}");
            }
        }
    }

    #[test]
    fn unassigned_grpc_statuses_share_one_value() {
        assert!(
            labels(&RequestLabels { grpc_response_status: Some(17), ..NOTHING })
                .contains("grpc_response_status=unknown ")
        );
    }
}
