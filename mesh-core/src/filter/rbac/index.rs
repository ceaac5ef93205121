//! Finds the policies that may match a request, so that its cost does not grow with the number of the others.
//!
//! A policy is filed under keys of which a request must have one for the policy to match, such as "the path is `/a`". A
//! policy of several alternatives has several keys. Among the keys that a policy could be filed under, those win that the
//! fewest other policies have. A policy that can match without any key, such as one for all paths but one, is
//! evaluated for every request.
//!
//! Keys are exact values, prefixes and suffixes of texts, and networks of addresses. Prefixes are found by their lengths:
//! one look-up for each length that some prefix has.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use smallvec::SmallVec;

use super::{rules::Condition, subject::Subject};
use crate::value::{
    HeaderKey, HeaderMatch, MetadataMatcher, MetadataValue, StringMatcher, StringPattern, ValueMatcher,
};

/// Most inputs that are indexed. Each costs a look-up for every request, and two policies may have different inputs.
const MAX_INPUTS: usize = 16;

/// A text of a request that conditions compare.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Text {
    Path,
    Identity,
    ServerName,
    Header(HeaderKey),
    Metadata(Box<str>, Vec<Box<str>>),
}

/// An address of a request that conditions compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Address {
    Destination,
    Source,
    DirectRemote,
    Remote,
}

/// What a key is looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Input {
    /// A text, perhaps in lower case.
    Text(Text, Case),
    Address(Address),
    DestinationPort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Case {
    AsIs,
    Lower,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Network(IpNet),
}

/// Something that a request may have.
type Key = (Input, Part);

/// The positions of policies, ascending.
type Positions = SmallVec<[u32; 2]>;

#[derive(Debug, Default)]
pub(super) struct Index {
    tables: Vec<(Input, Table)>,
    /// Policies without a key.
    others: Vec<u32>,
}

#[derive(Debug, Default)]
struct Table {
    exact: HashMap<Box<[u8]>, Positions>,
    prefixes: Affixes,
    suffixes: Affixes,
    networks: HashMap<IpNet, Positions>,
    /// The lengths of prefixes that networks have.
    network_lengths: Vec<u8>,
}

#[derive(Debug, Default)]
struct Affixes {
    texts: HashMap<Box<[u8]>, Positions>,
    /// The lengths that they have.
    lengths: Vec<usize>,
}

impl Index {
    /// `policies` are the two conditions of each policy, of which both have to hold.
    pub(super) fn new<'a>(policies: impl Iterator<Item = [&'a [Condition]; 2]> + Clone) -> Self {
        let counts = Counts::new(policies.clone());
        let mut index = Self::default();
        for (position, sides) in (0_u32..).zip(policies) {
            let covers = sides.into_iter().filter_map(|alternatives| counts.cover_any(alternatives));
            match covers.min_by_key(|cover| cover.cost) {
                Some(cover) => {
                    for (input, part) in cover.keys {
                        index.table(input).insert(part, position);
                    }
                }
                None => index.others.push(position),
            }
        }
        index.tables.iter_mut().for_each(|(_, table)| table.sort());
        index
    }

    fn table(&mut self, input: Input) -> &mut Table {
        let position = self.tables.iter().position(|(other, _)| *other == input).unwrap_or_else(|| {
            self.tables.push((input, Table::default()));
            self.tables.len() - 1
        });
        &mut self.tables[position].1
    }

    /// Calls `visit` with the positions of the policies that may match, in ascending lists. It may stop a list.
    pub(super) fn candidates(&self, subject: &Subject<'_>, visit: &mut impl FnMut(&[u32])) {
        visit(&self.others);
        for (input, table) in &self.tables {
            match input {
                Input::Text(text, case) => for_each_text(text, subject, |value| table.find_text(value, *case, visit)),
                Input::Address(address) => {
                    if let Some(address) = address.of(subject) {
                        table.find_address(address, visit);
                    }
                }
                Input::DestinationPort => {
                    if let Some(address) = subject.destination {
                        table.find_text(&address.port().to_be_bytes(), Case::AsIs, visit);
                    }
                }
            }
        }
    }
}

impl Address {
    fn of(self, subject: &Subject<'_>) -> Option<IpAddr> {
        let address = match self {
            Self::Destination => subject.destination,
            Self::Source => subject.source,
            Self::DirectRemote => subject.direct_remote,
            Self::Remote => subject.remote,
        };
        address.map(|address| address.ip().to_canonical())
    }
}

/// Calls `visit` with each value of the text.
pub(super) fn for_each_text(text: &Text, subject: &Subject<'_>, mut visit: impl FnMut(&[u8])) {
    match text {
        Text::Path => subject.path().into_iter().for_each(|path| visit(path.as_bytes())),
        Text::Identity => subject.identities().for_each(|identity| visit(identity.as_bytes())),
        Text::ServerName => visit(subject.requested_server_name.unwrap_or("").as_bytes()),
        Text::Header(key) => subject.for_each_header_value(key, visit),
        Text::Metadata(filter, path) => {
            if let Some(value) = subject.dynamic_metadata.and_then(|metadata| metadata.get(filter, path)) {
                for_each_string(value, &mut visit);
            }
        }
    }
}

/// A string, or the strings in a list.
fn for_each_string(value: &MetadataValue, visit: &mut impl FnMut(&[u8])) {
    match value {
        MetadataValue::String(text) => visit(text.as_bytes()),
        MetadataValue::List(items) => items.iter().for_each(|item| for_each_string(item, visit)),
        MetadataValue::Null | MetadataValue::Bool(_) | MetadataValue::Number(_) | MetadataValue::Object(_) => {}
    }
}

impl Table {
    fn insert(&mut self, part: Part, position: u32) {
        let positions = match part {
            Part::Exact(text) => self.exact.entry(text).or_default(),
            Part::Prefix(text) => self.prefixes.entry(text),
            Part::Suffix(text) => self.suffixes.entry(text),
            Part::Network(network) => {
                if !self.network_lengths.contains(&network.prefix_len()) {
                    self.network_lengths.push(network.prefix_len());
                }
                self.networks.entry(network.trunc()).or_default()
            }
        };
        if positions.last() != Some(&position) {
            positions.push(position);
        }
    }

    fn sort(&mut self) {
        self.prefixes.lengths.sort_unstable();
        self.suffixes.lengths.sort_unstable();
    }

    fn find_text(&self, value: &[u8], case: Case, visit: &mut impl FnMut(&[u32])) {
        if case == Case::Lower && value.iter().any(u8::is_ascii_uppercase) {
            let mut lower: SmallVec<[u8; 256]> = SmallVec::from_slice(value);
            lower.make_ascii_lowercase();
            return self.find_text(&lower, Case::AsIs, visit);
        }
        if let Some(positions) = self.exact.get(value) {
            visit(positions);
        }
        self.prefixes.find(value, |length| &value[..length], visit);
        self.suffixes.find(value, |length| &value[value.len() - length..], visit);
    }

    fn find_address(&self, address: IpAddr, visit: &mut impl FnMut(&[u32])) {
        for length in &self.network_lengths {
            let Ok(network) = IpNet::new(address, *length) else { continue };
            if let Some(positions) = self.networks.get(&network.trunc()) {
                visit(positions);
            }
        }
    }
}

impl Affixes {
    fn entry(&mut self, text: Box<[u8]>) -> &mut Positions {
        if !self.lengths.contains(&text.len()) {
            self.lengths.push(text.len());
        }
        self.texts.entry(text).or_default()
    }

    fn find<'v>(&self, value: &'v [u8], part: impl Fn(usize) -> &'v [u8], visit: &mut impl FnMut(&[u32])) {
        for length in self.lengths.iter().take_while(|length| **length <= value.len()) {
            if let Some(positions) = self.texts.get(part(*length)) {
                visit(positions);
            }
        }
    }
}

/// Keys of which a request must have one for a condition to hold.
struct Cover {
    keys: Vec<Key>,
    /// How many policies have the keys.
    cost: usize,
}

/// How many policies have each key, of the inputs that are indexed.
struct Counts(HashMap<Key, usize>);

impl Counts {
    fn new<'a>(policies: impl Iterator<Item = [&'a [Condition]; 2]>) -> Self {
        let mut counts: HashMap<Key, usize> = HashMap::new();
        for sides in policies {
            let mut own = HashSet::new();
            sides.into_iter().flatten().for_each(|condition| collect(condition, &mut own));
            for key in own {
                *counts.entry(key).or_default() += 1;
            }
        }
        let mut by_input: HashMap<Input, usize> = HashMap::new();
        counts.keys().for_each(|(input, _)| *by_input.entry(input.clone()).or_default() += 1);
        if by_input.len() > MAX_INPUTS {
            let mut inputs: Vec<_> = by_input.into_iter().collect();
            inputs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let kept: HashSet<_> = inputs.into_iter().take(MAX_INPUTS).map(|(input, _)| input).collect();
            counts.retain(|(input, _), _| kept.contains(input));
        }
        Self(counts)
    }

    /// The keys of a condition; `None` if it may hold without any.
    fn cover(&self, condition: &Condition) -> Option<Cover> {
        match condition {
            Condition::And(all) => {
                all.iter().filter_map(|condition| self.cover(condition)).min_by_key(|cover| cover.cost)
            }
            Condition::Or(any) => self.cover_any(any),
            leaf => {
                let keys = keys(leaf)?;
                let cost = keys.iter().map(|key| self.0.get(key).copied()).sum::<Option<usize>>()?;
                Some(Cover { keys, cost })
            }
        }
    }

    fn cover_any(&self, conditions: &[Condition]) -> Option<Cover> {
        let mut all = Cover { keys: Vec::new(), cost: 0 };
        for condition in conditions {
            let cover = self.cover(condition)?;
            all.keys.extend(cover.keys);
            all.cost += cover.cost;
        }
        Some(all)
    }
}

/// All keys of a condition that is not within a negation.
fn collect(condition: &Condition, own: &mut HashSet<Key>) {
    match condition {
        Condition::And(list) | Condition::Or(list) => list.iter().for_each(|condition| collect(condition, own)),
        leaf => own.extend(keys(leaf).unwrap_or_default()),
    }
}

/// The keys of a condition that combines no others.
fn keys(condition: &Condition) -> Option<Vec<Key>> {
    let network = |address, network: &IpNet| {
        let is_narrow = network.prefix_len() > 0;
        is_narrow.then(|| vec![(Input::Address(address), Part::Network(network.trunc()))])
    };
    match condition {
        Condition::UrlPath(matcher) => text_key(Text::Path, matcher),
        Condition::Authenticated(Some(matcher)) => text_key(Text::Identity, matcher),
        Condition::RequestedServerName(matcher) => text_key(Text::ServerName, matcher),
        Condition::Header(matcher) => match &matcher.matches {
            // A missing header may match the empty value.
            HeaderMatch::String(value) if !matcher.invert_match && !matcher.treat_missing_header_as_empty => {
                text_key(Text::Header(matcher.key.clone()), value)
            }
            _ => None,
        },
        Condition::Metadata(MetadataMatcher { filter, path, value, invert: false }) => {
            value_keys(&Text::Metadata(filter.clone(), path.clone()), value)
        }
        Condition::DestinationPort(port) => {
            Some(vec![(Input::DestinationPort, Part::Exact(port.to_be_bytes().as_slice().into()))])
        }
        Condition::DestinationIp(range) => network(Address::Destination, range),
        Condition::SourceIp(range) => network(Address::Source, range),
        Condition::DirectRemoteIp(range) => network(Address::DirectRemote, range),
        Condition::RemoteIp(range) => network(Address::Remote, range),
        _ => None,
    }
}

fn value_keys(text: &Text, value: &ValueMatcher) -> Option<Vec<Key>> {
    match value {
        ValueMatcher::String(matcher) => text_key(text.clone(), matcher),
        ValueMatcher::ListOneOf(item) => value_keys(text, item),
        ValueMatcher::Or(any) => {
            let keys = any.iter().map(|value| value_keys(text, value)).collect::<Option<Vec<_>>>()?;
            Some(keys.into_iter().flatten().collect())
        }
        ValueMatcher::Null
        | ValueMatcher::DoubleRange(_)
        | ValueMatcher::DoubleExact(_)
        | ValueMatcher::Bool(_)
        | ValueMatcher::Present(_) => None,
    }
}

fn text_key(text: Text, matcher: &StringMatcher) -> Option<Vec<Key>> {
    let case = if matcher.ignores_case() { Case::Lower } else { Case::AsIs };
    let bytes = |text: &str| match case {
        Case::AsIs => text.as_bytes().into(),
        Case::Lower => text.to_ascii_lowercase().into_bytes().into_boxed_slice(),
    };
    let part = match matcher.pattern() {
        StringPattern::Exact(text) => Part::Exact(bytes(text)),
        StringPattern::Prefix(text) if !text.is_empty() => Part::Prefix(bytes(text)),
        StringPattern::Suffix(text) if !text.is_empty() => Part::Suffix(bytes(text)),
        _ => return None,
    };
    Some(vec![(Input::Text(text, case), part)])
}
