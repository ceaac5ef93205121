//! What every registry must do: when an instance of a service is added, removed, relabelled or no longer ready, traffic moves
//! to the others, and there is no time without an endpoint.
//!
//! A registry is tested by [`check`], with an implementation of [`Place`] that writes instances where it reads them. The
//! whole way is real: registry, translation, server, client, store.

#[cfg(feature = "consul")]
mod consul;
mod directory;
#[cfg(feature = "kubernetes")]
mod kubernetes;
mod objects;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mesh_control::config::Strictness;
use mesh_control::server::{Options, serve};
use mesh_control::source::{ConfigSource, Follower, Objects};
use mesh_control::translate::{Node, Role};
use mesh_core::rng::SplitMix64;
use mesh_core::store::Store;
use mesh_xds::client::transport::in_process::pair;
use mesh_xds::client::{Agent, Notice, Scope};
use mesh_xds::node;

/// Longest wait for a change; what is real in a test takes its time on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// An instance of the service `reviews`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Its IP address; the port is 9080.
    pub(crate) address: &'static str,
    /// Its label `version`.
    pub(crate) version: &'static str,
    /// Whether it may get requests.
    pub(crate) is_ready: bool,
}

/// Where the instances of `reviews` are declared. The service has port 9080, named `http`.
pub(crate) trait Place {
    /// The host of the service.
    const HOST: &'static str;

    /// The registry that reads them.
    fn source(&mut self) -> Box<dyn ConfigSource>;

    /// Declares these instances, and no others.
    fn set(&mut self, instances: &[Instance]);
}

fn instance(address: &'static str, version: &'static str) -> Instance {
    Instance { address, version, is_ready: true }
}

/// Runs the suite. The rules for the service come from another source.
pub(crate) async fn check<P: Place>(mut place: P) {
    let (one, two, three) = (instance("127.0.0.1", "v1"), instance("127.0.0.2", "v1"), instance("127.0.0.3", "v2"));
    let rules = Objects::new();
    rules.put(
        "rules/reviews",
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: reviews, namespace: default}}\n\
             spec: {{host: {}, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}\n",
            P::HOST
        ),
    );
    rules.put("rules/routes", routes(P::HOST));
    rules.complete();
    place.set(&[one, two]);
    let traffic = Traffic::start(P::HOST, vec![place.source(), Box::new(rules)]).await;
    traffic.moves_to(&[one, two]).await;
    // Added.
    place.set(&[one, two, three]);
    traffic.moves_to(&[one, two, three]).await;
    // Removed.
    place.set(&[two, three]);
    traffic.moves_to(&[two, three]).await;
    // Relabelled.
    let relabelled = Instance { version: "v2", ..two };
    place.set(&[relabelled, three]);
    traffic.moves_to(&[relabelled, three]).await;
    // No longer ready, and ready again.
    place.set(&[relabelled, Instance { is_ready: false, ..three }]);
    traffic.moves_to(&[relabelled]).await;
    place.set(&[relabelled, three]);
    traffic.moves_to(&[relabelled, three]).await;
}

/// Routes that use the subsets.
fn routes(host: &str) -> String {
    let to = |version: &str| {
        format!(
            "{{match: [{{headers: {{version: {{exact: {version}}}}}}}], route: [{{destination: {{host: {host}, subset: \
             {version}}}}}]}}"
        )
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: reviews, namespace: default}}\nspec: \
         {{hosts: [{host}], http: [{}, {}, {{route: [{{destination: {{host: {host}}}}}]}}]}}\n",
        to("v1"),
        to("v2")
    )
}

/// A client that calls the service.
struct Traffic {
    host: &'static str,
    store: Arc<Store>,
    notices: tokio::sync::watch::Receiver<u64>,
}

impl Traffic {
    async fn start(host: &'static str, sources: Vec<Box<dyn ConfigSource>>) -> Self {
        let (follower, meshes) = Follower::open(sources, Strictness::Strict).await.expect("the sources are valid");
        let (transport, acceptor) = pair();
        let store = Arc::new(Store::new());
        let node = node::to_xds(&Node::client(Role::Library, "default"));
        let agent = Agent::new(transport, node, Scope::Everything, Arc::clone(&store), SplitMix64::new(1));
        tokio::spawn(serve(acceptor, meshes, follower.status(), Options::default()));
        tokio::spawn(follower.run(|_| {}));
        let (sender, notices) = tokio::sync::watch::channel(0);
        tokio::spawn(agent.run(move |notice| {
            if let Notice::Applied(report) = notice {
                assert_eq!(report.rejected, []);
            }
            sender.send_modify(|count| *count += 1);
        }));
        Self { host, store, notices }
    }

    /// Waits until the instances get the traffic: all of them that of the service, and those with a version that of its
    /// subset.
    async fn moves_to(&self, instances: &[Instance]) {
        let expected = |version: &str| {
            let of_version = instances.iter().filter(|it| version.is_empty() || it.version == version);
            of_version.map(|it| format!("{}:9080", it.address)).collect::<BTreeSet<_>>()
        };
        let mut notices = self.notices.clone();
        let moved = async {
            while ["", "v1", "v2"].iter().any(|version| self.endpoints(version) != expected(version)) {
                notices.changed().await.expect("the client runs");
                let is_served = !self.endpoints("").is_empty();
                assert!(is_served || *notices.borrow() <= 4, "the service has no endpoint");
            }
        };
        if tokio::time::timeout(DEADLINE, moved).await.is_err() {
            panic!("expected {instances:?}, found {:?}", ["", "v1", "v2"].map(|version| self.endpoints(version)));
        }
    }

    fn endpoints(&self, subset: &str) -> BTreeSet<String> {
        let Some(cluster) = self.store.cluster(&format!("outbound|9080|{subset}|{}", self.host)) else {
            return BTreeSet::new();
        };
        cluster.endpoints().endpoints().iter().map(|endpoint| endpoint.address().to_string()).collect()
    }
}

/// The service as Kubernetes declares it: a Service, a Pod for each instance, and an EndpointSlice.
pub(crate) fn kubernetes_objects(instances: &[Instance]) -> Vec<(String, String)> {
    let mut objects = vec![(
        "Service".to_owned(),
        "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"reviews\", \"namespace\": \"default\"}, \
         \"spec\": {\"selector\": {\"app\": \"reviews\"}, \"ports\": [{\"name\": \"http\", \"port\": 9080}]}}"
            .to_owned(),
    )];
    let mut endpoints = Vec::new();
    for Instance { address, version, is_ready } in instances {
        let name = format!("reviews-{}", address.replace('.', "-"));
        let pod = format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {{\"name\": \"{name}\", \"namespace\": \"default\", \
             \"labels\": {{\"app\": \"reviews\", \"version\": \"{version}\"}}}}, \"spec\": {{\"containers\": [{{\"name\": \
             \"app\", \"image\": \"app\"}}]}}, \"status\": {{\"podIP\": \"{address}\"}}}}"
        );
        objects.push((format!("Pod-{name}"), pod));
        endpoints.push(format!(
            "{{\"addresses\": [\"{address}\"], \"conditions\": {{\"ready\": {is_ready}}}, \"targetRef\": {{\"kind\": \"Pod\", \
             \"name\": \"{name}\", \"namespace\": \"default\"}}}}"
        ));
    }
    let slice = format!(
        "{{\"apiVersion\": \"discovery.k8s.io/v1\", \"kind\": \"EndpointSlice\", \"metadata\": {{\"name\": \"reviews-1\", \
         \"namespace\": \"default\", \"labels\": {{\"kubernetes.io/service-name\": \"reviews\"}}}}, \"addressType\": \"IPv4\", \
         \"endpoints\": [{}], \"ports\": [{{\"name\": \"http\", \"port\": 9080, \"protocol\": \"TCP\"}}]}}",
        endpoints.join(", ")
    );
    objects.push(("EndpointSlice".to_owned(), slice));
    objects
}
