//! `envoy.config.rbac.v3`: policies.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use mesh_core::filter::rbac::{
    Action, Audit, AuditCondition, AuditLogger, Condition, Engine, Policy, Rules, SanMatcher, UriTemplate,
};
use mesh_core::model::StringMatcher;
use prost::Name;

use crate::decode::field::{At, Result, fields};
use crate::decode::header;
use crate::decode::metadata_matcher::metadata_matcher;
use crate::decode::value::{enumeration, list, network, optional, required, string_matcher, unpack};
use crate::descriptor::type_name;
use crate::proto::envoy::config::core::v3::{CidrRange, TypedExtensionConfig};
use crate::proto::envoy::config::rbac::v3 as proto;
use crate::proto::envoy::config::rbac::v3::permission::Rule;
use crate::proto::envoy::config::rbac::v3::principal::Identifier;
use crate::proto::envoy::config::rbac::v3::rbac::audit_logging_options::{
    AuditCondition as ProtoCondition, AuditLoggerConfig,
};
use crate::proto::envoy::config::rbac::v3::rbac::{Action as ProtoAction, AuditLoggingOptions};
use crate::proto::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use crate::proto::envoy::extensions::rbac::audit_loggers::stream::v3::StdoutAuditLog;
use crate::proto::envoy::extensions::rbac::principals::mtls_authenticated::v3::Config as MtlsAuthenticated;
use crate::proto::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use crate::proto::envoy::r#type::matcher::v3 as matcher;
use crate::proto::envoy::r#type::v3::Int32Range;

/// What policies are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Requests and their connections.
    Request,
    /// Connections. Conditions on requests are refused: they could never hold.
    Connection,
}

/// Policies, compiled.
pub(crate) fn decode_engine(at: &At<'_>, rules: &proto::Rbac, scope: Scope) -> Result<Arc<Engine>> {
    let proto::Rbac { action, policies, audit_logging_options } = rules;
    let action = match enumeration(&at.field("action"), *action)? {
        ProtoAction::Allow => Action::Allow,
        ProtoAction::Deny => Action::Deny,
        ProtoAction::Log => Action::Log,
    };
    let decoder = Decoder { scope };
    let decode = |(name, policy): (&String, &proto::Policy)| {
        Ok((name.as_str().into(), decoder.policy(&at.entry("policies", name), policy)?))
    };
    let policies = at.all(policies.iter().map(decode));
    let options = &at.field("audit_logging_options");
    let audit = optional(options, audit_logging_options.as_ref(), audit);
    let (policies, audit) = at.both(policies, audit)?;
    let rules = Rules::new(action, policies.into_iter().collect()).with_audit(audit.unwrap_or_default());
    Ok(Arc::new(Engine::new(rules)))
}

fn audit(at: &At<'_>, options: &AuditLoggingOptions) -> Result<Audit> {
    let AuditLoggingOptions { audit_condition, logger_configs } = options;
    let condition = match enumeration(&at.field("audit_condition"), *audit_condition)? {
        ProtoCondition::None => AuditCondition::None,
        ProtoCondition::OnDeny => AuditCondition::OnDeny,
        ProtoCondition::OnAllow => AuditCondition::OnAllow,
        ProtoCondition::OnDenyAndAllow => AuditCondition::OnDenyAndAllow,
    };
    let loggers = list(at, "logger_configs", logger_configs, audit_logger)?;
    Ok(Audit::new(condition, loggers.into_iter().flatten().collect()))
}

/// A logger; `None` if it is not known and optional.
fn audit_logger(at: &At<'_>, config: &AuditLoggerConfig) -> Result<Option<AuditLogger>> {
    let AuditLoggerConfig { audit_logger, is_optional } = config;
    let at = at.field("audit_logger");
    let TypedExtensionConfig { name, typed_config } = required(&at, audit_logger.as_ref())?;
    let kind = typed_config.as_ref().map_or("", |config| type_name(&config.type_url));
    if kind == StdoutAuditLog::full_name() {
        return Ok(Some(AuditLogger::Stdout));
    }
    if *is_optional {
        at.ignore(format_args!("logger {name} ({kind}) is not known, and optional"));
        return Ok(None);
    }
    Err(at.refuse(format_args!("logger {name} ({kind}): not supported")))
}

struct Decoder {
    scope: Scope,
}

impl Decoder {
    fn policy(&self, at: &At<'_>, policy: &proto::Policy) -> Result<Policy> {
        fields! {
            proto::Policy = policy, at;
            use { permissions, principals }
            ignore {}
            refuse { condition, checked_condition, cel_config }
        }
        let permissions = list(at, "permissions", permissions, |at, it| self.permission(at, it));
        let principals = list(at, "principals", principals, |at, it| self.principal(at, it));
        let (permissions, principals) = at.both(permissions, principals)?;
        Ok(Policy::new(permissions, principals))
    }

    /// The position of a condition on requests.
    fn of_requests<'a>(&self, at: &'a At<'a>, name: &'a str) -> Result<At<'a>> {
        let at = at.field(name);
        match self.scope {
            Scope::Request => Ok(at),
            Scope::Connection => Err(at.refuse("a connection has no request, so the condition could never hold")),
        }
    }

    fn permission(&self, at: &At<'_>, permission: &proto::Permission) -> Result<Condition> {
        let set = |name, set: &proto::permission::Set| {
            list(&at.field(name), "rules", &set.rules, |at, rule| self.permission(at, rule))
        };
        Ok(match &permission.rule {
            Some(Rule::AndRules(rules)) => Condition::And(set("and_rules", rules)?),
            Some(Rule::OrRules(rules)) => Condition::Or(set("or_rules", rules)?),
            Some(Rule::NotRule(rule)) => Condition::Not(Box::new(self.permission(&at.field("not_rule"), rule)?)),
            Some(Rule::Any(any)) => always(&at.field("any"), *any)?,
            Some(Rule::Header(value)) => Condition::Header(header::matcher(&self.of_requests(at, "header")?, value)?),
            Some(Rule::UrlPath(path)) => Condition::UrlPath(path_matcher(&self.of_requests(at, "url_path")?, path)?),
            Some(Rule::UriTemplate(config)) => {
                Condition::UriTemplate(uri_template(&self.of_requests(at, "uri_template")?, config)?)
            }
            Some(Rule::DestinationIp(range)) => {
                Condition::DestinationIp(addresses(&at.field("destination_ip"), range)?)
            }
            Some(Rule::DestinationPort(port)) => {
                let invalid = |_| at.field("destination_port").refuse(format_args!("{port} is not in 0..=65535"));
                Condition::DestinationPort(u16::try_from(*port).map_err(invalid)?)
            }
            Some(Rule::DestinationPortRange(range)) => port_range(&at.field("destination_port_range"), *range)?,
            Some(Rule::Metadata(value)) => Condition::Metadata(metadata_matcher(&at.field("metadata"), value)?),
            Some(Rule::SourcedMetadata(value)) => sourced_metadata(&at.field("sourced_metadata"), value)?,
            Some(Rule::RequestedServerName(name)) => {
                Condition::RequestedServerName(string_matcher(&at.field("requested_server_name"), name)?)
            }
            Some(Rule::Matcher(extension)) => return Err(unknown(&at.field("matcher"), extension)),
            None => return Err(at.refuse("no rule is given")),
        })
    }

    fn principal(&self, at: &At<'_>, principal: &proto::Principal) -> Result<Condition> {
        let set =
            |name, set: &proto::principal::Set| list(&at.field(name), "ids", &set.ids, |at, id| self.principal(at, id));
        let range = |name, range| addresses(&at.field(name), range);
        Ok(match &principal.identifier {
            Some(Identifier::AndIds(ids)) => Condition::And(set("and_ids", ids)?),
            Some(Identifier::OrIds(ids)) => Condition::Or(set("or_ids", ids)?),
            Some(Identifier::NotId(id)) => Condition::Not(Box::new(self.principal(&at.field("not_id"), id)?)),
            Some(Identifier::Any(any)) => always(&at.field("any"), *any)?,
            Some(Identifier::Authenticated(proto::principal::Authenticated { principal_name })) => {
                let at = at.field("authenticated");
                let at = at.field("principal_name");
                Condition::Authenticated(optional(&at, principal_name.as_ref(), string_matcher)?)
            }
            Some(Identifier::SourceIp(network)) => Condition::SourceIp(range("source_ip", network)?),
            Some(Identifier::DirectRemoteIp(network)) => Condition::DirectRemoteIp(range("direct_remote_ip", network)?),
            Some(Identifier::RemoteIp(network)) => Condition::RemoteIp(range("remote_ip", network)?),
            Some(Identifier::Header(value)) => {
                Condition::Header(header::matcher(&self.of_requests(at, "header")?, value)?)
            }
            Some(Identifier::UrlPath(path)) => {
                Condition::UrlPath(path_matcher(&self.of_requests(at, "url_path")?, path)?)
            }
            Some(Identifier::Metadata(value)) => Condition::Metadata(metadata_matcher(&at.field("metadata"), value)?),
            Some(Identifier::SourcedMetadata(value)) => sourced_metadata(&at.field("sourced_metadata"), value)?,
            Some(Identifier::FilterState(_)) => return Err(at.field("filter_state").refuse("not supported")),
            Some(Identifier::Custom(extension)) => custom_principal(&at.field("custom"), extension)?,
            None => return Err(at.refuse("no identifier is given")),
        })
    }
}

fn always(at: &At<'_>, any: bool) -> Result<Condition> {
    if any { Ok(Condition::Always) } else { Err(at.refuse("false: must be true")) }
}

fn unknown(at: &At<'_>, extension: &TypedExtensionConfig) -> Box<crate::decode::field::FieldError> {
    let kind = extension.typed_config.as_ref().map_or("", |config| type_name(&config.type_url));
    at.refuse(format_args!("extension {} ({kind}): not supported", extension.name))
}

fn path_matcher(at: &At<'_>, value: &matcher::PathMatcher) -> Result<StringMatcher> {
    match &value.rule {
        Some(matcher::path_matcher::Rule::Path(path)) => string_matcher(&at.field("path"), path),
        None => Err(at.refuse("no rule is given")),
    }
}

fn uri_template(at: &At<'_>, extension: &TypedExtensionConfig) -> Result<UriTemplate> {
    let at = at.field("typed_config");
    let config: UriTemplateMatchConfig = unpack(&at, required(&at, extension.typed_config.as_ref())?)?;
    UriTemplate::parse(&config.path_template).map_err(|error| at.field("path_template").refuse(error))
}

/// A network; one of addresses of IPv4 that are mapped to IPv6 is a network of IPv4.
pub(super) fn addresses(at: &At<'_>, range: &CidrRange) -> Result<IpNet> {
    let found = network(at, range)?;
    let IpNet::V6(v6) = found else { return Ok(found) };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    Ok(mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(found, IpNet::V4))
}

fn port_range(at: &At<'_>, range: Int32Range) -> Result<Condition> {
    let Int32Range { start, end } = range;
    let port = |value: i32| u32::try_from(value).ok().filter(|port| *port <= 65_536);
    match (port(start), port(end)) {
        (Some(first), Some(last)) if first < last => Ok(Condition::DestinationPortRange(first..last)),
        _ => Err(at.refuse(format_args!("{start}..{end} is not a range within 0..65536"))),
    }
}

fn sourced_metadata(at: &At<'_>, value: &proto::SourcedMetadata) -> Result<Condition> {
    let proto::SourcedMetadata { metadata_matcher: matcher, metadata_source } = value;
    let matcher_at = at.field("metadata_matcher");
    let matcher = metadata_matcher(&matcher_at, required(&matcher_at, matcher.as_ref())?)?;
    Ok(match enumeration(&at.field("metadata_source"), *metadata_source)? {
        proto::MetadataSource::Dynamic => Condition::Metadata(matcher),
        proto::MetadataSource::Route => Condition::RouteMetadata(matcher),
    })
}

fn custom_principal(at: &At<'_>, extension: &TypedExtensionConfig) -> Result<Condition> {
    let Some(config) = extension.typed_config.as_ref() else { return Err(unknown(at, extension)) };
    if type_name(&config.type_url) != MtlsAuthenticated::full_name() {
        return Err(unknown(at, extension));
    }
    let at = at.field("typed_config");
    let MtlsAuthenticated { san_matcher, any_validated_client_certificate } = unpack(&at, config)?;
    let Some(matcher) = san_matcher else {
        return match any_validated_client_certificate {
            true => Ok(Condition::MtlsAuthenticated(None)),
            false => Err(at.refuse("neither san_matcher nor any_validated_client_certificate is given")),
        };
    };
    let at = at.field("san_matcher");
    let value_at = at.field("matcher");
    let value = string_matcher(&value_at, required(&value_at, matcher.matcher.as_ref())?)?;
    let san = match enumeration(&at.field("san_type"), matcher.san_type)? {
        SanType::Uri => SanMatcher::Uri(value),
        SanType::Dns => SanMatcher::Dns(value),
        SanType::Email => SanMatcher::Email(value),
        SanType::IpAddress => SanMatcher::Ip(value),
        SanType::Unspecified | SanType::OtherName => {
            return Err(at.field("san_type").refuse("not supported: URI, DNS, EMAIL and IP_ADDRESS are"));
        }
    };
    Ok(Condition::MtlsAuthenticated(Some(san)))
}
