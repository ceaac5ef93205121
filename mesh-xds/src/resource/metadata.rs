//! The few metadata that Istio's control plane sends for telemetry: which service, workload or rule stands behind a
//! resource. Metadata carry no policy by themselves.

use std::sync::Arc;

use mesh_core::model::DestinationService;
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

/// Istio's name of the rule behind a route, `/apis/…/namespaces/NS/virtual-service/NAME`, as `virtual-service/NAME.NS`.
pub(super) fn origin(metadata: &Metadata) -> Option<String> {
    let config = string(metadata, "istio", "config")?;
    let mut parts = config.rsplit('/');
    let (name, kind, namespace) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{kind}/{name}.{namespace}"))
}

fn text<'s>(object: &'s Struct, key: &str) -> Option<&'s str> {
    match &object.fields.get(key)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}
