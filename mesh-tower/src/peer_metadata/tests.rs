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

/// Headers of somebody who says of himself what he likes.
fn forged() -> HeaderMap {
    let value = |text: &'static str| HeaderValue::from_static(text);
    [(X_ENVOY_PEER_METADATA_ID, value("forged")), (X_ENVOY_PEER_METADATA, value("forged"))].into_iter().collect()
}

fn ids(headers: &HeaderMap) -> Vec<&str> {
    headers.get_all(X_ENVOY_PEER_METADATA_ID).iter().map(|id| id.to_str().unwrap()).collect()
}

#[test]
fn a_client_is_introduced_and_answered_and_the_headers_are_gone() {
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
    // A server's identity counts, and says its namespace.
    assert_eq!((&*seen.namespace, &*seen.principal), ("books", &*reviews().principal));
}

#[test]
fn a_client_is_answered_with_what_it_sent_itself() {
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
fn what_a_stranger_says_of_himself_does_not_leave() {
    for (skip_external, cluster, told) in [
        (false, MetadataExchange::Enabled, true),
        (false, MetadataExchange::External, true),
        (true, MetadataExchange::Enabled, true),
        (true, MetadataExchange::External, false),
        (false, MetadataExchange::Disabled, false),
    ] {
        let mut headers = forged();
        outbound(skip_external).send_request(&mut headers, cluster);
        assert_eq!(ids(&headers), if told { &[ID][..] } else { &[] }, "{cluster:?}");
        assert_eq!(headers.contains_key(X_ENVOY_PEER_METADATA), told);
    }
    let nobody = PeerExchange { local: None, ..outbound(false) };
    let mut headers = forged();
    nobody.send_request(&mut headers, MetadataExchange::Enabled);
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
fn equal_values_are_read_once_and_no_more_than_a_bound_is_remembered() {
    let value = |name: &str| HeaderValue::try_from(encode(&Workload::new(name, ""))).unwrap();
    let first = known::client(&value("a")).unwrap();
    assert!(Arc::ptr_eq(&first, &known::client(&value("a")).unwrap()));
    for number in 0..3 * known::MAX_REMEMBERED {
        assert!(known::client(&value(&number.to_string())).is_some());
        assert!(known::remembered() <= known::MAX_REMEMBERED);
    }
    let before = known::remembered();
    let too_long = HeaderValue::try_from("A".repeat(10_000)).unwrap();
    assert!(known::client(&too_long).is_none());
    assert_eq!(known::remembered(), before, "what is too long is not even remembered");
}
