//! The resources of a program that uses a gRPC library alone, which supports less than this project's library.
//!
//! What it does not support would be refused by the client, with the whole resource. What only serves telemetry or chooses among
//! equal endpoints is left out or replaced; what protects is not, so that such a resource is refused and nothing is open that
//! should not be. istiod's `grpc` generator has the same results, except where this page says so.
//!
//! - Clusters are balanced by `ROUND_ROBIN`: not every gRPC library has `LEAST_REQUEST`, which is Istio's default, and `RANDOM`.
//! - TLS is used if a DestinationRule says `ISTIO_MUTUAL`. It is never automatic, because gRPC has no `transport_socket_matches`.
//! - Certificates and roots come from the certificate provider `default` of the program's bootstrap, not by SDS.
//! - A server takes mutual TLS if it is required, otherwise plain text only. It takes clients of any identity that the roots
//!   have signed; an AuthorizationPolicy can say more.
//! - Load is reported to the control plane.
//! - Filters that gRPC may pass over are left out, and `fault` on servers.
//!
//! Sources: gRFC A27, A29, A36; istiod `pilot/pkg/networking/grpcgen`.

use mesh_xds::resource::pack;
use prost::{Message, Name};
use prost_types::Any;

use super::Resources;
use super::filter::fault;
use super::proto::{cluster, core, http, listener, tls};
use super::tls::{OWN_CERTIFICATE, ROOTS};
use core::transport_socket::ConfigType;
use listener::filter::ConfigType as FilterConfig;
use tls::common_tls_context::ValidationContextType;

/// The provider of certificates in the bootstrap that Istio's agent writes.
const PROVIDER: &str = "default";
const TLS: &str = "tls";

/// Adapts what a library of this project gets.
pub fn for_grpc(mut resources: Resources) -> Resources {
    resources.clusters.iter_mut().for_each(adapt_cluster);
    resources.listeners.iter_mut().for_each(adapt_listener);
    // Their sources are the certificate providers.
    resources.secrets.clear();
    resources
}

fn adapt_cluster(cluster: &mut cluster::Cluster) {
    cluster.set_lb_policy(cluster::cluster::LbPolicy::RoundRobin);
    // Load is reported to the control plane that the cluster came from. gRFC A47.
    let own = core::SelfConfigSource::default();
    cluster.lrs_server = Some(core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Self_(own)),
        ..core::ConfigSource::default()
    });
    cluster.transport_socket_matches.clear();
    if let Some(socket) = &mut cluster.transport_socket {
        rewrite(&mut socket.config_type, |context: &mut tls::UpstreamTlsContext| {
            adapt_context(context.common_tls_context.as_mut());
        });
    }
}

fn adapt_listener(listener: &mut listener::Listener) {
    listener.listener_filters.clear();
    listener.listener_filters_timeout = None;
    listener.continue_on_listener_filters_timeout = false;
    if let Some(api) = listener.api_listener.as_mut().and_then(|api| api.api_listener.as_mut()) {
        edit(api, |manager: &mut http::HttpConnectionManager| {
            manager.http_filters.retain(|filter| !filter.is_optional)
        });
    }
    // A chain of which gRPC cannot know that it is for a connection is never used. If there is another one, that is the one.
    let is_only = listener.filter_chains.len() == 1;
    listener.filter_chains.retain(|chain| is_only || !is_for_tls(chain));
    for chain in &mut listener.filter_chains {
        adapt_chain(chain);
    }
}

fn is_for_tls(chain: &listener::FilterChain) -> bool {
    chain.filter_chain_match.as_ref().is_some_and(|matcher| matcher.transport_protocol == TLS)
}

fn adapt_chain(chain: &mut listener::FilterChain) {
    if let Some(matcher) = &mut chain.filter_chain_match {
        matcher.transport_protocol.clear();
        matcher.application_protocols.clear();
    }
    if chain.filter_chain_match == Some(listener::FilterChainMatch::default()) {
        chain.filter_chain_match = None;
    }
    if let Some(socket) = &mut chain.transport_socket {
        rewrite(&mut socket.config_type, |context: &mut tls::DownstreamTlsContext| {
            let common = context.common_tls_context.as_mut();
            if let Some(context) = adapt_context(common) {
                context.match_subject_alt_names.clear();
                context.match_typed_subject_alt_names.clear();
            }
        });
    }
    for filter in &mut chain.filters {
        if let Some(FilterConfig::TypedConfig(config)) = &mut filter.config_type {
            edit(config, |manager: &mut http::HttpConnectionManager| {
                manager.http_filters.retain(|filter| !filter.is_optional && filter.name != fault::NAME);
            });
        }
    }
}

/// Takes certificates of the mesh from the provider. A context with any other stays as it is, and the client refuses it. Returns what
/// is required of peers.
fn adapt_context(common: Option<&mut tls::CommonTlsContext>) -> Option<&mut tls::CertificateValidationContext> {
    let common = common?;
    let Some(ValidationContextType::CombinedValidationContext(combined)) = &mut common.validation_context_type else {
        return None;
    };
    let is = |config: &tls::SdsSecretConfig, name| config.name == name;
    let is_own = common.tls_certificate_sds_secret_configs.iter().all(|config| is(config, OWN_CERTIFICATE));
    let is_trusted = combined.validation_context_sds_secret_config.as_ref().is_some_and(|config| is(config, ROOTS));
    if !is_own || !is_trusted {
        return None;
    }
    let provider = |name: &str| {
        Some(tls::CertificateProviderPluginInstance {
            instance_name: PROVIDER.to_owned(),
            certificate_name: name.to_owned(),
        })
    };
    common.tls_params = None;
    common.tls_certificate_sds_secret_configs.clear();
    common.tls_certificate_provider_instance = provider(OWN_CERTIFICATE);
    combined.validation_context_sds_secret_config = None;
    let context = combined.default_validation_context.get_or_insert_default();
    context.ca_certificate_provider_instance = provider(ROOTS);
    Some(context)
}

fn rewrite<M: Message + Name + Default>(config: &mut Option<ConfigType>, change: impl FnOnce(&mut M)) {
    if let Some(ConfigType::TypedConfig(config)) = config {
        edit(config, change);
    }
}

/// Changes a message that is of type `M`; others stay as they are.
fn edit<M: Message + Name + Default>(any: &mut Any, change: impl FnOnce(&mut M)) {
    if any.type_url != M::type_url() {
        return;
    }
    // It has been encoded here.
    if let Ok(mut message) = M::decode(any.value.as_slice()) {
        change(&mut message);
        *any = pack(&message);
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

    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: \
         [a.default.svc.cluster.local], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: grpc, \
         protocol: GRPC}], endpoints: [{address: 127.0.0.1, serviceAccount: one}]}\n";
    const MUTUAL: &str = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: \
         a.default.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}, tls: {mode: ISTIO_MUTUAL}}}\n";
    const STRICT: &str = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec: {mtls: \
         {mode: STRICT}}\n";

    fn resources(text: &str) -> Resources {
        let loaded = Loaded::from_sources(
            vec![Arc::new(Source::new("a.yaml", text))],
            Options::default().with_certificates(true),
        );
        assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
        let node = Node::new(Role::Library, Some("a"), None, Labels::new()).unwrap();
        for_grpc(translate(&loaded.mesh, &node))
    }

    fn context<M: Message + Name + Default>(socket: Option<&core::TransportSocket>) -> M {
        let Some(ConfigType::TypedConfig(config)) = &socket.unwrap().config_type else { panic!("{socket:?}") };
        M::decode(config.value.as_slice()).unwrap()
    }

    fn provider(common: &tls::CommonTlsContext) -> (&str, &str) {
        let Some(ValidationContextType::CombinedValidationContext(combined)) = &common.validation_context_type else {
            panic!("{common:?}")
        };
        assert!(common.tls_certificate_sds_secret_configs.is_empty() && common.tls_params.is_none());
        assert_eq!(combined.validation_context_sds_secret_config, None);
        let roots = combined.default_validation_context.as_ref().unwrap().ca_certificate_provider_instance.as_ref();
        let own = common.tls_certificate_provider_instance.as_ref().unwrap();
        (&own.certificate_name, &roots.unwrap().certificate_name)
    }

    #[test]
    fn without_a_rule_there_is_no_tls() {
        let cluster = &resources(ENTRY).clusters[0];
        assert!(cluster.transport_socket_matches.is_empty() && cluster.transport_socket.is_none());
        assert_eq!(cluster.lb_policy(), cluster::cluster::LbPolicy::RoundRobin);
    }

    #[test]
    fn tls_of_the_mesh_takes_certificates_from_the_provider() {
        let resources = resources(&format!("{ENTRY}{MUTUAL}{STRICT}"));
        let [cluster] = &resources.clusters[..] else { panic!("{resources:?}") };
        assert_eq!(cluster.lb_policy(), cluster::cluster::LbPolicy::RoundRobin);
        let upstream: tls::UpstreamTlsContext = context(cluster.transport_socket.as_ref());
        let common = upstream.common_tls_context.unwrap();
        assert_eq!(provider(&common), ("default", "ROOTCA"));
        assert!(
            format!("{common:?}").contains("spiffe://cluster.local/ns/default/sa/one"),
            "the server's name is required"
        );
        let served = resources.listeners.iter().find(|it| it.name.ends_with("/127.0.0.1:80")).unwrap();
        let [chain] = &served.filter_chains[..] else { panic!("{served:?}") };
        assert_eq!((&chain.filter_chain_match, served.listener_filters.len()), (&None, 0));
        let downstream: tls::DownstreamTlsContext = context(chain.transport_socket.as_ref());
        assert_eq!(downstream.require_client_certificate, Some(true));
        let common = downstream.common_tls_context.unwrap();
        assert_eq!(provider(&common), ("default", "ROOTCA"));
        assert!(!format!("{common:?}").contains("spiffe://"), "servers of gRPC cannot require names");
        let config = format!("{:?}", chain.filters);
        assert!(!config.contains("envoy.filters.http.fault") && config.contains("HttpConnectionManager"), "{config}");
    }

    #[test]
    fn a_server_that_takes_both_takes_plain_text() {
        let served = resources(ENTRY).listeners.into_iter().find(|it| it.name.ends_with("/127.0.0.1:80")).unwrap();
        let [chain] = &served.filter_chains[..] else { panic!("{served:?}") };
        assert_eq!((&chain.filter_chain_match, &chain.transport_socket), (&None, &None));
    }

    #[test]
    fn tls_with_other_certificates_stays_and_is_refused_by_the_client() {
        let simple = MUTUAL.replace("ISTIO_MUTUAL", "SIMPLE, caCertificates: /ca.pem");
        let upstream: tls::UpstreamTlsContext =
            context(resources(&format!("{ENTRY}{simple}")).clusters[0].transport_socket.as_ref());
        let common = upstream.common_tls_context.unwrap();
        assert!(common.tls_params.is_some() && common.tls_certificate_provider_instance.is_none());
    }
}
