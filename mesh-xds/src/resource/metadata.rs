//! The few metadata that Istio's control plane sends for telemetry: which service, workload or rule stands behind a
//! resource. Metadata carry no policy by themselves.

use std::sync::Arc;

use mesh_core::model::{DestinationService, Metadata as ModelMetadata, MetadataExchange, MetadataValue};
use prost_types::{Struct, Value, value::Kind};

use crate::proto::envoy::config::core::v3::Metadata;

/// A string in `filter_metadata[namespace]`.
pub(super) fn string<'m>(metadata: &'m Metadata, namespace: &str, key: &str) -> Option<&'m str> {
    text(metadata.filter_metadata.get(namespace)?, key)
}

/// The first of Istio's `services`: `{host, name, namespace}`.
pub(super) fn service(metadata: &Metadata) -> Option<DestinationService> {
    let services = metadata.filter_metadata.get("istio")?.fields.get("services")?;
    let Some(Kind::ListValue(list)) = &services.kind else { return None };
    let Some(Value { kind: Some(Kind::StructValue(service)) }) = list.values.first() else { return None };
    let field = |key| Arc::<str>::from(text(service, key).unwrap_or_default());
    Some(DestinationService { host: field("host"), name: field("name"), namespace: field("namespace") })
}

/// Whether the endpoints of a cluster may be told who calls them.
pub(super) fn exchange(cluster: &str, metadata: Option<&Metadata>) -> MetadataExchange {
    let istio = metadata.and_then(|metadata| metadata.filter_metadata.get("istio"));
    let says = |key: &str| {
        let fact = istio.and_then(|istio| istio.fields.get(key)).and_then(|fact| fact.kind.as_ref());
        matches!(fact, Some(Kind::BoolValue(true)))
    };
    if says("disable_mx") {
        MetadataExchange::Disabled
    } else if says("external") || cluster == PASSTHROUGH_CLUSTER {
        MetadataExchange::External
    } else {
        MetadataExchange::Enabled
    }
}

/// Where Istio's sidecars send requests for hosts that they do not know: outside, for all they know.
const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";

/// Istio's name of the rule behind a route, `/apis/…/namespaces/NS/virtual-service/NAME`, as `virtual-service/NAME.NS`.
pub(super) fn origin(metadata: &Metadata) -> Option<String> {
    let config = string(metadata, "istio", "config")?;
    let mut parts = config.rsplit('/');
    let (name, kind, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{kind}/{name}.{namespace}"))
}

/// All facts of a resource, for log lines and header values that read them.
pub(super) fn decode(metadata: &Metadata) -> ModelMetadata {
    let facts = metadata.filter_metadata.iter().map(|(namespace, facts)| (namespace.as_str().into(), object(facts)));
    ModelMetadata { filter_metadata: facts.collect() }
}

fn object(facts: &Struct) -> MetadataValue {
    MetadataValue::Object(facts.fields.iter().map(|(key, fact)| (key.as_str().into(), value(fact))).collect())
}

fn value(fact: &Value) -> MetadataValue {
    match &fact.kind {
        None | Some(Kind::NullValue(_)) => MetadataValue::Null,
        Some(Kind::BoolValue(fact)) => MetadataValue::Bool(*fact),
        Some(Kind::NumberValue(fact)) => MetadataValue::Number(*fact),
        Some(Kind::StringValue(fact)) => MetadataValue::String(fact.as_str().into()),
        Some(Kind::ListValue(list)) => MetadataValue::List(list.values.iter().map(value).collect()),
        Some(Kind::StructValue(fact)) => object(fact),
    }
}

fn text<'s>(object: &'s Struct, key: &str) -> Option<&'s str> {
    match &object.fields.get(key)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}
