//! Metadata, and the values in it that Istio's control plane sends for telemetry: the service, workload or rule of a
//! resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_core::model::{DestinationService, Metadata as ModelMetadata, MetadataExchange};
use prost_types::{Struct, Value, value::Kind};

use super::field::{At, Result};
use crate::decode::struct_value::object;
use crate::proto::envoy::config::core::v3::Metadata;

/// A string in `filter_metadata[namespace]`.
pub(super) fn string<'m>(metadata: &'m Metadata, namespace: &str, key: &str) -> Option<&'m str> {
    text(metadata.filter_metadata.get(namespace)?, key)
}

/// Fields that are compared with each other; all must be strings.
pub(super) fn labels(at: &At<'_>, fields: &Struct) -> Result<BTreeMap<Box<str>, Box<str>>> {
    let label = |(key, value): (&String, &Value)| match &value.kind {
        Some(Kind::StringValue(value)) => Ok((key.as_str().into(), value.as_str().into())),
        _ => Err(at.entry("fields", key).refuse("only strings are supported")),
    };
    fields.fields.iter().map(label).collect()
}

/// The first of Istio's `services`: `{host, name, namespace}`.
pub(super) fn service(metadata: &Metadata) -> Option<DestinationService> {
    let services = metadata.filter_metadata.get("istio")?.fields.get("services")?;
    let Some(Kind::ListValue(list)) = &services.kind else { return None };
    let Some(Value { kind: Some(Kind::StructValue(service)) }) = list.values.first() else { return None };
    let field = |key| Arc::<str>::from(text(service, key).unwrap_or_default());
    Some(DestinationService { host: field("host"), name: field("name"), namespace: field("namespace") })
}

/// Whether the endpoints of a cluster take part in the exchange of peer metadata.
pub(super) fn exchange(cluster: &str, metadata: Option<&Metadata>) -> MetadataExchange {
    let istio = metadata.and_then(|metadata| metadata.filter_metadata.get("istio"));
    let is_true = |key: &str| {
        let value = istio.and_then(|istio| istio.fields.get(key)).and_then(|value| value.kind.as_ref());
        matches!(value, Some(Kind::BoolValue(true)))
    };
    if is_true("disable_mx") {
        MetadataExchange::Disabled
    } else if is_true("external") || cluster == PASSTHROUGH_CLUSTER {
        MetadataExchange::External
    } else {
        MetadataExchange::Enabled
    }
}

/// The cluster to which Istio's sidecars send requests for unknown hosts. It counts as external.
const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";

/// The rule that a route comes from: Istio's `/apis/…/namespaces/NS/virtual-service/NAME` as `virtual-service/NAME.NS`.
pub(super) fn origin(metadata: &Metadata) -> Option<String> {
    let config = string(metadata, "istio", "config")?;
    let mut parts = config.rsplit('/');
    let (name, kind, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{kind}/{name}.{namespace}"))
}

/// All metadata of a resource, for access logs and header values.
pub(super) fn decode(metadata: &Metadata) -> ModelMetadata {
    let values = metadata.filter_metadata.iter().map(|(namespace, values)| (namespace.as_str().into(), object(values)));
    ModelMetadata { filter_metadata: values.collect() }
}

fn text<'s>(object: &'s Struct, key: &str) -> Option<&'s str> {
    match &object.fields.get(key)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}
