//! `dynamic_resources` of a bootstrap: where listeners and clusters come from.

use std::time::Duration;

use crate::decode::field::{At, Result, fields, is_set};
use crate::decode::value;
use crate::proto::envoy::config::bootstrap::v3::bootstrap::DynamicResources as ProtoDynamicResources;
use crate::proto::envoy::config::core::v3::ConfigSource;
use crate::resource::config_source::{api_source, decode as decode_source};
use crate::resource::{ApiSource, Source};

/// Envoy's default of `initial_fetch_timeout`.
const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Where listeners and clusters come from. Envoy `Bootstrap.DynamicResources`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DynamicResources {
    /// The stream for all types of resources, to which [`Source::Aggregated`] refers.
    pub ads_config: Option<ApiSource>,
    /// The source of listeners; `None` = there are only those of the bootstrap.
    pub lds_config: Option<TypeSource>,
    /// The source of clusters; `None` = there are only those of the bootstrap.
    pub cds_config: Option<TypeSource>,
}

/// The source of all resources of a type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TypeSource {
    /// The source.
    pub source: Source,
    /// How long the process waits for the first resources before it serves; `None` = as long as it takes. Default 15 s.
    /// Envoy `ConfigSource.initial_fetch_timeout`.
    pub initial_fetch_timeout: Option<Duration>,
}

impl DynamicResources {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The sources over gRPC, with the paths of the fields that name their clusters.
    pub(super) fn api_sources(&self) -> impl Iterator<Item = (String, &ApiSource)> {
        let types = [("lds_config", &self.lds_config), ("cds_config", &self.cds_config)];
        let types = types.into_iter().filter_map(|(name, of_type)| match &of_type.as_ref()?.source {
            Source::Grpc(api) => Some((format!("{name}.api_config_source"), api)),
            Source::Aggregated | Source::File(_) => None,
        });
        self.ads_config.iter().map(|api| ("ads_config".to_owned(), api)).chain(types)
    }
}

pub(super) fn decode(at: &At<'_>, message: &ProtoDynamicResources) -> Result<DynamicResources> {
    fields! {
        ProtoDynamicResources = message, at;
        use { lds_config, cds_config, ads_config }
        ignore {}
        refuse { lds_resources_locator, cds_resources_locator }
    }
    let ads = value::optional(&at.field("ads_config"), ads_config.as_ref().filter(|it| is_set(*it)), api_source)?;
    let of_type = |name: &'static str, source: Option<&ConfigSource>| {
        let at = at.field(name);
        let decoded = value::optional(&at, source.filter(|it| is_set(*it)), type_source)?;
        if ads.is_none() && decoded.as_ref().is_some_and(|decoded| decoded.source == Source::Aggregated) {
            return Err(at.field("ads").refuse("there is no ads_config"));
        }
        Ok(decoded)
    };
    let (lds_config, cds_config) =
        at.both(of_type("lds_config", lds_config.as_ref()), of_type("cds_config", cds_config.as_ref()))?;
    Ok(DynamicResources { ads_config: ads, lds_config, cds_config })
}

fn type_source(at: &At<'_>, source: &ConfigSource) -> Result<TypeSource> {
    let (source, timeout) = decode_source(at, source)?;
    let timeout = timeout.unwrap_or(INITIAL_FETCH_TIMEOUT);
    Ok(TypeSource { source, initial_fetch_timeout: (!timeout.is_zero()).then_some(timeout) })
}
