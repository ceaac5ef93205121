//! What does an update of one cluster's endpoints cost, and does it matter how many clusters there are?
//!
//! One of 1, 100 or 10,000 clusters with 100 endpoints each gets a new set of endpoints, one of which differs. It is
//! measured twice: from the values of the model, and from the bytes of an xDS resource.

#![expect(clippy::print_stdout, reason = "printing is what a bench is for")]

mod support;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use mesh_core::{
    model::{Cluster, Discovery, LoadAssignment},
    rng::SplitMix64,
    store::Store,
};
use mesh_xds::{
    client::{
        Update,
        applier::{Applier, apply},
    },
    proto::envoy::config::{
        core::v3::{Address, SocketAddress, address, socket_address},
        endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint},
    },
    resource::{Decoded, Resource, ResourceType, decode, pack},
};
use prost_types::Any;

use self::support::measure;

const CALLS: u32 = 10;
const ENDPOINTS: u32 = 100;

fn main() {
    for clusters in [1, 100, 10_000] {
        let mut mesh = Mesh::new(clusters);
        let updates = [0, 1].map(|first| Arc::new(assignment(first)));
        let mut turn = updates.iter().cycle();
        let name = service_name(clusters / 2);
        let cost = measure(CALLS, || {
            let update = turn.next().expect("endless");
            mesh.store.set_endpoints(&name, update, &mut mesh.rng);
        });
        println!("{clusters:>6} clusters, {ENDPOINTS} endpoints, from the model: {cost}");
        let updates = [0, 1].map(|first| pack(&resource(&name, first)));
        let mut turn = updates.iter().cycle();
        let cost = measure(CALLS, || mesh.handle(turn.next().expect("endless")));
        println!("{clusters:>6} clusters, {ENDPOINTS} endpoints, from xDS:       {cost}");
    }
}

/// Clusters that are in use.
struct Mesh {
    store: Store,
    applier: Applier,
    rng: SplitMix64,
}

impl Mesh {
    fn new(clusters: u32) -> Self {
        let mut mesh = Self { store: Store::new(), applier: Applier::with_all_clusters(), rng: SplitMix64::new(1) };
        let accepted = (0..clusters).map(|number| {
            let service_name = service_name(number);
            let cluster = Cluster::new(&*service_name, Discovery::Eds { service_name: Arc::clone(&service_name) });
            Decoded { resource: Resource::Cluster(Arc::new(cluster)), ignored: Vec::new() }
        });
        mesh.update(ResourceType::Cluster, accepted.collect());
        for number in 0..clusters {
            let cluster_name = service_name(number);
            let endpoints = Resource::ClusterLoadAssignment { cluster_name, assignment: Arc::new(assignment(0)) };
            let decoded = Decoded { resource: endpoints, ignored: Vec::new() };
            mesh.update(ResourceType::ClusterLoadAssignment, vec![decoded]);
        }
        assert_eq!(mesh.store.clusters().len(), clusters as usize);
        mesh
    }

    fn handle(&mut self, resource: &Any) {
        let decoded = decode(resource).expect("a well-formed resource");
        self.update(ResourceType::ClusterLoadAssignment, vec![decoded]);
    }

    fn update(&mut self, resource_type: ResourceType, accepted: Vec<Decoded>) {
        let now = Instant::now();
        self.applier.handle_update(Update::new(resource_type, accepted), now);
        while let Some(change) = self.applier.poll_change() {
            apply(&self.store, change, now, &mut self.rng).expect("endpoints contradict nothing");
        }
    }
}

fn service_name(number: u32) -> Arc<str> {
    format!("outbound|80||service-{number}.default.svc.cluster.local").into()
}

/// The addresses of a set of endpoints; sets differ in one of them.
fn addresses(first: u32) -> impl Iterator<Item = Ipv4Addr> {
    (first..first + ENDPOINTS).map(|number| Ipv4Addr::from(0x7f00_0001 + number))
}

fn assignment(first: u32) -> LoadAssignment {
    addresses(first).map(|address| SocketAddr::from((address, 80))).collect()
}

fn resource(cluster_name: &str, first: u32) -> ClusterLoadAssignment {
    let lb_endpoints = addresses(first).map(|address| {
        let socket_address = SocketAddress {
            address: address.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(80)),
            ..SocketAddress::default()
        };
        let address = Address { address: Some(address::Address::SocketAddress(socket_address)) };
        let endpoint = Endpoint { address: Some(address), ..Endpoint::default() };
        let host_identifier = Some(lb_endpoint::HostIdentifier::Endpoint(endpoint));
        LbEndpoint { host_identifier, ..LbEndpoint::default() }
    });
    let locality = LocalityLbEndpoints { lb_endpoints: lb_endpoints.collect(), ..LocalityLbEndpoints::default() };
    ClusterLoadAssignment {
        cluster_name: cluster_name.to_owned(),
        endpoints: vec![locality],
        ..ClusterLoadAssignment::default()
    }
}
