//! `xds.type.matcher.v3.Matcher` with actions of access control.
//!
//! A matcher is a tree. It becomes a list of rules in the order in which the tree is walked: a rule for each action, with the
//! conditions on the way to it. Where a nested matcher has no action for a request, Envoy denies it without trying what follows
//! the nested matcher; a rule without an action says so.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mesh_core::filter::rbac::{Action, Condition, Engine, OrderedRule, SanMatcher};
use mesh_core::model::{HeaderMatch, HeaderMatcher, StringMatcher, StringPattern};
use prost::Name;

use super::rules::{Scope, addresses};
use crate::decode::field::{At, FieldError, Result};
use crate::decode::value::{enumeration, header_key, list, regex_source, required, unpack};
use crate::descriptor::type_name;
use crate::proto::envoy::config::rbac::v3 as rbac;
use crate::proto::envoy::extensions::matching::common_inputs::network::v3 as network;
use crate::proto::envoy::extensions::matching::common_inputs::ssl::v3 as ssl;
use crate::proto::envoy::extensions::matching::input_matchers::ip::v3::Ip;
use crate::proto::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use crate::proto::xds::core::v3::TypedExtensionConfig;
use crate::proto::xds::r#type::matcher::v3::{
    Matcher, StringMatcher as ProtoStringMatcher,
    matcher::{
        MatcherType, OnMatch,
        matcher_list::{
            FieldMatcher, Predicate,
            predicate::{MatchType, SinglePredicate, single_predicate},
        },
        matcher_tree::{MatchMap, TreeType},
        on_match,
    },
    string_matcher::MatchPattern,
};

/// Most rules that a matcher becomes.
const MAX_RULES: usize = 100_000;

/// A matcher, compiled.
pub(crate) fn decode_matcher(at: &At<'_>, matcher: &Matcher, scope: Scope) -> Result<Arc<Engine>> {
    let mut rules = Rules { scope, list: Vec::new() };
    rules.add(at, matcher, &[])?;
    Ok(Arc::new(Engine::ordered(rules.list)))
}

struct Rules {
    scope: Scope,
    list: Vec<OrderedRule>,
}

impl Rules {
    /// Adds the rules of a matcher that is reached under these conditions.
    fn add(&mut self, at: &At<'_>, matcher: &Matcher, under: &[Condition]) -> Result<()> {
        match &matcher.matcher_type {
            Some(MatcherType::MatcherList(matchers)) => {
                let at = at.field("matcher_list");
                for (index, FieldMatcher { predicate, on_match }) in matchers.matchers.iter().enumerate() {
                    let at = at.item("matchers", index);
                    let predicate_at = at.field("predicate");
                    let condition = self.predicate(&predicate_at, required(&predicate_at, predicate.as_ref())?)?;
                    self.on_match(&at.field("on_match"), on_match.as_ref(), under, condition)?;
                }
            }
            Some(MatcherType::MatcherTree(tree)) => {
                let at = at.field("matcher_tree");
                let input = self.input(&at.field("input"), tree.input.as_ref())?;
                let (name, map, is_prefix) = match &tree.tree_type {
                    Some(TreeType::ExactMatchMap(map)) => ("exact_match_map", map, false),
                    Some(TreeType::PrefixMatchMap(map)) => ("prefix_match_map", map, true),
                    Some(TreeType::CustomMatch(_)) => return Err(at.field("custom_match").refuse("not supported")),
                    None => return Err(at.refuse("no map is given")),
                };
                let condition = |at: &At<'_>, key: &str| {
                    let key = key.into();
                    let pattern = if is_prefix { StringPattern::Prefix(key) } else { StringPattern::Exact(key) };
                    input.matches(at, StringMatcher::new(pattern, false))
                };
                self.map(&at.field(name), map, under, condition)?;
            }
            None => {}
        }
        match &matcher.on_no_match {
            Some(on_match) => self.on_match(&at.field("on_no_match"), Some(on_match), under, Condition::Always),
            None => Ok(()),
        }
    }

    /// `condition` is that of a key. The longest comes first, because the longest prefix decides.
    fn map(
        &mut self,
        at: &At<'_>,
        map: &MatchMap,
        under: &[Condition],
        condition: impl Fn(&At<'_>, &str) -> Result<Condition>,
    ) -> Result<()> {
        let mut entries: Vec<_> = map.map.iter().collect();
        entries.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
        for (key, on_match) in entries {
            let at = at.entry("map", key);
            let condition = condition(&at, key)?;
            self.on_match(&at, Some(on_match), under, condition)?;
        }
        Ok(())
    }

    fn on_match(
        &mut self,
        at: &At<'_>,
        on_match: Option<&OnMatch>,
        under: &[Condition],
        condition: Condition,
    ) -> Result<()> {
        let OnMatch { keep_matching, on_match } = required(at, on_match)?;
        if *keep_matching {
            return Err(at.field("keep_matching").refuse("true: not supported"));
        }
        if self.list.len() >= MAX_RULES {
            return Err(at.refuse(format_args!("more than {MAX_RULES} actions")));
        }
        let mut conditions = under.to_vec();
        conditions.push(condition);
        match on_match {
            Some(on_match::OnMatch::Action(config)) => {
                let (name, action) = action(&at.field("action"), config)?;
                self.list.push(OrderedRule::new(&name, Condition::And(conditions), Some(action)));
            }
            Some(on_match::OnMatch::Matcher(nested)) => {
                self.add(&at.field("matcher"), nested, &conditions)?;
                self.list.push(OrderedRule::new("", Condition::And(conditions), None));
            }
            None => return Err(at.refuse("neither matcher nor action is given")),
        }
        Ok(())
    }

    fn predicate(&self, at: &At<'_>, predicate: &Predicate) -> Result<Condition> {
        Ok(match &predicate.match_type {
            Some(MatchType::SinglePredicate(single)) => self.single(&at.field("single_predicate"), single)?,
            Some(MatchType::OrMatcher(any)) => {
                Condition::Or(list(&at.field("or_matcher"), "predicate", &any.predicate, |at, predicate| {
                    self.predicate(at, predicate)
                })?)
            }
            Some(MatchType::AndMatcher(all)) => {
                Condition::And(list(&at.field("and_matcher"), "predicate", &all.predicate, |at, predicate| {
                    self.predicate(at, predicate)
                })?)
            }
            Some(MatchType::NotMatcher(inner)) => {
                Condition::Not(Box::new(self.predicate(&at.field("not_matcher"), inner)?))
            }
            None => return Err(at.refuse("no predicate is given")),
        })
    }

    fn single(&self, at: &At<'_>, single: &SinglePredicate) -> Result<Condition> {
        let input = self.input(&at.field("input"), single.input.as_ref())?;
        match &single.matcher {
            Some(single_predicate::Matcher::ValueMatch(value)) => {
                let at = at.field("value_match");
                input.matches(&at, string_matcher(&at, value)?)
            }
            Some(single_predicate::Matcher::CustomMatch(config)) => {
                let at = at.field("custom_match");
                let at = at.field("typed_config");
                let Ip { cidr_ranges, stat_prefix: _ } = unpack(&at, required(&at, config.typed_config.as_ref())?)?;
                let ranges = list(&at, "cidr_ranges", &cidr_ranges, addresses)?;
                let within = |range| input.within(&at, range);
                Ok(Condition::Or(at.all(ranges.into_iter().map(within))?))
            }
            None => Err(at.refuse("no matcher is given")),
        }
    }

    fn input(&self, at: &At<'_>, config: Option<&TypedExtensionConfig>) -> Result<Input> {
        let TypedExtensionConfig { name, typed_config } = required(at, config)?;
        let at = at.field("typed_config");
        let config = required(&at, typed_config.as_ref())?;
        let kind = type_name(&config.type_url);
        if kind == HttpRequestHeaderMatchInput::full_name() {
            if self.scope == Scope::Connection {
                return Err(at.refuse("a connection has no request, so the condition could never hold"));
            }
            let HttpRequestHeaderMatchInput { header_name } = unpack(&at, config)?;
            return header_key(&at.field("header_name"), &header_name).map(Input::Header);
        }
        let known = [
            (network::DestinationIpInput::full_name(), Input::DestinationIp),
            (network::DestinationPortInput::full_name(), Input::DestinationPort),
            (network::SourceIpInput::full_name(), Input::SourceIp),
            (network::DirectSourceIpInput::full_name(), Input::DirectSourceIp),
            (network::ServerNameInput::full_name(), Input::ServerName),
            (ssl::UriSanInput::full_name(), Input::UriSan),
            (ssl::DnsSanInput::full_name(), Input::DnsSan),
        ];
        let found = known.into_iter().find(|(known, _)| *known == kind).map(|(_, input)| input);
        found.ok_or_else(|| at.refuse(format_args!("input {name} ({kind}): not supported")))
    }
}

/// What is compared.
enum Input {
    Header(mesh_core::model::HeaderKey),
    DestinationIp,
    DestinationPort,
    SourceIp,
    DirectSourceIp,
    ServerName,
    UriSan,
    DnsSan,
}

impl Input {
    fn matches(&self, at: &At<'_>, value: StringMatcher) -> Result<Condition> {
        Ok(match self {
            Self::Header(key) => Condition::Header(HeaderMatcher {
                key: key.clone(),
                matches: HeaderMatch::String(value),
                invert_match: false,
                treat_missing_header_as_empty: false,
            }),
            Self::ServerName => Condition::RequestedServerName(value),
            Self::UriSan => Condition::MtlsAuthenticated(Some(SanMatcher::Uri(value))),
            Self::DnsSan => Condition::MtlsAuthenticated(Some(SanMatcher::Dns(value))),
            Self::DestinationPort => {
                let port = exact(&value).and_then(|port| port.parse().ok());
                Condition::DestinationPort(
                    port.ok_or_else(|| at.refuse("a port is compared with an exact number only"))?,
                )
            }
            Self::DestinationIp | Self::SourceIp | Self::DirectSourceIp => {
                let address = exact(&value).and_then(|address| address.parse::<IpAddr>().ok());
                let address =
                    address.ok_or_else(|| at.refuse("an address is compared with an exact one, or a range"))?;
                self.within(at, address.into())?
            }
        })
    }

    fn within(&self, at: &At<'_>, range: IpNet) -> std::result::Result<Condition, Box<FieldError>> {
        match self {
            Self::DestinationIp => Ok(Condition::DestinationIp(range)),
            Self::SourceIp => Ok(Condition::RemoteIp(range)),
            Self::DirectSourceIp => Ok(Condition::DirectRemoteIp(range)),
            _ => Err(at.refuse("only addresses are compared with ranges")),
        }
    }
}

fn exact(value: &StringMatcher) -> Option<&str> {
    match value.pattern() {
        StringPattern::Exact(text) => Some(text),
        _ => None,
    }
}

fn action(at: &At<'_>, config: &TypedExtensionConfig) -> Result<(String, Action)> {
    let at = at.field("typed_config");
    let rbac::Action { name, action } = unpack(&at, required(&at, config.typed_config.as_ref())?)?;
    let action = match enumeration(&at.field("action"), action)? {
        rbac::rbac::Action::Allow => Action::Allow,
        rbac::rbac::Action::Deny => Action::Deny,
        rbac::rbac::Action::Log => Action::Log,
    };
    Ok((name, action))
}

/// A string matcher of the matching API, which is not that of Envoy's own API.
fn string_matcher(at: &At<'_>, value: &ProtoStringMatcher) -> Result<StringMatcher> {
    let ProtoStringMatcher { ignore_case, match_pattern } = value;
    let pattern = match match_pattern {
        Some(MatchPattern::Exact(text)) => StringPattern::Exact(text.as_str().into()),
        Some(MatchPattern::Prefix(text)) => StringPattern::Prefix(text.as_str().into()),
        Some(MatchPattern::Suffix(text)) => StringPattern::Suffix(text.as_str().into()),
        Some(MatchPattern::Contains(text)) => StringPattern::Contains(text.as_str().into()),
        Some(MatchPattern::SafeRegex(expression)) => {
            let at = at.field("safe_regex");
            StringPattern::Regex(regex_source(&at.field("regex"), &expression.regex)?)
        }
        Some(MatchPattern::Custom(_)) => return Err(at.field("custom").refuse("not supported")),
        None => return Err(at.refuse("no pattern is given")),
    };
    Ok(StringMatcher::new(pattern, *ignore_case))
}
