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
fn decoding_inverts_encoding() {
    let unlabelled = Workload { namespace: "default".into(), ..Workload::default() };
    let long = Workload { name: "n".repeat(200).into(), ..reviews() };
    for workload in [reviews(), unlabelled, long, Workload::default()] {
        let value = encode(&workload);
        assert_eq!(decode(value.as_bytes()), Ok(workload.clone()));
        assert_eq!(decode(value.trim_end_matches('=').as_bytes()), Ok(workload), "padding may be missing");
    }
}

#[test]
fn the_qualified_label_takes_precedence_in_any_order() {
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
fn unknown_entries_are_ignored() {
    let mut bytes = string_entry("OWNER", "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v2");
    // NAMESPACE as a number, WORKLOAD_NAME as null: not strings, so they are ignored.
    bytes.extend(b"\x0a\x16\x0a\x09NAMESPACE\x12\x09\x11\0\0\0\0\0\0\xf0\x3f");
    bytes.extend(b"\x0a\x13\x0a\x0dWORKLOAD_NAME\x12\x02\x08\0");
    // Fields of newer protobuf messages: a varint, eight bytes, four bytes.
    bytes.extend(b"\x10\x96\x01\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0");
    bytes.extend(string_entry(CLUSTER_ID, "Kubernetes"));
    let expected = Workload { cluster: "Kubernetes".into(), ..Workload::default() };
    assert_eq!(decode(&value(&bytes)), Ok(expected));
}

#[test]
fn malformed_and_long_values_are_errors() {
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
    assert!(matches!(decode(b"!!!!"), Err(PeerMetadataError::Base64)));
    assert!(matches!(decode(b"\xff"), Err(PeerMetadataError::Base64)));
    assert_eq!(decode(&vec![b'A'; MAX_LENGTH + 1]), Err(PeerMetadataError::TooLong(MAX_LENGTH + 1)));
    assert_eq!(decode(&vec![b'A'; MAX_LENGTH]), Err(PeerMetadataError::Malformed), "the longest value is decoded");
}

#[test]
fn random_bytes_do_not_panic() {
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
fn a_peer_cannot_claim_an_identity() {
    let sent = Workload { namespace: "sent".into(), ..reviews() };
    assert_ne!(&*sent.principal, "");
    assert_eq!(without_identity(sent.clone()), Workload { principal: "".into(), ..sent });
}
