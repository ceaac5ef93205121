//! The resources of an Envoy that is not Istio's, without extensions that only Istio's has.
//!
//! Envoy refuses a listener with a filter that it does not have. The only such filter is the exchange of peer metadata, which
//! serves telemetry; what protects a workload is in every Envoy.

use mesh_xds::resource::pack;
use prost::Message as _;
use prost::Name as _;

use super::Resources;
use super::filter::peer_metadata;
use super::proto::{http, listener};
use listener::filter::ConfigType;

/// Adapts what a proxy of the mesh gets.
pub fn for_stock_envoy(mut resources: Resources) -> Resources {
    for listener in &mut resources.listeners {
        let chains = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
        for filter in chains.flat_map(|chain| &mut chain.filters) {
            remove_from(filter);
        }
    }
    resources
}

fn remove_from(filter: &mut listener::Filter) {
    let Some(ConfigType::TypedConfig(config)) = &mut filter.config_type else { return };
    if config.type_url != http::HttpConnectionManager::type_url() {
        return;
    }
    // It has been encoded here.
    if let Ok(mut manager) = http::HttpConnectionManager::decode(config.value.as_slice()) {
        manager.http_filters.retain(|filter| filter.name != peer_metadata::NAME);
        *config = pack(&manager);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Options;
    use crate::diagnostic::Source;
    use crate::load::Loaded;
    use crate::translate::{Labels, Node, Role, translate};

    #[test]
    fn filters_that_only_istios_envoy_has_are_left_out() {
        let text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {selector: {istio: \
             ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n";
        let loaded = Loaded::from_sources(vec![Arc::new(Source::new("a.yaml", text))], Options::default());
        let node = Node::new(Role::Gateway, None, None, Labels::new()).unwrap();
        let before = translate(&loaded.mesh, &node);
        let after = for_stock_envoy(before.clone());
        let names = |resources: &Resources| {
            let Some(ConfigType::TypedConfig(config)) = &resources.listeners[0].filter_chains[0].filters[0].config_type
            else {
                panic!("{resources:?}")
            };
            let manager = http::HttpConnectionManager::decode(config.value.as_slice()).unwrap();
            manager.http_filters.into_iter().map(|filter| filter.name).collect::<Vec<_>>()
        };
        let (before, after) = (names(&before), names(&after));
        assert_eq!(before[0], peer_metadata::NAME);
        assert_eq!(after, before[1..]);
    }
}
