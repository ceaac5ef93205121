//! Istio's exchange of peer metadata, which is not part of Envoy's API: its configuration is JSON in a `TypedStruct`.

use super::{Side, http_filter};
use crate::translate::proto::{TypedStruct, any, http, list, object, structure};
use crate::translate::view::View;
use prost_types::Struct;

pub(in crate::translate) const NAME: &str = "istio.metadata_exchange";
const TYPE_URL: &str = "type.googleapis.com/io.istio.http.peer_metadata.Config";

/// On the inbound side, metadata is read from requests and written to responses; on the other sides it is the reverse.
/// A peer that sends no header is looked up by its address, where a discovery service for workloads exists.
pub(super) fn add_http(_: &View<'_>, side: Side, filters: &mut Vec<http::HttpFilter>) {
    let method = |name: &str| object([(name, structure(Struct::default()))]);
    let (discovery, propagation) = match side {
        Side::Inbound => ("downstream_discovery", "downstream_propagation"),
        Side::Outbound | Side::Edge => ("upstream_discovery", "upstream_propagation"),
    };
    let value = object([
        (discovery, list(vec![method("istio_headers"), method("workload_discovery")])),
        (propagation, list(vec![method("istio_headers")])),
    ]);
    let config = TypedStruct { type_url: TYPE_URL.to_owned(), value: Some(value) };
    filters.push(http_filter(NAME, any(&config)));
}
