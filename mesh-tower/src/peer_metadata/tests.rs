use mesh_core::model::UpstreamPropagation;

use super::*;

const ID: &str = "sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local";

fn reviews() -> Workload {
    let mut workload = Workload::new("reviews-v1", "default");
    workload.principal = "spiffe://cluster.local/ns/books/sa/reviews".into();
    workload
}

fn exchange(config: PeerMetadata) -> PeerExchange {
    PeerExchange::new(config, LocalPeer::new(ID, &reviews()).map(Arc::new))
}

fn outbound(skip_external_clusters: bool) -> PeerExchange {
    let upstream_propagation = Some(UpstreamPropagation { skip_external_clusters });
    exchange(PeerMetadata { upstream_discovery: true, upstream_propagation, ..PeerMetadata::default() })
}

fn inbound() -> PeerExchange {
    exchange(PeerMetadata { downstream_discovery: true, downstream_propagation: true, ..PeerMetadata::default() })
}

/// Headers of a client that is not in the mesh.
fn forged() -> HeaderMap {
    let value = |text: &'static str| HeaderValue::from_static(text);
    [(X_ENVOY_PEER_METADATA_ID, value("forged")), (X_ENVOY_PEER_METADATA, value("forged"))].into_iter().collect()
}

fn ids(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(X_ENVOY_PEER_METADATA_ID).iter().map(|id| id.to_str().unwrap()).collect()
}

#[test]
fn client_and_server_exchange_metadata_and_the_headers_are_removed() {
    let (client, server) = (outbound(false), inbound());
    let mut request = HeaderMap::new();
    client.send_request(&mut request, MetadataExchange::Enabled);
    assert_eq!(ids(&request), [ID]);
    let introduction = server.receive_request(&mut request);
    assert!(request.is_empty(), "{request:?}");
    let seen = introduction.client.as_deref().unwrap();
    assert_eq!((&*seen.name, &*seen.namespace, &*seen.principal), ("reviews-v1", "default", ""));

    let mut response = HeaderMap::new();
    server.send_response(&mut response, &introduction);
    let seen = client.receive_response(&mut response).unwrap();
    assert!(response.is_empty(), "{response:?}");
    assert_eq!((&*seen.name, &*seen.principal), ("reviews-v1", ""));
}

#[test]
fn a_response_has_the_headers_that_the_request_had() {
    let server = inbound();
    for (sent, answered) in [
        (&[][..], &[][..]),
        (&[X_ENVOY_PEER_METADATA_ID], &[X_ENVOY_PEER_METADATA_ID]),
        (&[X_ENVOY_PEER_METADATA], &[X_ENVOY_PEER_METADATA]),
    ] {
        let mut request: HeaderMap = sent.iter().map(|name| (name.clone(), HeaderValue::from_static("x"))).collect();
        let introduction = server.receive_request(&mut request);
        assert!(introduction.client.is_none() && request.is_empty());
        let mut response = HeaderMap::new();
        server.send_response(&mut response, &introduction);
        assert!(response.keys().eq(answered), "{sent:?}: {response:?}");
    }
}

#[test]
fn headers_of_a_client_are_not_passed_on() {
    for (skip_external, cluster, sends) in [
        (false, MetadataExchange::Enabled, true),
        (false, MetadataExchange::External, true),
        (true, MetadataExchange::Enabled, true),
        (true, MetadataExchange::External, false),
        (false, MetadataExchange::Disabled, false),
    ] {
        let mut headers = forged();
        outbound(skip_external).send_request(&mut headers, cluster);
        assert_eq!(ids(&headers), if sends { &[ID][..] } else { &[] }, "{cluster:?}");
        assert_eq!(headers.contains_key(X_ENVOY_PEER_METADATA), sends);
    }
    let without_metadata = PeerExchange { local: None, ..outbound(false) };
    let mut headers = forged();
    without_metadata.send_request(&mut headers, MetadataExchange::Enabled);
    assert!(headers.is_empty());
}

#[test]
fn a_listener_without_the_filter_does_nothing() {
    let exchange = exchange(PeerMetadata::default());
    let mut headers = forged();
    let introduction = exchange.receive_request(&mut headers);
    exchange.send_request(&mut headers, MetadataExchange::Enabled);
    exchange.send_response(&mut headers, &introduction);
    assert!(exchange.receive_response(&mut headers).is_none());
    assert_eq!(headers, forged());
}

#[test]
fn equal_values_are_decoded_once_and_the_cache_is_bounded() {
    let value = |name: &str| HeaderValue::try_from(encode(&Workload::new(name, ""))).unwrap();
    let first = cache::peer(&value("a")).unwrap();
    assert!(Arc::ptr_eq(&first, &cache::peer(&value("a")).unwrap()));
    for number in 0..3 * cache::MAX_CACHED {
        assert!(cache::peer(&value(&number.to_string())).is_some());
        assert!(cache::len() <= cache::MAX_CACHED);
    }
    let before = cache::len();
    let too_long = HeaderValue::try_from("A".repeat(10_000)).unwrap();
    assert!(cache::peer(&too_long).is_none());
    assert_eq!(cache::len(), before, "a value that is too long is not cached");
}
