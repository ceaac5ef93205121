//! The kinds of resources.
//!
//! [`for_each_kind`] is the one list of them. Code that covers every kind is generated from it: [`Kind`],
//! [`Config`] and the function that reads a resource here, and the checks between resources in `validate`. Each row names
//! the type of the kind, its field in [`Config`], its module in `validate`, and its API.

use super::metadata::Metadata;
use crate::document::{Context, Node};

/// An API group of Istio.
#[derive(Debug)]
pub(crate) struct Api {
    /// As in `apiVersion`, before the slash.
    pub(crate) group: &'static str,
    /// Versions that are accepted; they have the same fields. istiod writes the first into metadata.
    pub(crate) versions: &'static [&'static str],
}

/// Traffic management.
const NETWORKING: Api = Api { group: "networking.istio.io", versions: &["v1", "v1beta1", "v1alpha3"] };

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
        }
    };
}
pub(crate) use for_each_kind;

/// How resources of a kind are read.
pub(crate) trait Resource: Sized {
    /// Paths of the fields that no other resource refers to. A mistake in one of them does not keep other resources from
    /// being checked.
    const LOCAL_FIELDS: &'static [&'static str] = &[];

    /// Reads the `spec`. Records a diagnostic for each mistake; `None` if they leave no usable resource.
    fn read(metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<Self>;
}

macro_rules! define_kinds {
    ($($(#[$doc:meta])+ $kind:ident { field: $field:ident, module: $module:ident, api: $api:ident })+) => {
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
                    $(Self::$kind => stringify!($kind),)+
                }
            }

            /// The API that the kind belongs to.
            pub(crate) fn api(self) -> &'static Api {
                match self {
                    $(Self::$kind => &$api,)+
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
        }

        impl Config {
            /// Number of resources of all kinds.
            pub fn len(&self) -> usize {
                [$(self.$field.len()),+].into_iter().sum()
            }

            /// Reads a resource from its `spec` and adds it; `None` if it is unusable.
            pub(super) fn read(&mut self, metadata: Metadata, spec: &Node, cx: Context<'_>) -> Option<()> {
                match metadata.kind {
                    $(Kind::$kind => self.$field.push(Resource::read(metadata, spec, cx)?),)+
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

impl Config {
    /// Whether there is no resource at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
