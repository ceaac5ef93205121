//! External authorization of connections, as [`mesh_core::filter::ext_authz`] says. Envoy `envoy.filters.network.ext_authz`.

use std::{sync::Arc, time::SystemTime};

use mesh_core::{
    filter::ext_authz::{Authorization, CheckFormat, NetworkExtAuthz, RequestFacts},
    model::MetadataValue,
    telemetry::{Counter, ResponseFlags, details},
};

use super::Status;
use crate::{
    cluster_client::{ClientOptions, ClusterClient, ClusterClients},
    downstream::Downstream,
    filter::ext_authz::{DURATION, ask_grpc},
    telemetry::Telemetry,
    timer::now,
};

/// Asks a service about connections.
#[derive(Debug)]
pub(super) struct ExtAuthz {
    config: Arc<NetworkExtAuthz>,
    client: Arc<dyn ClusterClient>,
    stats: Stats,
}

/// Envoy `ext_authz.<stat_prefix>.`.
#[derive(Debug)]
struct Stats {
    total: Arc<Counter>,
    ok: Arc<Counter>,
    denied: Arc<Counter>,
    error: Arc<Counter>,
    disabled: Arc<Counter>,
    failure_mode_allowed: Arc<Counter>,
    cx_closed: Arc<Counter>,
}

impl ExtAuthz {
    pub(super) fn new(config: &Arc<NetworkExtAuthz>, telemetry: &Telemetry, clients: &dyn ClusterClients) -> Self {
        let counter =
            |name: &str| telemetry.stats.network_filter_counter(format!("ext_authz.{}.{name}", config.stat_prefix));
        let stats = Stats {
            total: counter("total"),
            ok: counter("ok"),
            denied: counter("denied"),
            error: counter("error"),
            disabled: counter("disabled"),
            failure_mode_allowed: counter("failure_mode_allowed"),
            cx_closed: counter("cx_closed"),
        };
        let options = ClientOptions { timeout: config.service.timeout, ..ClientOptions::default() };
        let client = clients.client(&config.service.cluster, &options);
        Self { config: Arc::clone(config), client, stats }
    }

    pub(super) async fn on_connection(&self, downstream: &mut Downstream) -> Status {
        if !self.config.applies(downstream.dynamic_metadata.as_deref()) {
            self.stats.disabled.inc();
            return Status::Continue;
        }
        self.stats.total.inc();
        let begun = now();
        let check = self.config.check_request(&RequestFacts {
            remote_address: downstream.facts.source,
            local_address: downstream.facts.destination,
            tls: downstream.tls.as_deref(),
            requested_server_name: downstream.requested_server_name(),
            protocol: None,
            start_time: SystemTime::now(),
            stream_id: downstream.id,
            bytes_received: 0,
            dynamic_metadata: downstream.dynamic_metadata.as_deref(),
            route_metadata: None,
        });
        match ask_grpc(&self.config.service, &self.client, &check, CheckFormat::default()).await {
            Authorization::Allowed(allowed) => {
                self.stats.ok.inc();
                let millis = now().saturating_duration_since(begun).as_millis();
                let millis = f64::from(u32::try_from(millis).unwrap_or(u32::MAX));
                let mut fields = match allowed.dynamic_metadata {
                    MetadataValue::Object(fields) => fields,
                    _ => std::collections::BTreeMap::new(),
                };
                fields.insert(DURATION.into(), MetadataValue::Number(millis));
                keep(downstream, MetadataValue::Object(fields));
                Status::Continue
            }
            Authorization::Denied(denied) => {
                self.stats.denied.inc();
                keep(downstream, denied.dynamic_metadata);
                self.close(downstream, details::EXT_AUTHZ_DENIED)
            }
            Authorization::Failed(_) | Authorization::Invalid => {
                self.stats.error.inc();
                if self.config.failure_mode_allow {
                    self.stats.failure_mode_allowed.inc();
                    return Status::Continue;
                }
                self.close(downstream, details::EXT_AUTHZ_ERROR)
            }
        }
    }

    fn close(&self, downstream: &mut Downstream, details: &'static str) -> Status {
        self.stats.cx_closed.inc();
        downstream.closed = Some((ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE, details));
        Status::Close
    }
}

/// Keeps what the service says about a connection.
fn keep(downstream: &mut Downstream, value: MetadataValue) {
    if matches!(&value, MetadataValue::Object(fields) if !fields.is_empty()) {
        let metadata = downstream.dynamic_metadata.get_or_insert_default();
        metadata.filter_metadata.insert(NetworkExtAuthz::METADATA.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, time::Duration};

    use bytes::Bytes;
    use http::{HeaderValue, Request, Response};
    use mesh_core::{
        filter::ext_authz::{Allowed, CheckCodec, CheckRequest, Denied, GrpcService},
        listener::ConnectionFacts,
        model::{ClusterName, Metadata, MetadataMatcher, StringMatcher, ValueMatcher},
        tls::{PeerIdentity, TlsInfo},
    };
    use parking_lot::Mutex;

    use super::*;
    use crate::Body;

    /// A service that decides by its own answer, and keeps what it was asked.
    #[derive(Debug, Default)]
    struct Codec(Mutex<Vec<CheckRequest>>);

    impl CheckCodec for Codec {
        fn encode(&self, check: &CheckRequest, _: CheckFormat) -> Bytes {
            self.0.lock().push(check.clone());
            Bytes::new()
        }

        fn decode(&self, message: &[u8]) -> Option<Authorization> {
            let metadata = MetadataValue::Object([("who".into(), MetadataValue::String("a".into()))].into());
            match message {
                b"ok" => {
                    let mut allowed = Allowed::default();
                    allowed.dynamic_metadata = metadata;
                    Some(Authorization::Allowed(Box::new(allowed)))
                }
                b"no" => {
                    let mut denied = Denied::new(None);
                    denied.dynamic_metadata = metadata;
                    Some(Authorization::Denied(Box::new(denied)))
                }
                _ => None,
            }
        }
    }

    #[derive(Clone, Copy, Debug)]
    struct Service(&'static str);

    impl ClusterClients for Service {
        fn client(&self, cluster: &ClusterName, options: &ClientOptions) -> Arc<dyn ClusterClient> {
            assert_eq!((cluster.as_str(), options.timeout), ("authz", Duration::from_millis(200)));
            Arc::new(*self)
        }
    }

    impl ClusterClient for Service {
        fn send(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send + '_>> {
            assert_eq!(request.uri().path(), "/envoy.service.auth.v3.Authorization/Check");
            let length = u8::try_from(self.0.len()).unwrap();
            let mut response =
                Response::new(Body::from(Bytes::from([&[0, 0, 0, 0, length], self.0.as_bytes()].concat())));
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
            Box::pin(async { response })
        }
    }

    /// What became of a connection, the connection, and the statistics that are not 0.
    async fn decided(
        answer: &'static str,
        change: impl FnOnce(&mut NetworkExtAuthz),
    ) -> (Status, Downstream, Vec<&'static str>) {
        let mut config = NetworkExtAuthz::new(GrpcService::new("authz", Arc::<Codec>::default()), "tcp");
        change(&mut config);
        let telemetry = Telemetry::default();
        let filter = ExtAuthz::new(&Arc::new(config), &telemetry, &Service(answer));
        let mut downstream = Downstream::new(ConnectionFacts::default());
        let status = filter.on_connection(&mut downstream).await;
        let names = ["total", "ok", "denied", "error", "disabled", "failure_mode_allowed", "cx_closed"];
        let count = |name: &&str| telemetry.stats.network_filter_counter(format!("ext_authz.tcp.{name}")).get() > 0;
        (status, downstream, names.into_iter().filter(count).collect())
    }

    fn says(downstream: &Downstream) -> Vec<&str> {
        let Some(MetadataValue::Object(fields)) =
            downstream.dynamic_metadata.as_ref().and_then(|all| all.filter_metadata.get(NetworkExtAuthz::METADATA))
        else {
            return Vec::new();
        };
        fields.keys().map(|name| &**name).collect()
    }

    #[tokio::test]
    async fn the_service_decides_about_a_connection() {
        let (status, downstream, stats) = decided("ok", |_| {}).await;
        assert_eq!((status, stats), (Status::Continue, vec!["total", "ok"]));
        assert_eq!((says(&downstream), downstream.closed), (vec!["ext_authz_duration", "who"], None));
        let (status, downstream, stats) = decided("no", |_| {}).await;
        assert_eq!((status, stats), (Status::Close, vec!["total", "denied", "cx_closed"]));
        assert_eq!(says(&downstream), ["who"]);
        let flags = ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE;
        assert_eq!(downstream.closed, Some((flags, "ext_authz_denied")));
    }

    #[tokio::test]
    async fn a_service_that_fails_allows_connections_only_on_request() {
        let (status, downstream, stats) = decided("?", |_| {}).await;
        assert_eq!((status, stats), (Status::Close, vec!["total", "error", "cx_closed"]));
        assert_eq!(downstream.closed.map(|(_, details)| details), Some("ext_authz_error"));
        let (status, downstream, stats) = decided("?", |config| config.failure_mode_allow = true).await;
        assert_eq!((status, stats), (Status::Continue, vec!["total", "error", "failure_mode_allowed"]));
        assert_eq!(downstream.closed, None);
        let (status, ..) = decided("no", |config| config.failure_mode_allow = true).await;
        assert_eq!(status, Status::Close, "to deny is no failure");
    }

    #[tokio::test]
    async fn connections_that_no_earlier_filter_has_chosen_are_not_checked() {
        let chosen = ValueMatcher::String(StringMatcher::exact("policy"));
        let matcher = MetadataMatcher::new("rbac", vec!["id".into()], chosen);
        let (status, _, stats) = decided("no", |config| config.filter_enabled_metadata = Some(matcher)).await;
        assert_eq!((status, stats), (Status::Continue, vec!["disabled"]));
    }

    #[tokio::test]
    async fn the_service_learns_who_connects() {
        let codec = Arc::<Codec>::default();
        let mut config = NetworkExtAuthz::new(GrpcService::new("authz", Arc::<Codec>::clone(&codec)), "tcp");
        config.metadata_context_namespaces = vec!["known".into()];
        config.include_tls_session = true;
        let filter = ExtAuthz::new(&Arc::new(config), &Telemetry::default(), &Service("ok"));
        let mut downstream = Downstream::new(ConnectionFacts::default());
        downstream.facts.source = Some(([10, 0, 0, 1], 1).into());
        downstream.facts.destination = Some(([10, 0, 0, 2], 5432).into());
        let mut metadata = Metadata::default();
        for name in ["known", "other"] {
            metadata.filter_metadata.insert(name.into(), MetadataValue::Bool(true));
        }
        downstream.dynamic_metadata = Some(Box::new(metadata));
        let mut peer = PeerIdentity::default();
        Arc::get_mut(&mut peer.certificate).unwrap().uri_sans = vec!["spiffe://td/ns/a/sa/b".into()];
        peer.is_verified = true;
        let mut tls = TlsInfo::default();
        tls.peer = Some(peer);
        tls.server_name = Some("db.test".into());
        downstream.tls = Some(Arc::new(tls));
        assert_eq!(filter.on_connection(&mut downstream).await, Status::Continue);
        let [check] = &codec.0.lock()[..] else { panic!("one check") };
        assert!(check.is_of_connection());
        assert_eq!(
            (check.source.address, &*check.source.principal),
            (downstream.facts.source, "spiffe://td/ns/a/sa/b")
        );
        assert_eq!((check.destination.address, check.sni.as_deref()), (downstream.facts.destination, Some("db.test")));
        assert_eq!(check.metadata_context.filter_metadata.keys().map(|name| &**name).collect::<Vec<_>>(), ["known"]);
    }
}
