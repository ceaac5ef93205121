use super::*;

fn reviews() -> Workload {
    Workload {
        name: "reviews-v2".into(),
        namespace: "default".into(),
        canonical_service: "reviews".into(),
        canonical_revision: "v2".into(),
        app: "reviews".into(),
        version: "v2".into(),
        cluster: "Kubernetes".into(),
        principal: "spiffe://cluster.local/ns/default/sa/reviews".into(),
    }
}

/// The value whose `Struct` has these bytes.
fn value(bytes: &[u8]) -> Vec<u8> {
    BASE64.encode(bytes).into_bytes()
}

fn string_entry(key: &str, text: &str) -> Vec<u8> {
    let mut writer = StructWriter::default();
    writer.string(key, text);
    writer.into_bytes()
}

#[test]
fn what_is_told_is_understood() {
    let unlabelled = Workload { namespace: "default".into(), ..Workload::default() };
    let long = Workload { name: "n".repeat(200).into(), ..reviews() };
    for workload in [reviews(), unlabelled, long, Workload::default()] {
        let value = encode(&workload);
        assert_eq!(decode(value.as_bytes()), Ok(workload.clone()));
        assert_eq!(decode(value.trim_end_matches('=').as_bytes()), Ok(workload), "padding may be missing");
    }
}

#[test]
fn of_two_labels_for_one_thing_the_qualified_one_counts_wherever_it_stands() {
    for (labels, expected) in [
        (&[("app", "a"), ("app.kubernetes.io/name", "b")][..], ("b", "")),
        (&[("app.kubernetes.io/name", "b"), ("app", "a")], ("b", "")),
        (&[("app.kubernetes.io/name", ""), ("app", "a"), ("version", "1")], ("a", "1")),
        (&[("version", "1"), ("app.kubernetes.io/version", "2")], ("", "2")),
    ] {
        let mut fields = StructWriter::default();
        for (key, text) in labels {
            fields.string(key, text);
        }
        let mut metadata = StructWriter::default();
        metadata.object(LABELS, &fields);
        let workload = decode(&value(&metadata.into_bytes())).unwrap();
        assert_eq!((&*workload.app, &*workload.version), expected, "{labels:?}");
    }
}

#[test]
fn what_is_not_known_is_passed_over() {
    let mut bytes = string_entry("OWNER", "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v2");
    // NAMESPACE as a number, WORKLOAD_NAME as null: not texts, so nothing is known.
    bytes.extend(b"\x0a\x16\x0a\x09NAMESPACE\x12\x09\x11\0\0\0\0\0\0\xf0\x3f");
    bytes.extend(b"\x0a\x13\x0a\x0dWORKLOAD_NAME\x12\x02\x08\0");
    // Fields of newer protobuf messages: a varint, eight bytes, four bytes.
    bytes.extend(b"\x10\x96\x01\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0");
    bytes.extend(string_entry(CLUSTER_ID, "Kubernetes"));
    let expected = Workload { cluster: "Kubernetes".into(), ..Workload::default() };
    assert_eq!(decode(&value(&bytes)), Ok(expected));
}

#[test]
fn strangers_are_refused_what_is_malformed_or_too_long() {
    let entry = string_entry(NAMESPACE, "default");
    for bytes in [
        &entry[..entry.len() - 1],
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x7f",
        b"\x0b",
        b"\x0a\x02\x0a\x05",
        b"\x0a\x05\x0a\x03a\xff\xff",
    ] {
        assert_eq!(decode(&value(bytes)), Err(PeerMetadataError::Malformed), "{bytes:x?}");
    }
    assert!(matches!(decode(b"!!!!"), Err(PeerMetadataError::Base64(_))));
    assert!(matches!(decode(b"\xff"), Err(PeerMetadataError::Base64(_))));
    assert_eq!(decode(&vec![b'A'; MAX_LENGTH + 1]), Err(PeerMetadataError::TooLong(MAX_LENGTH + 1)));
    assert!(decode(&vec![b'A'; MAX_LENGTH]).is_err(), "the longest value is read, and says nothing");
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let valid = BASE64.decode(encode(&reviews())).unwrap();
    for _ in 0..20_000 {
        let mut bytes = valid.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(..=bytes.len()));
        let _ = decode(&value(&bytes));
    }
}

#[test]
fn m13_a_client_may_not_claim_an_identity_and_a_servers_identity_says_its_namespace() {
    let told = Workload { namespace: "told".into(), ..reviews() };
    let client = of_client(told.clone());
    assert_eq!((&*client.principal, &*client.namespace), ("", "told"));
    assert_eq!(&*of_server(told.clone()).namespace, "default");
    for principal in ["", "spiffe://cluster.local", "spiffe://cluster.local/ns//sa/a"] {
        let server = of_server(Workload { principal: principal.into(), ..told.clone() });
        assert_eq!((&*server.principal, &*server.namespace), (principal, "told"));
    }
}
