//! Header mutation: adds, replaces and removes headers of requests and responses, including local replies.
//!
//! Mutations are applied one after the other, so each value is evaluated with the headers that earlier mutations have
//! left. Those of the filter come first, then those of every part of the route configuration that has some.
//!
//! Envoy `filters.http.header_mutation.v3` and "Header Mutation". Mutations of trailers and query parameters are not
//! supported.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{Entry, HOST},
};

use super::ResolvedOverride;
use crate::value::{AppendAction, HeaderMutation as Append, StringMatcher, format::Format};

/// The filter in a chain. Envoy `filters.http.header_mutation.v3.HeaderMutation`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderMutation {
    /// Applied before those of routes.
    pub mutations: Mutations,
    /// Apply the mutations of the most specific part of the route configuration last, so that they take precedence. Default
    /// false: the route configuration is applied last.
    pub most_specific_header_mutations_wins: bool,
}

/// Changes of headers. Envoy `filters.http.header_mutation.v3.Mutations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mutations {
    /// Applied to a request before it is sent on.
    pub request_mutations: Vec<Mutation>,
    /// Applied to a response before it is passed on.
    pub response_mutations: Vec<Mutation>,
}

/// One change. Envoy `config.common.mutation_rules.v3.HeaderMutation`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mutation {
    /// Write a header.
    Append(Append),
    /// Remove all lines of a header.
    Remove(HeaderName),
    /// Remove all headers whose lower-case name matches. `host` stays: it is the authority.
    RemoveOnMatch(StringMatcher),
}

impl HeaderMutation {
    /// A filter with these mutations.
    #[must_use]
    pub fn new(mutations: Mutations) -> Self {
        Self { mutations, most_specific_header_mutations_wins: false }
    }

    /// The mutations that apply where the route has these overrides of the filter, in order.
    pub fn in_order<'m>(&'m self, resolved: Option<&'m ResolvedOverride>) -> impl Iterator<Item = &'m Mutations> {
        let per_route = || resolved.into_iter().flat_map(ResolvedOverride::configs::<Self>).map(|config| &**config);
        let wins = self.most_specific_header_mutations_wins;
        let most_specific_last = wins.then(|| per_route().rev()).into_iter().flatten();
        let most_specific_first = (!wins).then(per_route).into_iter().flatten();
        std::iter::once(&self.mutations).chain(most_specific_last).chain(most_specific_first)
    }
}

impl Mutations {
    /// Changes of requests and of responses.
    #[must_use]
    pub fn new(request_mutations: Vec<Mutation>, response_mutations: Vec<Mutation>) -> Self {
        Self { request_mutations, response_mutations }
    }
}

impl Mutation {
    /// Whether a value has to be evaluated, so that [`apply`] calls `write`.
    #[must_use]
    pub fn is_evaluated(&self) -> bool {
        match self {
            Self::Append(append) => append.value.literal_value().is_none(),
            Self::Remove(_) | Self::RemoveOnMatch(_) => false,
        }
    }
}

/// Applies `mutations` to `headers`, in order. `write` evaluates a value that is not literal, from the headers at that
/// point.
pub fn apply(
    mutations: &[Mutation],
    headers: &mut HeaderMap,
    mut write: impl FnMut(&Format, &HeaderMap, &mut Vec<u8>),
) {
    for mutation in mutations {
        match mutation {
            Mutation::Append(append) => {
                if let Some(value) = evaluate(append, headers, &mut write) {
                    insert(append, value, headers);
                }
            }
            Mutation::Remove(name) => {
                headers.remove(name);
            }
            Mutation::RemoveOnMatch(matcher) => {
                let matches = |name: &&HeaderName| *name != HOST && matcher.matches(name.as_str());
                let names: Vec<_> = headers.keys().filter(matches).cloned().collect();
                for name in names {
                    headers.remove(name);
                }
            }
        }
    }
}

/// The value to write; `None` if it is empty or not a valid header value.
fn evaluate(
    append: &Append,
    headers: &HeaderMap,
    write: &mut impl FnMut(&Format, &HeaderMap, &mut Vec<u8>),
) -> Option<HeaderValue> {
    let value = match append.value.literal_value() {
        Some(literal) => literal.clone(),
        None => {
            let mut buffer = Vec::new();
            write(&append.value, headers, &mut buffer);
            HeaderValue::from_maybe_shared(bytes::Bytes::from(buffer)).ok()?
        }
    };
    (append.keep_empty_value || !value.is_empty()).then_some(value)
}

fn insert(append: &Append, value: HeaderValue, headers: &mut HeaderMap) {
    match (append.append_action, headers.entry(&append.name)) {
        (AppendAction::AppendIfExistsOrAdd, Entry::Occupied(mut lines)) => lines.append(value),
        (AppendAction::OverwriteIfExistsOrAdd | AppendAction::OverwriteIfExists, Entry::Occupied(mut lines)) => {
            lines.insert(value);
        }
        (AppendAction::AddIfAbsent, Entry::Occupied(_)) | (AppendAction::OverwriteIfExists, Entry::Vacant(_)) => {}
        (
            AppendAction::AppendIfExistsOrAdd | AppendAction::AddIfAbsent | AppendAction::OverwriteIfExistsOrAdd,
            Entry::Vacant(line),
        ) => {
            line.insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        filter::{FilterOverride, FilterOverrides, ResolvedOverrides},
        value::StringPattern,
    };

    fn append(name: &'static str, value: &str, append_action: AppendAction) -> Append {
        let value = Format::parse(value).unwrap();
        Append { name: HeaderName::from_static(name), value, append_action, keep_empty_value: false }
    }

    /// The headers that `mutations` leave of `headers`. A format writes the lines of `x-a` and its own text.
    fn applied(mutations: &[Mutation], headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        apply(mutations, &mut map, |format, headers, out| {
            for line in headers.get_all("x-a") {
                out.extend(line.as_bytes());
            }
            out.extend(format.as_str().as_bytes());
        });
        let mut lines: Vec<_> =
            map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn a_header_is_written_according_to_its_action() {
        use AppendAction::{AddIfAbsent, AppendIfExistsOrAdd, OverwriteIfExists, OverwriteIfExistsOrAdd};
        for (action, present, absent) in [
            (AppendIfExistsOrAdd, &["x-a: 1", "x-a: 2", "x-a: new"][..], &["x-a: new"][..]),
            (AddIfAbsent, &["x-a: 1", "x-a: 2"], &["x-a: new"]),
            (OverwriteIfExistsOrAdd, &["x-a: new"], &["x-a: new"]),
            (OverwriteIfExists, &["x-a: new"], &[]),
        ] {
            let mutations = [Mutation::Append(append("x-a", "new", action))];
            assert_eq!(applied(&mutations, &[("x-a", "1"), ("x-a", "2")]), present, "{action:?}");
            assert_eq!(applied(&mutations, &[]), absent, "{action:?}");
        }
    }

    #[test]
    fn mutations_are_applied_one_after_the_other() {
        let mutations = [
            Mutation::Append(append("x-b", "%PROTOCOL%", AppendAction::AppendIfExistsOrAdd)),
            Mutation::Append(append("x-a", "2", AppendAction::AppendIfExistsOrAdd)),
            Mutation::Append(append("x-b", "%PROTOCOL%", AppendAction::AppendIfExistsOrAdd)),
            Mutation::Remove(HeaderName::from_static("x-a")),
            Mutation::Append(append("x-a", "3", AppendAction::AddIfAbsent)),
        ];
        assert_eq!(applied(&mutations, &[("x-a", "1")]), ["x-a: 3", "x-b: 1%PROTOCOL%", "x-b: 12%PROTOCOL%"]);
    }

    #[test]
    fn an_empty_value_is_written_only_if_it_is_kept() {
        let empty = append("x-a", "", AppendAction::OverwriteIfExistsOrAdd);
        assert_eq!(applied(&[Mutation::Append(empty.clone())], &[("x-a", "1")]), ["x-a: 1"]);
        let kept = Append { keep_empty_value: true, ..empty };
        assert_eq!(applied(&[Mutation::Append(kept)], &[("x-a", "1")]), ["x-a: "]);
    }

    #[test]
    fn headers_are_removed_by_a_matcher_of_their_name() {
        let mutations = [Mutation::RemoveOnMatch(StringMatcher::new(StringPattern::Prefix("X-".into()), true))];
        assert_eq!(applied(&mutations, &[("x-a", "1"), ("x-a", "2"), ("x-b", "1"), ("y", "1")]), ["y: 1"]);
        let everything = [Mutation::RemoveOnMatch(StringMatcher::new(StringPattern::Prefix("".into()), false))];
        assert_eq!(applied(&everything, &[("host", "a"), ("x-a", "1")]), ["host: a"]);
    }

    #[test]
    fn all_levels_are_applied_with_the_most_specific_one_first_or_last() {
        let named = |name: &'static str| Mutations {
            request_mutations: vec![Mutation::Remove(HeaderName::from_static(name))],
            ..Mutations::default()
        };
        let level = |name| {
            let config = std::sync::Arc::new(named(name)).into();
            FilterOverrides::from_iter([("f", FilterOverride::Config(config))])
        };
        let (route, host) = (level("route"), level("host"));
        let resolved = ResolvedOverrides::new(&[&route, &host]);
        let resolved = resolved.get("f");
        let mut filter = HeaderMutation { mutations: named("filter"), ..HeaderMutation::default() };
        let order = |filter: &HeaderMutation, resolved| -> Vec<String> {
            let name = |mutations: &Mutations| match &mutations.request_mutations[..] {
                [Mutation::Remove(name)] => name.to_string(),
                other => panic!("{other:?}"),
            };
            filter.in_order(resolved).map(name).collect()
        };
        assert_eq!(order(&filter, None), ["filter"]);
        assert_eq!(order(&filter, resolved), ["filter", "route", "host"]);
        filter.most_specific_header_mutations_wins = true;
        assert_eq!(order(&filter, resolved), ["filter", "host", "route"]);
    }
}
