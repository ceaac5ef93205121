//! Configured header changes.
//!
//! Levels (route, virtual host, route configuration) are applied one after the other. Each level removes headers, then
//! evaluates all of its values, then overwrites headers, then adds headers. A value can therefore read a header that the
//! same level overwrites. This is the order of Envoy's `HeaderParser`.

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::{
    model::{AppendAction, HeaderMutation, HeaderMutations, format::Format},
    telemetry::{Attributes, Missing},
};

/// The kind of header changes, which determines what they need to be applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Changes {
    /// There are none.
    #[default]
    None,
    /// All values are literals.
    Literal,
    /// Some values are evaluated and need attributes of the request or response.
    Evaluated,
}

impl Changes {
    /// The kind of all of `levels` together.
    pub fn of<'m>(levels: impl IntoIterator<Item = &'m HeaderMutations>) -> Self {
        let of_level = |level: &HeaderMutations| {
            let of_value = |mutation: &HeaderMutation| match mutation.value.literal_value() {
                Some(_) => Self::Literal,
                None => Self::Evaluated,
            };
            let removal = if level.remove.is_empty() { Self::None } else { Self::Literal };
            level.add.iter().map(of_value).fold(removal, Self::max)
        };
        levels.into_iter().map(of_level).max().unwrap_or_default()
    }
}

/// Applies `levels` to request headers, in order. Values read `headers`, not the `request_headers` of `attributes`.
pub fn apply_to_request<'m>(
    levels: impl IntoIterator<Item = &'m HeaderMutations>,
    headers: &mut HeaderMap,
    attributes: &Attributes<'_>,
) {
    for level in levels {
        apply(level, headers, |format, headers, buffer| {
            format.write(&Attributes { request_headers: Some(headers), ..*attributes }, Missing::Empty, buffer);
        });
    }
}

/// Applies `levels` to response headers, in order. Values read `headers`, not the `response_headers` of `attributes`.
pub fn apply_to_response<'m>(
    levels: impl IntoIterator<Item = &'m HeaderMutations>,
    headers: &mut HeaderMap,
    attributes: &Attributes<'_>,
) {
    for level in levels {
        apply(level, headers, |format, headers, buffer| {
            format.write(&Attributes { response_headers: Some(headers), ..*attributes }, Missing::Empty, buffer);
        });
    }
}

/// Applies one level. `write` evaluates the values that are not literals.
fn apply(level: &HeaderMutations, headers: &mut HeaderMap, write: impl Fn(&Format, &HeaderMap, &mut Vec<u8>)) {
    for name in &level.remove {
        headers.remove(name);
    }
    let mut buffer = Vec::new();
    let mut evaluate = |mutation: &HeaderMutation| {
        let value = match mutation.value.literal_value() {
            Some(literal) => literal.clone(),
            None => {
                buffer.clear();
                write(&mutation.value, headers, &mut buffer);
                // A value that is not valid in a header is not written.
                HeaderValue::from_bytes(&buffer).ok()?
            }
        };
        (mutation.keep_empty_value || !value.is_empty()).then_some(value)
    };
    let mut values: SmallVec<[(&HeaderName, HeaderValue, bool); 2]> = SmallVec::new();
    for mutation in &level.add {
        let overwrites = match mutation.append_action {
            AppendAction::AppendIfExistsOrAdd => false,
            AppendAction::AddIfAbsent if headers.contains_key(&mutation.name) => continue,
            AppendAction::AddIfAbsent => false,
            AppendAction::OverwriteIfExists if !headers.contains_key(&mutation.name) => continue,
            AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => true,
        };
        values.extend(evaluate(mutation).map(|value| (&mutation.name, value, overwrites)));
    }
    for (name, value, _) in values.iter_mut().filter(|(.., overwrites)| *overwrites) {
        headers.insert(*name, std::mem::replace(value, EMPTY));
    }
    for (name, value, _) in values.into_iter().filter(|(.., overwrites)| !*overwrites) {
        headers.append(name, value);
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

#[cfg(test)]
mod tests {
    use super::*;

    fn add(name: &'static str, value: &str, append_action: AppendAction) -> HeaderMutation {
        let value = Format::parse(value).unwrap();
        HeaderMutation { name: HeaderName::from_static(name), value, append_action, keep_empty_value: false }
    }

    fn level(add: Vec<HeaderMutation>, remove: &[&'static str]) -> HeaderMutations {
        HeaderMutations { add, remove: remove.iter().map(|name| HeaderName::from_static(name)).collect() }
    }

    fn apply(levels: &[HeaderMutations], before: &[(&'static str, &str)]) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, value.parse().unwrap());
        }
        apply_to_request(levels, &mut headers, &Attributes::default());
        let mut after: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        after.sort_by(|a, b| a.0.cmp(&b.0));
        after
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The request levels of the scenario `headers_levels`, which compares the answers with Envoy's.
    fn levels() -> [HeaderMutations; 3] {
        use AppendAction::{AddIfAbsent, AppendIfExistsOrAdd, OverwriteIfExists, OverwriteIfExistsOrAdd};
        let simple = |name: &str| {
            let lvl = add("x-lvl", name, AppendIfExistsOrAdd);
            vec![lvl, add("x-ow", name, OverwriteIfExistsOrAdd)]
        };
        let mut route = simple("route");
        route.extend([
            add("x-absent", "added", AddIfAbsent),
            add("x-have", "no", AddIfAbsent),
            add("x-exist", "changed", OverwriteIfExists),
            add("x-nope", "never", OverwriteIfExists),
            add("x-app", "two", AppendIfExistsOrAdd),
            add("x-empty", "%REQ(x-missing)%", AppendIfExistsOrAdd),
            HeaderMutation { keep_empty_value: true, ..add("x-kept", "%REQ(x-missing)%", OverwriteIfExistsOrAdd) },
        ]);
        [level(route, &["x-gone", "x-also-gone"]), level(simple("vhost"), &[]), level(simple("config"), &[])]
    }

    #[test]
    fn levels_apply_in_order_and_the_last_overwrites() {
        assert_eq!(
            apply(&levels(), &[]),
            pairs(&[
                ("x-absent", "added"),
                ("x-app", "two"),
                ("x-have", "no"),
                ("x-kept", ""),
                ("x-lvl", "route"),
                ("x-lvl", "vhost"),
                ("x-lvl", "config"),
                ("x-ow", "config"),
            ])
        );
        let client =
            [("x-have", "yes"), ("x-exist", "1"), ("x-exist", "2"), ("x-app", "one"), ("x-gone", "1"), ("x-lvl", "c")];
        assert_eq!(
            apply(&levels(), &client),
            pairs(&[
                ("x-absent", "added"),
                ("x-app", "one"),
                ("x-app", "two"),
                ("x-exist", "changed"),
                ("x-have", "yes"),
                ("x-kept", ""),
                ("x-lvl", "c"),
                ("x-lvl", "route"),
                ("x-lvl", "vhost"),
                ("x-lvl", "config"),
                ("x-ow", "config"),
            ])
        );
    }

    #[test]
    fn a_level_reads_headers_before_it_writes_and_after_it_removes() {
        let swap = level(
            vec![
                add("x-a", "%REQ(x-b)%", AppendAction::OverwriteIfExistsOrAdd),
                add("x-b", "%REQ(x-a)%", AppendAction::OverwriteIfExistsOrAdd),
                add("x-c", "new", AppendAction::AppendIfExistsOrAdd),
            ],
            &["x-c"],
        );
        let before = [("x-a", "1"), ("x-b", "2"), ("x-c", "old")];
        assert_eq!(apply(&[swap], &before), pairs(&[("x-a", "2"), ("x-b", "1"), ("x-c", "new")]));
    }
}
