//! The HTTP filters of a connection manager: their configuration and their decisions.
//!
//! A chain of [`HttpFilter`]s runs in configured order before a request is sent on. Each has a name, unique in its chain,
//! and a configuration. A route configuration, a virtual host, a route or a weighted cluster can override the configuration
//! of a filter, or enable or disable it: [`FilterOverrides`], by the filter's name. They are resolved once, when routes are
//! compiled; a request finds the result with
//! [`RouteEntry::filter_override`](crate::route::RouteEntry::filter_override).
//!
//! One file per filter holds its configuration and its decisions, without I/O. The table below is the list of filters:
//! a filter is one line there, and code that has to cover all of them does not compile until it covers the new one.
//!
//! Envoy `http_connection_manager.v3.HttpFilter`, `route.v3.FilterConfig` and "HTTP filter route-based configuration".

pub mod cors;
pub mod ext_authz;
pub mod fault;
pub mod header_mutation;
pub mod jwt_authn;
mod overrides;
pub mod rbac;

use std::{borrow::Cow, sync::Arc};

pub(crate) use overrides::ResolvedOverrides;
pub use overrides::{FilterOverride, FilterOverrides, ResolvedOverride};

use crate::value::ClusterName;

/// Generates the types that cover all filters. Each line is: name, Envoy's name, configuration in a chain,
/// configuration of a route; and `clusters`, if its requests of its own go to clusters that the configuration in a chain
/// names. Then that configuration has a method `clusters`, which lists them.
macro_rules! filters {
    (@clusters $config:ident) => { { let _ = $config; Vec::new() } };
    (@clusters $config:ident clusters) => { $config.clusters() };
    ($($filter:ident($name:literal, $config:ty, $per_route:ty $(, $clusters:ident)?)),* $(,)?) => {
        /// The configuration of a filter in a chain.
        #[derive(Clone, Debug, PartialEq)]
        pub enum FilterConfig {
            $(#[doc = concat!("Of `", $name, "`.")] $filter(Arc<$config>),)*
        }

        impl FilterConfig {
            /// The clusters that the filter sends requests of its own to, with the paths of their names in the filter's
            /// message. They are kept like those that routes name.
            #[must_use]
            pub fn clusters(&self) -> Vec<NamedCluster<'_>> {
                match self {
                    $(Self::$filter(config) => filters!(@clusters config $($clusters)?),)*
                }
            }
        }

        /// The configuration of a filter for a part of the routes.
        #[derive(Clone, Debug, PartialEq)]
        pub enum PerRouteConfig {
            $(#[doc = concat!("Of `", $name, "`.")] $filter(Arc<$per_route>),)*
        }

        $(
            impl Filter for $config {
                const NAME: &'static str = $name;
                type PerRoute = $per_route;

                fn per_route(config: &PerRouteConfig) -> Option<&Arc<$per_route>> {
                    if let PerRouteConfig::$filter(config) = config { Some(config) } else { None }
                }
            }

            impl From<Arc<$config>> for FilterConfig {
                fn from(config: Arc<$config>) -> Self {
                    Self::$filter(config)
                }
            }

            impl From<Arc<$per_route>> for PerRouteConfig {
                fn from(config: Arc<$per_route>) -> Self {
                    Self::$filter(config)
                }
            }
        )*
    };
}

filters! {
    Fault("envoy.filters.http.fault", fault::Fault, fault::Fault),
    Cors("envoy.filters.http.cors", cors::Cors, cors::CorsPolicy),
    HeaderMutation(
        "envoy.filters.http.header_mutation",
        header_mutation::HeaderMutation,
        header_mutation::Mutations
    ),
    ExtAuthz("envoy.filters.http.ext_authz", ext_authz::ExtAuthz, ext_authz::ExtAuthzPerRoute, clusters),
    JwtAuthn("envoy.filters.http.jwt_authn", jwt_authn::JwtAuthn, jwt_authn::PerRoute, clusters),
    Rbac("envoy.filters.http.rbac", rbac::Rbac, rbac::Rbac),
}

/// A cluster that the configuration of a filter names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedCluster<'a> {
    /// The path of the name in the filter's message, such as `http_service.server_uri.cluster`.
    pub path: Cow<'static, str>,
    /// The name.
    pub name: &'a ClusterName,
}

impl<'a> NamedCluster<'a> {
    /// The cluster `name`, which is at `path`.
    #[must_use]
    pub fn new(path: impl Into<Cow<'static, str>>, name: &'a ClusterName) -> Self {
        Self { path: path.into(), name }
    }
}

/// A kind of filter, implemented by its configuration in a chain.
pub trait Filter {
    /// Envoy's name for it. A chain may name its filters otherwise.
    const NAME: &'static str;

    /// Its configuration for a part of the routes.
    type PerRoute: 'static;

    /// `config`, if it is of this kind.
    fn per_route(config: &PerRouteConfig) -> Option<&Arc<Self::PerRoute>>;
}

/// A filter in a chain. Envoy `http_connection_manager.v3.HttpFilter`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HttpFilter {
    /// Unique in its chain; [`FilterOverrides`] refer to it.
    pub name: Arc<str>,
    /// The kind of filter and its configuration.
    pub config: FilterConfig,
    /// Run only where a route enables it. Default false.
    pub disabled: bool,
}

impl HttpFilter {
    /// A filter under Envoy's name for it, which runs unless a route disables it.
    #[must_use]
    pub fn new<F: Filter>(config: impl Into<Arc<F>>) -> Self
    where
        FilterConfig: From<Arc<F>>,
    {
        Self::named(F::NAME, config.into().into())
    }

    /// A filter under a name of its own, which runs unless a route disables it.
    #[must_use]
    pub fn named(name: impl Into<Arc<str>>, config: FilterConfig) -> Self {
        Self { name: name.into(), config, disabled: false }
    }

    /// Sets the name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Whether it runs for requests of a route whose overrides of it are `resolved`.
    #[must_use]
    pub fn runs(&self, resolved: Option<&ResolvedOverride>) -> bool {
        !resolved.map_or(self.disabled, |resolved| resolved.disabled)
    }
}
