//! The kinds of resources.
//!
//! [`for_each_kind`] is the one list of them. Code that covers every kind is generated from it: [`Kind`],
//! [`Config`] and the function that reads a resource here, and the checks between resources in `validate`. Each row names
//! the type of the kind, its name if that is another, its field in [`Config`], its module in `validate`, and its API.

use mesh_core::nearest::nearest;

use super::metadata::Metadata;
use crate::document::{Context, Node};

/// An API group of Istio or Kubernetes.
#[derive(Debug)]
pub(crate) struct Api {
    /// As in `apiVersion`, before the slash; empty for Kubernetes' core group.
    pub(crate) group: &'static str,
    /// Versions that are accepted; they have the same fields. istiod writes the first into metadata.
    pub(crate) versions: &'static [&'static str],
    /// Whose kinds they are.
    pub(crate) owner: Owner,
}

/// Who defines an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Istio: everything is in `spec`, and unknown fields are refused.
    Istio,
    /// Gateway API: as Istio.
    GatewayApi,
    /// Kubernetes: the whole object is read, and fields that do not matter to a mesh are left alone.
    Kubernetes,
}

impl Api {
    /// `GROUP/VERSION`, as in the field `apiVersion`.
    pub(crate) fn version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }
}

/// Traffic management.
const NETWORKING: Api =
    Api { group: "networking.istio.io", versions: &["v1", "v1beta1", "v1alpha3"], owner: Owner::Istio };
/// Authentication and authorization.
const SECURITY: Api = Api { group: "security.istio.io", versions: &["v1", "v1beta1"], owner: Owner::Istio };
/// Traffic management, of Kubernetes.
const GATEWAY_API: Api = Api {
    group: super::gateway_api::GROUP,
    versions: &["v1", "v1beta1", "v1alpha3", "v1alpha2"],
    owner: Owner::GatewayApi,
};
/// What Kubernetes consists of.
const CORE: Api = Api { group: "", versions: &["v1"], owner: Owner::Kubernetes };
/// Addresses of services.
const DISCOVERY: Api = Api { group: "discovery.k8s.io", versions: &["v1", "v1beta1"], owner: Owner::Kubernetes };
/// Workloads that run until they are stopped.
const APPS: Api = Api { group: "apps", versions: &["v1", "v1beta2", "v1beta1"], owner: Owner::Kubernetes };
/// Workloads that end.
const BATCH: Api = Api { group: "batch", versions: &["v1", "v1beta1"], owner: Owner::Kubernetes };

/// Calls a macro with every kind.
macro_rules! for_each_kind {
    ($callback:ident) => {
        $callback! {
            /// Routes of requests and connections to hosts.
            VirtualService { field: virtual_services, module: virtual_service, api: NETWORKING }
            /// Subsets and policies of services.
            DestinationRule { field: destination_rules, module: destination_rule, api: NETWORKING }
            /// Services.
            ServiceEntry { field: service_entries, module: service_entry, api: NETWORKING }
            /// Workloads that services select.
            WorkloadEntry { field: workload_entries, module: workload_entry, api: NETWORKING }
            /// Ports at the edge of the mesh.
            Gateway { field: gateways, module: gateway, api: NETWORKING }
            /// Listeners of workloads, and the services that they may call.
            Sidecar { field: sidecars, module: sidecar, api: NETWORKING }
            /// Who may send which requests to workloads.
            AuthorizationPolicy { field: authorization_policies, module: authorization_policy, api: SECURITY }
            /// Whether workloads are called with mutual TLS.
            PeerAuthentication { field: peer_authentications, module: peer_authentication, api: SECURITY }
            /// Tokens of end users that workloads accept.
            RequestAuthentication { field: request_authentications, module: request_authentication, api: SECURITY }
            /// Who serves Gateways of Gateway API.
            GatewayClass { field: gateway_classes, module: unchecked, api: GATEWAY_API }
            /// Ports at the edge of the mesh, as Gateway API has them.
            KubernetesGateway = "Gateway" { field: kubernetes_gateways, module: unchecked, api: GATEWAY_API }
            /// Routes of HTTP requests.
            HTTPRoute { field: http_routes, module: unchecked, api: GATEWAY_API }
            /// Routes of gRPC requests.
            GRPCRoute { field: grpc_routes, module: unchecked, api: GATEWAY_API }
            /// References to other namespaces that are allowed.
            ReferenceGrant { field: reference_grants, module: unchecked, api: GATEWAY_API }
            /// Services of Kubernetes.
            Service { field: services, module: service, api: CORE }
            /// Addresses of services of Kubernetes.
            EndpointSlice { field: endpoint_slices, module: endpoint_slice, api: DISCOVERY }
            /// Addresses of services of Kubernetes, in the form that EndpointSlices have replaced.
            Endpoints { field: endpoints, module: endpoints, api: CORE }
            /// Workloads of Kubernetes, with their addresses and labels.
            Pod { field: pods, module: unchecked, api: CORE }
            /// Certificates and keys.
            Secret { field: secrets, module: unchecked, api: CORE }
            /// Machines, whose labels are the localities of their Pods.
            Node { field: nodes, module: unchecked, api: CORE }
            /// Namespaces, with their labels.
            Namespace { field: namespaces, module: unchecked, api: CORE }
            /// Labels of Pods that a Deployment makes.
            Deployment { field: deployments, module: unchecked, api: APPS }
            /// Labels of Pods that a StatefulSet makes.
            StatefulSet { field: stateful_sets, module: unchecked, api: APPS }
            /// Labels of Pods that a DaemonSet makes.
            DaemonSet { field: daemon_sets, module: unchecked, api: APPS }
            /// Labels of Pods that a ReplicaSet makes.
            ReplicaSet { field: replica_sets, module: unchecked, api: APPS }
            /// Labels of Pods that a ReplicationController makes.
            ReplicationController { field: replication_controllers, module: unchecked, api: CORE }
            /// Labels of Pods that a Job makes.
            Job { field: jobs, module: unchecked, api: BATCH }
            /// Labels of Pods that a CronJob makes.
            CronJob { field: cron_jobs, module: unchecked, api: BATCH }
        }
    };
}
pub(crate) use for_each_kind;

/// How resources of a kind are read.
pub(crate) trait Resource: Sized {
    /// Paths of the fields that no other resource refers to. A mistake in one of them does not keep other resources from
    /// being checked.
    const LOCAL_FIELDS: &'static [&'static str] = &[];
    /// Whether it belongs to no namespace.
    const IS_CLUSTER_SCOPED: bool = false;

    /// Reads the `spec` of a kind of Istio, or the whole object of a kind of Kubernetes. Records a diagnostic for each
    /// mistake; `None` if they leave no usable resource.
    fn read(metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<Self>;
}

/// The name of a kind: that of its type, unless the row has another.
macro_rules! name_of {
    ($kind:ident) => {
        stringify!($kind)
    };
    ($kind:ident $name:literal) => {
        $name
    };
}

macro_rules! define_kinds {
    ($($(#[$doc:meta])+ $kind:ident $(= $name:literal)? { field: $field:ident, module: $module:ident, api: $api:ident })+) => {
        /// A kind of resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])+ $kind,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The name in the field `kind`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => name_of!($kind $($name)?),)+
                }
            }

            /// The API that the kind belongs to.
            pub(crate) fn api(self) -> &'static Api {
                match self {
                    $(Self::$kind => &$api,)+
                }
            }

            /// Whether resources of the kind belong to no namespace.
            pub(crate) fn is_cluster_scoped(self) -> bool {
                match self {
                    $(Self::$kind => super::$kind::IS_CLUSTER_SCOPED,)+
                }
            }

            /// See [`Resource::LOCAL_FIELDS`].
            pub(super) fn local_fields(self) -> &'static [&'static str] {
                match self {
                    $(Self::$kind => super::$kind::LOCAL_FIELDS,)+
                }
            }
        }

        /// All resources of a mesh. Each list has Istio's order of precedence: the oldest first, then by name.
        #[derive(Clone, Debug, Default)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[$doc])+ pub $field: Vec<super::$kind>,)+
            /// The settings of the mesh.
            pub mesh_config: super::MeshConfig,
        }

        impl Config {
            /// Number of resources of all kinds.
            pub fn len(&self) -> usize {
                [$(self.$field.len()),+].into_iter().sum()
            }

            /// The metadata of all resources.
            pub fn metadata(&self) -> impl Iterator<Item = &Metadata> {
                let all = std::iter::empty();
                $(let all = all.chain(self.$field.iter().map(|resource| &resource.metadata));)+
                all
            }

            /// Reads a resource, as [`Resource::read`], and adds it; `None` if it is unusable.
            pub(super) fn read(&mut self, metadata: Metadata, node: &Node, cx: Context<'_>) -> Option<()> {
                match metadata.kind {
                    $(Kind::$kind => self.$field.push(Resource::read(metadata, node, cx)?),)+
                }
                Some(())
            }

            /// Puts the lists into their order.
            pub(super) fn sort(&mut self) {
                $(self.$field.sort_by_cached_key(|resource| resource.metadata.precedence());)+
            }
        }
    };
}
for_each_kind!(define_kinds);

impl Kind {
    /// The kind of this name; of several, that of the API group, or else the first.
    pub(crate) fn from_name(name: &str, group: &str) -> Option<Self> {
        let mut named = Self::ALL.iter().copied().filter(|kind| kind.as_str() == name);
        let first = named.clone().next()?;
        Some(named.find(|kind| kind.api().group == group).unwrap_or(first))
    }

    /// The kind of a resource that is named as [`Metadata::resource`] does: `VirtualService default/reviews`.
    pub(crate) fn of_resource(resource: &str) -> Option<Self> {
        let kind = resource.split_once(' ')?.0;
        let (name, group) = kind.split_once('.').unwrap_or((kind, ""));
        Self::from_name(name, group)
    }

    /// Whether the kind protects workloads, so that leaving out a resource would open what it closes.
    pub(crate) fn is_of_security(self) -> bool {
        self.api().group == SECURITY.group
    }

    /// The kind that a name, perhaps misspelt, most likely means.
    pub(super) fn meant(name: &str) -> Option<Self> {
        Self::from_name(nearest(name, Self::ALL.iter().map(|kind| kind.as_str()))?, "")
    }
}

impl Config {
    /// Whether there is no resource at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
