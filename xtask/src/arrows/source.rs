//! The paths of a Rust source file that begin at the root of its crate.
//!
//! The file is read as tokens, not as syntax: comments and strings are removed, groups are balanced, and the bodies of
//! macros are read like any other code. Items under `#[cfg(test)]` are left out, because tests may use what they like.

use std::iter::Peekable;

use proc_macro2::{Delimiter, Group, LexError, TokenStream, TokenTree, token_stream};

/// A path inside a crate, written from the root: `a::b::C` for `crate::a::b::C` or, in module `x`, `super::a::b::C`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CratePath {
    /// Its segments; the last is `*` for a glob import, and a path in an expression goes on to its last name.
    pub(super) segments: Vec<String>,
    /// The name that a `use` declaration gives it: `d` for `use crate::c as d`.
    pub(super) name: String,
    /// Where it stands; the first line is 1.
    pub(super) line: usize,
}

/// The paths from the crate root in `text`, the source of the module at `module` (`["a", "b"]` for `src/a/b.rs`).
///
/// In the root module itself every `use` declaration counts, as its paths may be relative to the root.
///
/// # Errors
///
/// If `text` is not made of Rust tokens.
pub(super) fn crate_paths(text: &str, module: &[String]) -> Result<Vec<CratePath>, LexError> {
    let mut reader = Reader { module: module.to_vec(), found: Vec::new() };
    reader.read(text.parse()?);
    Ok(reader.found)
}

type Tokens = Peekable<token_stream::IntoIter>;

struct Reader {
    /// The module that the tokens being read belong to, inline modules included.
    module: Vec<String>,
    found: Vec<CratePath>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(ref punct) if punct.as_char() == '#' => skip_attribute(&mut tokens),
                TokenTree::Ident(ref ident) if ident == "mod" => self.read_inline_module(&mut tokens),
                TokenTree::Ident(ref ident) if ident == "use" && !is_punct(tokens.peek(), '<') => {
                    use_tree(&mut tokens, &[]).into_iter().for_each(|path| self.add(path));
                }
                TokenTree::Ident(ref ident) if ident == "crate" || ident == "super" => {
                    let path = expression_path(ident.to_string(), token.span().start().line, &mut tokens);
                    self.add(path);
                }
                TokenTree::Group(ref group) => self.read(group.stream()),
                _ => {}
            }
        }
    }

    /// Reads `NAME { ... }` after `mod`; `NAME;` is another file.
    fn read_inline_module(&mut self, tokens: &mut Tokens) {
        let Some(TokenTree::Ident(name)) = tokens.next() else { return };
        if let Some(TokenTree::Group(body)) = tokens.next_if(is_braces) {
            self.module.push(name.to_string());
            self.read(body.stream());
            self.module.pop();
        }
    }

    /// Keeps `path` if it leads through the crate root, with its segments from there.
    fn add(&mut self, mut path: CratePath) {
        let mut depth = self.module.len();
        let mut climbed = 0;
        for segment in &path.segments {
            match segment.as_str() {
                "crate" => depth = 0,
                "super" => depth = depth.saturating_sub(1),
                "self" => {}
                _ => break,
            }
            climbed += 1;
        }
        let from_root = depth == 0 && (climbed > 0 || self.module.is_empty());
        // `pub(crate)` leads nowhere.
        if from_root && climbed < path.segments.len() {
            path.segments.drain(..climbed);
            self.found.push(path);
        }
    }
}

/// Skips the rest of an attribute after its `#` and, if it says `cfg(test)`, the item below it.
fn skip_attribute(tokens: &mut Tokens) {
    let _inner = tokens.next_if(|token| is_punct(Some(token), '!'));
    let Some(TokenTree::Group(attribute)) = tokens.next_if(|token| matches!(token, TokenTree::Group(_))) else {
        return;
    };
    if is_cfg_test(&attribute) {
        for token in tokens.by_ref() {
            if is_punct(Some(&token), ';') || is_braces(&token) {
                break;
            }
        }
    }
}

fn is_cfg_test(attribute: &Group) -> bool {
    attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// The paths of a `use` declaration, or of one tree within its braces, up to the `;` or `,` that ends it.
fn use_tree(tokens: &mut Tokens, parent: &[String]) -> Vec<CratePath> {
    let mut segments = parent.to_vec();
    let mut leaves = Vec::new();
    let (mut name, mut line) = (None, 0);
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Ident(ident) if ident == "as" => name = tokens.next().map(|name| name.to_string()),
            TokenTree::Ident(ident) => {
                segments.push(ident.to_string());
                line = token.span().start().line;
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' => {
                segments.push("*".to_owned());
                line = token.span().start().line;
            }
            TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => break,
            TokenTree::Group(group) => {
                let mut inner = group.stream().into_iter().peekable();
                while inner.peek().is_some() {
                    leaves.extend(use_tree(&mut inner, &segments));
                }
            }
            _ => {}
        }
    }
    if leaves.is_empty() && segments.len() > parent.len() {
        // `use a::b::{self}` imports `a::b`.
        let _self = segments.pop_if(|last| last == "self" && !parent.is_empty());
        let name = name.or_else(|| segments.last().cloned()).unwrap_or_default();
        leaves.push(CratePath { segments, name, line });
    }
    leaves
}

/// The path that begins with `first`, as far as its segments go.
fn expression_path(first: String, line: usize, tokens: &mut Tokens) -> CratePath {
    let mut segments = vec![first];
    while tokens.next_if(|token| is_punct(Some(token), ':')).is_some() {
        let _second = tokens.next_if(|token| is_punct(Some(token), ':'));
        match tokens.next_if(|token| matches!(token, TokenTree::Ident(_))) {
            Some(segment) => segments.push(segment.to_string()),
            None => break,
        }
    }
    let name = segments.last().cloned().unwrap_or_default();
    CratePath { segments, name, line }
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn is_braces(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(module: &[&str], text: &str, expected: &[(&str, usize)]) {
        let module: Vec<String> = module.iter().map(|&name| name.to_owned()).collect();
        let found = crate_paths(text, &module).unwrap();
        let found: Vec<(String, usize)> = found.iter().map(|path| (path.segments.join("::"), path.line)).collect();
        let expected: Vec<(String, usize)> = expected.iter().map(|&(path, line)| (path.to_owned(), line)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_use_declaration_yields_each_of_its_paths() {
        check(&["x"], "use crate::a::B;", &[("a::B", 1)]);
        check(&["x"], "pub(crate) use crate::{a::{self, B as C},\n b::*};", &[("a", 1), ("a::B", 1), ("b::*", 2)]);
        check(&["x"], "use crate::{\n    a::{b::{C, D}, e},\n};", &[("a::b::C", 2), ("a::b::D", 2), ("a::e", 2)]);
        check(&["x"], "use std::fmt;\nuse tokio::{crate_like, net::A};", &[]);
    }

    #[test]
    fn a_path_in_an_expression_or_a_type_is_found() {
        check(&["x"], "fn f(a: &crate::a::B) { crate::c::d::<u8>(a) }", &[("a::B", 1), ("c::d", 1)]);
        check(&["x"], "macro_rules! m {\n() => { $crate::a::b!() } }", &[("a::b", 2)]);
        check(&["x"], "pub(in crate::x) fn f() -> impl Fn() + use<'_> {}", &[("x", 1)]);
    }

    #[test]
    fn a_path_through_super_counts_if_it_climbs_to_the_root() {
        check(&["x", "y"], "use super::super::a::B; use super::c::D;", &[("a::B", 1)]);
        check(&["x"], "mod inner { use super::super::a; use super::b; }", &[("a", 1)]);
        check(&["x"], "fn f() { super::a::g() }", &[("a::g", 1)]);
        check(&["x", "y"], "use self::super::super::a::B;", &[("a::B", 1)]);
    }

    #[test]
    fn tests_comments_and_strings_do_not_count() {
        check(
            &["x"],
            "#[cfg(test)]\nmod tests { use crate::a; }\n#[cfg(test)] use crate::b;\nuse crate::c;",
            &[("c", 4)],
        );
        check(&["x"], "//! [`crate::a`]\n/// [`crate::b`]\nfn f() { let _ = \"crate::c\"; /* crate::d */ }", &[]);
        check(&["x"], "#[cfg(test)]\n#[expect(lint)]\nfn f() { crate::a() }\nfn g() { crate::b() }", &[("b", 4)]);
        check(&["x"], "#[cfg(not(test))]\nuse crate::a;", &[("a", 2)]);
    }

    #[test]
    fn a_declaration_of_the_root_gives_names_to_paths() {
        let found = crate_paths("pub use body::{Body, io::Error as IoError};\nuse crate::call::Call;", &[]).unwrap();
        let found: Vec<(&str, String)> =
            found.iter().map(|path| (path.name.as_str(), path.segments.join("::"))).collect();
        let expected = [("Body", "body::Body"), ("IoError", "body::io::Error"), ("Call", "call::Call")];
        assert_eq!(found, expected.map(|(name, path)| (name, path.to_owned())));
    }
}
