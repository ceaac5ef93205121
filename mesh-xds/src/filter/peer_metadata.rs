//! `io.istio.http.peer_metadata.Config`, which control planes send as a `TypedStruct`: the JSON of a message that is
//! part of Istio's Envoy and not of Envoy's API.

use mesh_core::model::{PeerMetadata, UpstreamPropagation};
use prost_types::{ListValue, Struct, Value, value::Kind};

use crate::decode::field::{At, Result};
use crate::descriptor::snake_case;

/// Its full name.
pub(super) const MESSAGE_NAME: &str = "io.istio.http.peer_metadata.Config";

/// Why `workload_discovery` has no effect.
const WORKLOAD_DISCOVERY: &str = "workloads are not looked up by address; peers send their metadata";

/// Decodes which headers are read and written.
pub(super) fn decode(at: &At<'_>, config: &Struct) -> Result<PeerMetadata> {
    let mut model = PeerMetadata::default();
    for (key, value) in &config.fields {
        let at = at.field(key);
        match snake_case(key).as_str() {
            "downstream_discovery" => model.downstream_discovery = discovery(&at, value)?,
            "upstream_discovery" => model.upstream_discovery = discovery(&at, value)?,
            "downstream_propagation" => model.downstream_propagation = propagation(&at, value)?.is_some(),
            "upstream_propagation" => model.upstream_propagation = propagation(&at, value)?,
            "shared_with_upstream" => at.ignore("connections are not chosen by the caller"),
            "additional_labels" => at.ignore("no metric has a label for them"),
            _ => return Err(at.refuse(format_args!("unknown field of {MESSAGE_NAME}"))),
        }
    }
    Ok(model)
}

/// Whether `istio_headers` are read.
fn discovery(at: &At<'_>, methods: &Value) -> Result<bool> {
    let mut reads_headers = false;
    for (method, value) in each_method(at, methods)? {
        let at = at.field(method);
        match snake_case(method).as_str() {
            "istio_headers" => {
                istio_headers(&at, value)?;
                reads_headers = true;
            }
            "workload_discovery" => at.ignore(WORKLOAD_DISCOVERY),
            "baggage" | "upstream_filter_state" => return Err(at.refuse("not supported")),
            _ => return Err(at.refuse("unknown method of discovery")),
        }
    }
    Ok(reads_headers)
}

/// Whether `istio_headers` are written, and to whom.
fn propagation(at: &At<'_>, methods: &Value) -> Result<Option<UpstreamPropagation>> {
    let mut headers = None;
    for (method, value) in each_method(at, methods)? {
        let at = at.field(method);
        match snake_case(method).as_str() {
            "istio_headers" => headers = Some(istio_headers(&at, value)?),
            "baggage" => return Err(at.refuse("not supported")),
            _ => return Err(at.refuse("unknown method of propagation")),
        }
    }
    Ok(headers)
}

fn istio_headers(at: &At<'_>, value: &Value) -> Result<UpstreamPropagation> {
    let mut headers = UpstreamPropagation::default();
    for (key, value) in &object(at, value)?.fields {
        let at = at.field(key);
        match (snake_case(key).as_str(), &value.kind) {
            ("skip_external_clusters", Some(Kind::BoolValue(skip))) => headers.skip_external_clusters = *skip,
            ("skip_external_clusters", _) => return Err(at.refuse("expected true or false")),
            _ => return Err(at.refuse("unknown field of istio_headers")),
        }
    }
    Ok(headers)
}

/// The methods of a list `[{METHOD: {..}}, ..]`, each the only field of its message.
fn each_method<'v>(at: &At<'_>, methods: &'v Value) -> Result<Vec<(&'v str, &'v Value)>> {
    let Some(Kind::ListValue(ListValue { values })) = &methods.kind else { return Err(at.refuse("expected a list")) };
    let mut each = Vec::new();
    for value in values {
        let method = &object(at, value)?.fields;
        match method.iter().next() {
            Some((name, value)) if method.len() == 1 => each.push((name.as_str(), value)),
            Some(_) | None => return Err(at.refuse("expected one method in each element")),
        }
    }
    Ok(each)
}

fn object<'v>(at: &At<'_>, value: &'v Value) -> Result<&'v Struct> {
    match &value.kind {
        Some(Kind::StructValue(object)) => Ok(object),
        _ => Err(at.refuse("expected an object")),
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use mesh_core::{model::Workload, telemetry::peer_metadata::encode};
    use prost::Message as _;

    use super::*;
    use crate::{decode::field::Notes, json::from_text};

    fn decoded(config: &str) -> (std::result::Result<PeerMetadata, String>, usize) {
        let notes = Notes::default();
        let config = from_text::<crate::proto::udpa::r#type::v1::TypedStruct>(&format!("value: {config}"), "").unwrap();
        let decoded = decode(&At::root(&notes), &config.value.unwrap());
        match notes.finish(decoded) {
            Ok((decoded, ignored)) => (Ok(decoded), ignored.len()),
            Err(errors) => (Err(errors[0].to_string()), 0),
        }
    }

    #[test]
    fn the_configurations_of_istiod_are_decoded() {
        let headers = |skip_external_clusters| Some(UpstreamPropagation { skip_external_clusters });
        let inbound =
            PeerMetadata { downstream_discovery: true, downstream_propagation: true, ..PeerMetadata::default() };
        let outbound = |upstream_propagation| PeerMetadata {
            upstream_discovery: true,
            upstream_propagation,
            ..PeerMetadata::default()
        };
        for (config, expected, ignored) in [
            (
                "{downstream_discovery: [{istio_headers: {}}, {workload_discovery: {}}],
                  downstream_propagation: [{istio_headers: {}}]}",
                inbound,
                1,
            ),
            (
                "{upstreamDiscovery: [{istioHeaders: {}}, {workloadDiscovery: {}}], additional_labels: [role],
                  upstreamPropagation: [{istioHeaders: {}}]}",
                outbound(headers(false)),
                2,
            ),
            (
                "{upstream_discovery: [{istio_headers: {}}],
                  upstream_propagation: [{istio_headers: {skip_external_clusters: true}}]}",
                outbound(headers(true)),
                0,
            ),
            (
                "{downstream_discovery: [{workload_discovery: {}}], shared_with_upstream: true}",
                PeerMetadata::default(),
                2,
            ),
        ] {
            assert_eq!(decoded(config), (Ok(expected), ignored), "{config}");
        }
    }

    #[test]
    fn unknown_fields_and_methods_are_refused_by_name() {
        for (config, expected) in [
            ("{x: 1}", "x: unknown field of io.istio.http.peer_metadata.Config"),
            ("{downstream_discovery: {}}", "downstream_discovery: expected a list"),
            ("{downstream_discovery: [{}]}", "downstream_discovery: expected one method in each element"),
            ("{downstream_discovery: [{baggage: {}}]}", "downstream_discovery.baggage: not supported"),
            ("{downstream_discovery: [{x: {}}]}", "downstream_discovery.x: unknown method of discovery"),
            ("{upstream_propagation: [{baggage: {}}]}", "upstream_propagation.baggage: not supported"),
            ("{upstream_propagation: [{istio_headers: 1}]}", "upstream_propagation.istio_headers: expected an object"),
            (
                "{upstream_propagation: [{istio_headers: {skip_external_clusters: 1}}]}",
                "upstream_propagation.istio_headers.skip_external_clusters: expected true or false",
            ),
        ] {
            assert_eq!(decoded(config).0.unwrap_err(), expected);
        }
    }

    /// `mesh-core` encodes the message by hand. prost encodes maps in the order of their keys.
    #[test]
    fn the_header_is_the_protobuf_encoding_of_the_metadata() {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let object = |fields: &[(&str, Value)]| Struct {
            fields: fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        };
        let long = "r".repeat(300);
        let labels = object(&[
            ("service.istio.io/canonical-name", text("reviews")),
            ("service.istio.io/canonical-revision", text("v1")),
            ("app", text("reviews")),
            ("version", text("v1")),
        ]);
        let metadata = object(&[
            ("WORKLOAD_NAME", text(&long)),
            ("NAME", text(&long)),
            ("NAMESPACE", text("default")),
            ("LABELS", Value { kind: Some(Kind::StructValue(labels)) }),
            ("CLUSTER_ID", text("Kubernetes")),
        ]);
        let mut workload = Workload::new(&long, "default");
        workload.canonical_service = "reviews".into();
        workload.canonical_revision = "v1".into();
        workload.app = "reviews".into();
        workload.version = "v1".into();
        workload.cluster = "Kubernetes".into();
        assert_eq!(encode(&workload), STANDARD.encode(metadata.encode_to_vec()));
    }
}
