//! The extensions that Envoy publishes: their names and messages, as the comments of the `.proto` files give them.
//!
//! A comment `[#extension: NAME]` is directly before the message of the extension or at the head of its file, where the message
//! has the same name, or is the first one that no other message of the file refers to and that does not configure a route.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Error;

const TAG: &str = "[#extension: ";

const HEAD: &str = "//! The extensions that Envoy publishes, from the comments of its `.proto` files.

/// The name of each extension and the full name of its message.
pub(crate) const EXTENSIONS: &[(&str, &str)] = &[
";

/// The generated table. `is_generated` says whether there is a Rust type for a message.
pub(super) fn table(includes: &[PathBuf], is_generated: impl Fn(&str) -> bool) -> Result<String, Error> {
    let (mut extensions, mut messages) = (BTreeMap::new(), BTreeSet::new());
    for file in protos(includes)? {
        let text = std::fs::read_to_string(file)?;
        let Some(package) = text.lines().find_map(|line| line.strip_prefix("package ")?.strip_suffix(';')) else {
            continue;
        };
        let names: Vec<&str> = text.lines().filter_map(message_name).collect();
        for (name, message) in tagged(&text, &names) {
            extensions.insert(name.to_owned(), format!("{package}.{message}"));
        }
        messages.extend(names.into_iter().map(|name| format!("{package}.{name}")));
    }

    let mut code = HEAD.to_owned();
    for (name, message) in &extensions {
        writeln!(code, "({name:?}, {message:?}),").expect("a String takes all text");
    }
    code.push_str("];\n\n/// The messages of Envoy that are not generated here.\n");
    code.push_str("pub(crate) const OTHER_MESSAGES: &[&str] = &[\n");
    for name in messages.iter().filter(|name| !is_generated(name)) {
        writeln!(code, "{name:?},").expect("a String takes all text");
    }
    code.push_str("];\n");
    Ok(code)
}

/// All files below the folders `envoy/`.
fn protos(includes: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut pending: Vec<PathBuf> = includes.iter().map(|include| include.join("envoy")).collect();
    pending.retain(|dir| dir.is_dir());
    let mut files = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension() == Some(Path::new("proto").as_os_str()) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The name of the top-level message that a line begins.
fn message_name(line: &str) -> Option<&str> {
    line.strip_prefix("message ")?.split(' ').next()
}

/// The extensions of a file, and their messages.
fn tagged<'t>(text: &'t str, messages: &[&'t str]) -> Vec<(&'t str, &'t str)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("// ").and_then(|line| line.strip_prefix(TAG)?.split(']').next()) else {
            continue;
        };
        let below = lines.clone().find(|line| !line.starts_with("//")).and_then(message_name);
        if let Some(message) = below.or_else(|| main_message(name.trim(), text, messages)) {
            found.push((name.trim(), message));
        }
    }
    found
}

fn main_message<'t>(extension: &str, text: &str, messages: &[&'t str]) -> Option<&'t str> {
    let own = extension.rsplit('.').next().unwrap_or(extension).replace('_', "");
    if let Some(message) = messages.iter().find(|message| message.eq_ignore_ascii_case(&own)) {
        return Some(message);
    }
    let is_referred_to = |message: &str| {
        let fields = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        fields.into_iter().any(|line| {
            let line = line.strip_prefix("repeated ").unwrap_or(line);
            line.strip_prefix(message).is_some_and(|rest| rest.starts_with(' ') && rest.contains(" = "))
                || line.contains(&format!(", {message}>"))
        })
    };
    let mut candidates = messages.iter().filter(|message| !message.contains("PerRoute") && !is_referred_to(message));
    candidates.next().or_else(|| messages.first()).copied()
}
