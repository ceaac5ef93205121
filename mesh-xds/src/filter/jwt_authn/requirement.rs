//! `JwtRequirement`.

use mesh_core::filter::jwt_authn::{Allow, Audiences, Requirement};

use crate::decode::field::{At, Result};
use crate::decode::value::list;
use crate::proto::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use crate::proto::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;

/// Decodes a requirement that refers to `providers` by their names.
pub(super) fn decode(at: &At<'_>, value: &proto::JwtRequirement, providers: &[&str]) -> Result<Requirement> {
    let proto::JwtRequirement { requires_type } = value;
    let members = |at: &At<'_>, requirements: &[proto::JwtRequirement]| {
        list(at, "requirements", requirements, |at, value| decode(at, value, providers))
    };
    let find = |at: &At<'_>, name: &str| {
        let position = providers.iter().position(|provider| *provider == name);
        position.ok_or_else(|| at.refuse(format_args!("provider {name:?} is not configured")))
    };
    match requires_type {
        None => Ok(Requirement::Nothing),
        Some(RequiresType::ProviderName(name)) => {
            Ok(Requirement::Provider { provider: find(&at.field("provider_name"), name)?, audiences: None })
        }
        Some(RequiresType::ProviderAndAudiences(value)) => {
            let proto::ProviderWithAudiences { provider_name, audiences } = value;
            let at = at.field("provider_and_audiences");
            let provider = find(&at.field("provider_name"), provider_name)?;
            let audiences = Audiences::new(audiences.iter().map(String::as_str));
            Ok(Requirement::Provider { provider, audiences: Some(audiences).filter(|audiences| !audiences.is_empty()) })
        }
        Some(RequiresType::RequiresAny(value)) => {
            let proto::JwtRequirementOrList { requirements } = value;
            members(&at.field("requires_any"), requirements).map(Requirement::any)
        }
        Some(RequiresType::RequiresAll(value)) => {
            let proto::JwtRequirementAndList { requirements } = value;
            members(&at.field("requires_all"), requirements).map(Requirement::All)
        }
        Some(RequiresType::AllowMissingOrFailed(())) => Ok(Requirement::Optional(Allow::MissingOrFailed)),
        Some(RequiresType::AllowMissing(())) => Ok(Requirement::Optional(Allow::Missing)),
        Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
            Err(at.field("extract_only_without_validation").refuse("not supported: claims of tokens are not verified"))
        }
    }
}
