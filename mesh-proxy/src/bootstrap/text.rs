//! The texts that a bootstrap is read from, and the position of faults in them.

use std::{path::PathBuf, sync::Arc};

use mesh_control::diagnostic::{Code, Diagnostic, Position, Source};
use mesh_xds::{
    bootstrap::BootstrapFault,
    json::{Document, Mark, Overridden, TextError},
    proto::envoy::config::bootstrap::v3::Bootstrap,
    resource::{FieldError, Ignored},
};
use prost::Message as _;

use super::LoadError;

/// One of the texts that are merged into a bootstrap.
#[derive(Debug)]
pub(super) struct Text {
    source: Arc<Source>,
    document: Document,
    /// Number of clusters and listeners in the texts before this one, whose lists come first.
    before: [(&'static str, usize); 2],
}

impl Text {
    /// Parses `text`. `path` is shown in errors.
    pub(super) fn parse(path: PathBuf, text: String) -> Result<Self, LoadError> {
        let source = Arc::new(Source::new(path, text));
        match Document::parse(&source.text, &source.path.display().to_string()) {
            Ok(document) => Ok(Self { source, document, before: lengths(&Bootstrap::default()) }),
            Err(error) => Err(invalid(&source, &[error])),
        }
    }

    /// Merges the text into `bootstrap` as Envoy does, by protobuf's merge: single fields are replaced, lists are joined.
    pub(super) fn merge_into(&mut self, bootstrap: &mut Bootstrap) -> Result<(), LoadError> {
        self.before = lengths(bootstrap);
        let message: Bootstrap = self.document.read().map_err(|errors| invalid(&self.source, &errors))?;
        bootstrap.merge(&*message.encode_to_vec()).expect("a message that was just encoded");
        Ok(())
    }

    /// The path in this text of `path` in the merged bootstrap; `None` if it is in a text before this one.
    fn own_path(&self, path: &str) -> Option<String> {
        for (list, before) in self.before {
            if let Some((index, rest)) = path.strip_prefix(list).and_then(|rest| rest.split_once(']')) {
                let index = index.parse::<usize>().ok()?.checked_sub(before)?;
                return Some(format!("{list}{index}]{rest}"));
            }
        }
        Some(path.to_owned())
    }
}

impl Text {
    /// What the text says without effect, with its place in the text.
    pub(super) fn overridden(&self) -> impl Iterator<Item = (String, Ignored)> {
        self.document.overridden().iter().map(|Overridden { mark, key, reason }| {
            let place = format!("{}:{}:{}", self.source.path.display(), mark.line, mark.column);
            (place, Ignored { path: key.clone(), reason: (*reason).to_owned() })
        })
    }
}

fn lengths(bootstrap: &Bootstrap) -> [(&'static str, usize); 2] {
    let (clusters, listeners) =
        bootstrap.static_resources.as_ref().map_or((0, 0), |all| (all.clusters.len(), all.listeners.len()));
    [("static_resources.clusters[", clusters), ("static_resources.listeners[", listeners)]
}

fn invalid(source: &Arc<Source>, errors: &[TextError]) -> LoadError {
    let diagnostic = |error: &TextError| {
        let code = if error.is_syntax() { Code::Syntax } else { Code::Bootstrap };
        let message = message(error.path(), error.reason());
        Diagnostic::error(code, position(source, error.mark()), message).at("", error.path())
    };
    LoadError::Invalid(errors.iter().map(diagnostic).collect())
}

/// The reason, prefixed with the name of the field.
fn message(path: &str, reason: &str) -> String {
    match last_step(path) {
        "" => reason.to_owned(),
        field => format!("{field}: {reason}"),
    }
}

/// The last field of a path, with its index or key, in which dots are no separators.
fn last_step(path: &str) -> &str {
    let plain = match path.rfind("[\"") {
        Some(key) if path.ends_with("\"]") => &path[..key],
        _ => path,
    };
    &path[plain.rfind('.').map_or(0, |dot| dot + 1)..]
}

/// The diagnostic for a fault, at the position in `texts` that is closest to the field. A later text takes precedence, as
/// its values do.
pub(super) fn diagnostic(texts: &[Text], fault: &BootstrapFault) -> Diagnostic {
    let path = fault.path();
    let located = texts.iter().rev().filter_map(|text| Some((text, text.document.locate(&text.own_path(&path)?))));
    let position = located
        .reduce(|best, other| if other.1.matched > best.1.matched { other } else { best })
        .map(|(text, located)| position(&text.source, located.mark));
    let nowhere = || Position::whole_file(Arc::new(Source::new(PathBuf::new(), String::new())));
    let FieldError { path, reason } = &fault.error;
    Diagnostic::error(Code::Bootstrap, position.unwrap_or_else(nowhere), message(path, reason))
        .at(&*fault.resource, &**path)
}

fn position(source: &Arc<Source>, mark: Mark) -> Position {
    let fit = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Position {
        source: Arc::clone(source),
        line: fit(mark.line),
        column: fit(mark.column),
        length: fit(mark.length).max(1),
    }
}
