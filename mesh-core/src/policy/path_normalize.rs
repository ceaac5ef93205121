//! Path normalization, which runs before anything is matched against a path.
//!
//! Implements RFC 3986 section 6 as Envoy's `normalize_path` does: escapes of unreserved characters are decoded, `\`
//! becomes `/` and dot segments are resolved. `merge_slashes` runs afterwards. Before both, escaped slashes (`%2F`, `%5C`) are
//! handled as `path_with_escaped_slashes_action` says. The query is left unchanged.

use thiserror::Error;

use crate::model::{PathNormalization, PathWithEscapedSlashesAction};

/// A path cannot be normalized. The request is answered with 400 and the details `path_normalization_failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("path does not begin with / or contains %00")]
pub struct PathNormalizationFailed;

/// The path of a request after normalization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// The normal form of `:path`; `None` if it was normal already.
    pub path: Option<String>,
    /// What happens to the request.
    pub action: NormalizedAction,
}

/// What happens to a request after its path was normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormalizedAction {
    /// It is processed with the normal path.
    Continue,
    /// It is answered with 400, because its path had an escaped slash.
    Reject,
    /// It is answered with a redirect to the normal path, because its path had an escaped slash.
    Redirect,
}

/// Handles escaped slashes, and brings `:path` into its normal form. If it is normal already, nothing is allocated.
///
/// # Errors
/// As [`normalize`].
pub fn apply(config: PathNormalization, path_and_query: &str) -> Result<Normalized, PathNormalizationFailed> {
    use PathWithEscapedSlashesAction as Action;
    let unescaped = match config.path_with_escaped_slashes_action {
        Action::KeepUnchanged => None,
        _ => unescape_slashes(path_and_query),
    };
    let Some(unescaped) = unescaped else {
        return Ok(Normalized { path: normalize(config, path_and_query)?, action: NormalizedAction::Continue });
    };
    let action = match config.path_with_escaped_slashes_action {
        Action::RejectRequest => return Ok(Normalized { path: Some(unescaped), action: NormalizedAction::Reject }),
        Action::UnescapeAndRedirect => NormalizedAction::Redirect,
        Action::UnescapeAndForward | Action::KeepUnchanged => NormalizedAction::Continue,
    };
    let path = normalize(config, &unescaped)?.unwrap_or(unescaped);
    Ok(Normalized { path: Some(path), action })
}

/// `:path` with slashes in the place of the escaped ones; `None` if there are none.
fn unescape_slashes(path_and_query: &str) -> Option<String> {
    let (path, _) = crate::request::split_query(path_and_query);
    let mut unescaped = String::new();
    let mut copied = 0;
    for (at, _) in path.match_indices('%') {
        let slash = match path.as_bytes().get(at + 1..at + 3) {
            Some(b"2F" | b"2f") => '/',
            Some(b"5C" | b"5c") => '\\',
            _ => continue,
        };
        unescaped.push_str(&path[copied..at]);
        unescaped.push(slash);
        copied = at + 3;
    }
    (copied > 0).then(|| unescaped + &path_and_query[copied..])
}

/// The normal form of `:path`; `None` if it is normal already. In that case nothing is allocated.
///
/// # Errors
/// If normalization is enabled and the path does not begin with `/`, or if `normalize_path` is enabled and the path
/// contains `%00`.
pub fn normalize(config: PathNormalization, path_and_query: &str) -> Result<Option<String>, PathNormalizationFailed> {
    if !config.normalize_path && !config.merge_slashes {
        return Ok(None);
    }
    let end = path_and_query.find(['?', '#']).unwrap_or(path_and_query.len());
    let (path, rest) = path_and_query.split_at(end);
    if !path.starts_with('/') {
        return Err(PathNormalizationFailed);
    }
    let unclean = config.normalize_path && (path.contains(['%', '\\']) || path.contains("/."));
    if unclean && path.contains("%00") {
        return Err(PathNormalizationFailed);
    }
    let doubled = config.merge_slashes && path.contains("//");
    if !unclean && !doubled {
        return Ok(None);
    }
    let mut normal = if config.normalize_path { resolve_dots(&decode(path)) } else { path.to_owned() };
    if config.merge_slashes {
        normal = merge_slashes(&normal);
    }
    normal.push_str(rest);
    Ok((normal != path_and_query).then_some(normal))
}

/// Decodes escapes of unreserved characters and turns `\` into `/`.
fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        decoded.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from);
        let length = match escape {
            _ if rest.as_bytes()[at] == b'\\' => {
                decoded.push('/');
                1
            }
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => {
                decoded.push(c);
                3
            }
            _ => {
                decoded.push('%');
                1
            }
        };
        rest = &rest[at + length..];
    }
    decoded + rest
}

/// Removes `.` segments, and `..` segments together with the segment before. A path that ends in one of them keeps its
/// trailing `/`.
fn resolve_dots(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_directory = false;
    for segment in path.split('/').skip(1) {
        ends_in_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    if ends_in_directory {
        segments.push("");
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in segments {
        resolved.push('/');
        resolved.push_str(segment);
    }
    resolved
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_normal_form() {
        let all = PathNormalization { normalize_path: true, merge_slashes: true, ..PathNormalization::default() };
        for (path, expected) in [
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/../../x", "/x"),
            ("/a//b///c", "/a/b/c"),
            ("/%61b", "/ab"),
            ("/a%2e%2e/b", "/a../b"),
            ("/a/%2e%2e/b", "/b"),
            ("/a?x=/../y//z%2F", "/a?x=/../y//z%2F"),
            ("/a\\b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/a%2Fb", "/a%2Fb"),
            ("/%zz", "/%zz"),
            ("/%", "/%"),
            ("/%+1", "/%+1"),
            ("/é%41", "/éA"),
            ("/.well-known/x", "/.well-known/x"),
            ("/", "/"),
        ] {
            let normal = normalize(all, path).unwrap();
            assert_eq!(normal.as_deref().unwrap_or(path), expected, "{path}");
            assert_eq!(normalize(all, expected), Ok(None), "{expected} is normal");
        }
    }

    #[test]
    fn escaped_slashes_are_kept_or_refused_or_become_slashes() {
        use NormalizedAction::{Continue, Redirect, Reject};
        use PathWithEscapedSlashesAction as Action;
        let of = |action, normalize_path, path: &str| {
            let mut config = PathNormalization { normalize_path, ..PathNormalization::default() };
            config.path_with_escaped_slashes_action = action;
            let Normalized { path, action } = apply(config, path).unwrap();
            (path.unwrap_or_else(|| "same".to_owned()), action)
        };
        let all =
            [Action::KeepUnchanged, Action::RejectRequest, Action::UnescapeAndRedirect, Action::UnescapeAndForward];
        let paths = [
            ("/a%2Fb%5Cc?%2f", ["/a%2Fb%5Cc?%2f", "/a/b\\c?%2f", "/a/b/c?%2f", "/a/b/c?%2f"]),
            ("/a/%2e%2e%2fb", ["/a/..%2fb", "/a/%2e%2e/b", "/b", "/b"]),
        ];
        for (path, expected) in paths {
            for ((action, expected), outcome) in all.iter().zip(expected).zip([Continue, Reject, Redirect, Continue]) {
                let expected = if expected == path { "same" } else { expected };
                assert_eq!(of(*action, true, path), (expected.to_owned(), outcome), "{path} {action:?}");
            }
        }
        assert_eq!(of(Action::UnescapeAndForward, false, "/a/..%5cb"), ("/a/..\\b".to_owned(), Continue));
        for action in all {
            assert_eq!(of(action, false, "/a%2?x=%2F"), ("same".to_owned(), Continue), "of the query only");
        }
    }

    #[test]
    fn each_step_is_optional() {
        let dots = PathNormalization { normalize_path: true, ..PathNormalization::default() };
        assert_eq!(normalize(dots, "/a//./b"), Ok(Some("/a//b".to_owned())));
        let slashes = PathNormalization { merge_slashes: true, ..PathNormalization::default() };
        assert_eq!(normalize(slashes, "//a/../b"), Ok(Some("/a/../b".to_owned())));
        assert_eq!(normalize(PathNormalization::default(), "//a/../b"), Ok(None));
        assert_eq!(normalize(dots, "*"), Err(PathNormalizationFailed));
        assert_eq!(normalize(dots, "/a%00/b"), Err(PathNormalizationFailed));
        assert_eq!(normalize(slashes, "/a%00/b"), Ok(None));
        assert_eq!(normalize(dots, "/a?%00"), Ok(None));
    }
}
