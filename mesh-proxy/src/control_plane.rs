//! A bootstrap with control planes: discovery services at clusters of the bootstrap, and files.
//!
//! Discovery requests are requests of this process like any others: they pass the upstream stack, with the TLS, the
//! endpoints and the statistics of their cluster.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use mesh_core::{
    model::{Discovery, RouteSource},
    rng::SplitMix64,
    store::{Store, Watch},
};
use mesh_tower::{ClusterChannel, Upstream, UpstreamOptions, Worker};
use mesh_xds::{
    bootstrap::Bootstrap,
    client::{
        Agent, AnyTransport, MakeTransport, Scope,
        load::{self, Reported},
        transport::grpc::Grpc,
    },
    node::with_user_agent,
    resource::{ApiSource, Resource, ResourceType, Source, elsewhere},
    secrets::FileSecrets,
    status::ConfigStatus,
};

/// The program, as control planes see it.
const USER_AGENT: &str = "mesh-proxy";

/// How long a process without a source of listeners or clusters waits for what the resources of its bootstrap name.
const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// A configuration that is kept up to date.
pub(crate) struct Following {
    /// Changes whenever a configuration is in force.
    pub(crate) settled: Watch,
    pub(crate) status: ConfigStatus,
    /// How long to wait for the first configuration before serving without it; `None` = as long as it takes.
    pub(crate) initial_fetch_timeout: Option<Duration>,
}

/// Whether anything of the bootstrap comes from a control plane.
pub(crate) fn is_needed(bootstrap: &Bootstrap) -> bool {
    !bootstrap.dynamic_resources.is_empty()
        || bootstrap.load_stats_config.is_some()
        || bootstrap.resources.iter().any(names_a_source)
}

/// Whether a resource names another that is followed by an agent. Secrets in files are followed without one.
fn names_a_source(resource: &Resource) -> bool {
    let is_over_grpc = |name: &Arc<str>| matches!(elsewhere(name), Some((_, Source::Grpc(_))));
    match resource {
        Resource::Cluster(cluster) => {
            let of_endpoints = match &cluster.discovery {
                Discovery::Eds { service_name } => elsewhere(service_name).is_some(),
                Discovery::Static(_)
                | Discovery::StrictDns(..)
                | Discovery::LogicalDns(..)
                | Discovery::OriginalDst(_)
                | Discovery::Aggregate(_) => false,
            };
            of_endpoints || cluster.secret_names().any(is_over_grpc)
        }
        Resource::Listener(listener) => {
            let of_routes = listener.http_connection_managers().any(|http| match &http.routes {
                RouteSource::Rds(name) => elsewhere(name.as_str()).is_some(),
                RouteSource::Inline(_) => false,
            });
            of_routes || listener.secret_names().any(is_over_grpc)
        }
        Resource::Secret(_) | Resource::ClusterLoadAssignment { .. } | Resource::RouteConfiguration(_) => false,
    }
}

/// Starts keeping `store` up to date with the control planes of a bootstrap.
pub(crate) fn follow(bootstrap: &Bootstrap, store: &Arc<Store>) -> Following {
    let dynamic = &bootstrap.dynamic_resources;
    let upstream = Upstream::new(Worker::single());
    let upstream = upstream.with_options(UpstreamOptions { envoy_headers: false, ..UpstreamOptions::default() });
    let grpc = {
        let store = Arc::clone(store);
        move |api: &ApiSource| {
            let cluster = api.cluster.as_ref().into();
            let channel = ClusterChannel::new(&store, upstream.clone(), &cluster, api.authority.as_deref());
            let headers: HeaderMap = api.initial_metadata.iter().cloned().collect();
            let grpc = channel.map(|channel| Grpc::new(channel).with_metadata(headers));
            grpc.map(|grpc| if api.is_incremental { grpc.incremental() } else { grpc })
        }
    };
    let node = with_user_agent(bootstrap.node.clone(), USER_AGENT, env!("CARGO_PKG_VERSION"));
    let rng = || SplitMix64::new(fastrand::u64(..));
    if let Some(Ok(service)) = bootstrap.load_stats_config.as_ref().map(&grpc) {
        tokio::spawn(load::report(service, node.clone(), Arc::clone(store), Reported::All, rng()));
    }
    let ads = dynamic.ads_config.as_ref().and_then(|api| grpc(api).ok());
    let ads = ads.map_or_else(AnyTransport::none, AnyTransport::new);
    let make: MakeTransport = Arc::new(move |api, resource_type| match grpc(api) {
        Ok(transport) => AnyTransport::new(transport.for_type(resource_type)),
        // The decoder has checked the authority.
        Err(_) => AnyTransport::none(),
    });
    let types = [(ResourceType::Cluster, &dynamic.cds_config), (ResourceType::Listener, &dynamic.lds_config)];
    let is_aggregated = |index: usize| types[index].1.as_ref().is_some_and(|it| it.source == Source::Aggregated);
    let scope = Scope::Bootstrap { clusters: is_aggregated(0), listeners: is_aggregated(1) };
    let mut agent = Agent::new(ads, node, scope, Arc::clone(store), rng())
        .with_sources(bootstrap.sources.clone(), make)
        .with_fixed(bootstrap.resources.iter().cloned());
    if dynamic.ads_config.as_ref().is_some_and(|api| api.is_incremental) {
        agent = agent.incremental();
    }
    for (resource_type, source) in types {
        if let Some(source) = source {
            agent = agent.with_all_from(resource_type, &source.source);
        }
    }
    let timeouts = types.into_iter().filter_map(|(_, source)| source.as_ref().map(|it| it.initial_fetch_timeout));
    // The longest counts; to wait as long as it takes is longer than any.
    let initial_fetch_timeout =
        timeouts.reduce(|one, other| Some(one?.max(other?))).unwrap_or(Some(INITIAL_FETCH_TIMEOUT));
    let (settled, status) = (agent.settled(), ConfigStatus { client: agent.status(), source: None });
    tokio::spawn(agent.run(|_| {}));
    tokio::spawn(FileSecrets::new(Arc::clone(store)).follow());
    Following { settled, status, initial_fetch_timeout }
}
