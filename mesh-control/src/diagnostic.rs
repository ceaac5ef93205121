//! Problems of a configuration, with their positions and what was expected.
//!
//! A [`Diagnostic`] has everything that is needed to show it: its [`Position`] shares the source text. Two forms exist:
//! [`Diagnostic::render`] is what `rustc` prints, for people at a terminal; [`Diagnostic`]'s `Display` is one line
//! `file:line:column: field: reason`, for logs.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Most characters of a line or a message that are shown. A file may be one line of many megabytes.
const MAX_SHOWN: usize = 300;
/// Most characters of a piece of advice that are shown, which may be a whole resource.
const MAX_SHOWN_HELP: usize = 1000;
/// Characters of a long line that are shown before what is underlined.
const MAX_SHOWN_BEFORE: usize = 60;
/// Most problems in a report.
const MAX_REPORTED: usize = 20;

/// A configuration file as it was read: its name and its text.
#[derive(Debug)]
pub struct Source {
    /// Path of the file, as it is shown to the user.
    pub path: PathBuf,
    /// The whole text, from which excerpts are quoted.
    pub text: String,
    /// Where lines begin, computed once: a file may have as many mistakes as lines.
    lines: OnceLock<Vec<usize>>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, &self.text) == (&other.path, &other.text)
    }
}

impl Eq for Source {}

impl Source {
    /// A file with its name and text.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into(), lines: OnceLock::new() }
    }

    /// The line at `index`, without its end.
    fn line(&self, index: usize) -> Option<&str> {
        let starts = self.lines.get_or_init(|| {
            let after_break = self.text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(after_break).collect()
        });
        self.text[*starts.get(index)?..].lines().next()
    }
}

/// A place in a [`Source`].
#[derive(Clone, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub source: Arc<Source>,
    /// Line, counted from 1; 0 means the file as a whole.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Characters that the offending text covers on its first line, at least 1.
    pub length: u32,
}

impl Position {
    /// The file as a whole, for what has no line (an unreadable file, an empty one).
    pub fn whole_file(source: Arc<Source>) -> Self {
        Self { source, line: 0, column: 0, length: 0 }
    }

    /// The YAML document of the file that the position is in: the lines between `---` before it and after it.
    pub(crate) fn document(&self) -> Option<&str> {
        let line = usize::try_from(self.line).ok()?.checked_sub(1)?;
        let (mut start, mut at) = (0, 0);
        for (index, text) in self.source.text.split_inclusive('\n').enumerate() {
            let is_separator =
                text.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
            if is_separator && index > line {
                break;
            }
            at += text.len();
            if is_separator {
                start = at;
            }
        }
        self.source.text.get(start..at)
    }

    fn excerpt(&self) -> Option<&str> {
        let index = usize::try_from(self.line).ok()?.checked_sub(1)?;
        self.source.line(index)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source.path.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// Severity of a problem. Only errors refuse a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is accepted, but part of it is unlikely to do what was meant.
    Warning,
    /// A note.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// What kind of problem it is. Numbers beginning with `IST` are those of `istioctl analyze`, with the same meaning;
/// those beginning with `MESH` are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Code {
    /// `MESH0001`: a file or directory cannot be read.
    Unreadable,
    /// `MESH0002`: the text is not YAML or JSON.
    Syntax,
    /// `MESH0003`: a kind, field or value exists in Istio, but this version does not implement it.
    Unsupported,
    /// `MESH0004`: the same resource or host is declared twice.
    Duplicate,
    /// `MESH0005`: a field of an Envoy bootstrap is unknown, not supported, or has a value it cannot have.
    Bootstrap,
    /// `MESH0006`: part of a resource has no effect, because no other resource makes use of it.
    NoEffect,
    /// `MESH0007`: a document is no Kubernetes object.
    NoObject,
    /// `MESH0008`: a service has no address.
    NoAddress,
    /// `IST0101`: a resource that another one refers to does not exist.
    ReferencedResourceNotFound,
    /// `IST0106`: a field is unknown, missing or has a value it cannot have.
    SchemaValidation,
    /// `IST0109`: two VirtualServices claim one host on the mesh.
    ConflictingMeshGatewayVirtualServiceHosts,
    /// `IST0110`: two Sidecars select the same workload.
    ConflictingSidecarWorkloadSelectors,
    /// `IST0111`: one namespace has several Sidecars without a selector.
    MultipleSidecarsWithoutWorkloadSelectors,
    /// `IST0112`: a destination on a service of several ports names none.
    VirtualServiceDestinationPortSelectorRequired,
    /// `IST0118`: the name of a port does not say what is spoken on it.
    PortNameIsNotUnderNamingConvention,
    /// `IST0128`: the policy of a DestinationRule names no roots to verify servers with.
    NoServerCertificateVerificationDestinationLevel,
    /// `IST0129`: the policy of a port names no roots to verify servers with.
    NoServerCertificateVerificationPortLevel,
    /// `IST0130`: a rule can never match.
    VirtualServiceUnreachableRule,
    /// `IST0131`: a match can never be the first to match.
    VirtualServiceIneffectiveMatch,
    /// `IST0132`: a VirtualService's host is not served by its gateway.
    VirtualServiceHostNotFoundInGateway,
    /// `IST0134`: a ServiceEntry needs addresses to be distinguished from others.
    ServiceEntryAddressesRequired,
    /// `IST0145`: two gateways claim one port and host.
    ConflictingGateways,
    /// `IST0149`: a rule of a gateway is about claims, but no RequestAuthentication verifies tokens there.
    JwtClaimBasedRoutingWithoutRequestAuthN,
    /// `IST0161`: a Secret that a Gateway names lacks a certificate or key.
    InvalidGatewayCredential,
    /// `IST0173`: a subset's labels select no endpoint.
    DestinationRuleSubsetsNotSelectPods,
    /// `IST0174`: a DestinationRule's host is no service.
    UnknownDestinationRuleHost,
    /// `IST0177`: two ServiceEntries give one host and port different protocols.
    ServiceEntryConflictingProtocol,
}

impl Code {
    /// The identifier shown to users.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "MESH0001",
            Self::Syntax => "MESH0002",
            Self::Unsupported => "MESH0003",
            Self::Duplicate => "MESH0004",
            Self::Bootstrap => "MESH0005",
            Self::NoEffect => "MESH0006",
            Self::NoObject => "MESH0007",
            Self::NoAddress => "MESH0008",
            Self::ReferencedResourceNotFound => "IST0101",
            Self::SchemaValidation => "IST0106",
            Self::ConflictingMeshGatewayVirtualServiceHosts => "IST0109",
            Self::ConflictingSidecarWorkloadSelectors => "IST0110",
            Self::MultipleSidecarsWithoutWorkloadSelectors => "IST0111",
            Self::VirtualServiceDestinationPortSelectorRequired => "IST0112",
            Self::PortNameIsNotUnderNamingConvention => "IST0118",
            Self::NoServerCertificateVerificationDestinationLevel => "IST0128",
            Self::NoServerCertificateVerificationPortLevel => "IST0129",
            Self::VirtualServiceUnreachableRule => "IST0130",
            Self::VirtualServiceIneffectiveMatch => "IST0131",
            Self::VirtualServiceHostNotFoundInGateway => "IST0132",
            Self::ServiceEntryAddressesRequired => "IST0134",
            Self::ConflictingGateways => "IST0145",
            Self::JwtClaimBasedRoutingWithoutRequestAuthN => "IST0149",
            Self::InvalidGatewayCredential => "IST0161",
            Self::DestinationRuleSubsetsNotSelectPods => "IST0173",
            Self::UnknownDestinationRuleHost => "IST0174",
            Self::ServiceEntryConflictingProtocol => "IST0177",
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its severity.
    pub severity: Severity,
    /// What kind of problem it is.
    pub code: Code,
    /// What is wrong, with the value: lower case, no full stop.
    pub message: String,
    /// Its position.
    pub position: Position,
    /// What was expected at that place, shown beside the underline; may be empty.
    pub label: String,
    /// The resource, as `VirtualService default/reviews`; empty if the problem is not in one.
    pub resource: String,
    /// Path of the field inside the resource, as `spec.http[0].timeout`; may be empty.
    pub field: String,
    /// Advice: allowed values, the name that was probably meant.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error without field, label or advice.
    pub fn error(code: Code, position: Position, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, position, message)
    }

    /// A warning without field, label or advice.
    pub fn warning(code: Code, position: Position, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, position, message)
    }

    /// A note without field, label or advice.
    pub fn info(code: Code, position: Position, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, code, position, message)
    }

    fn new(severity: Severity, code: Code, position: Position, message: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            message: message.into(),
            position,
            label: String::new(),
            resource: String::new(),
            field: String::new(),
            help: Vec::new(),
        }
    }

    /// Sets what was expected.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets the resource and the field.
    #[must_use]
    pub fn at(mut self, resource: impl Into<String>, field: impl Into<String>) -> Self {
        self.resource = resource.into();
        self.field = field.into();
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// The problem as `rustc` would print it, ending with a line break.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out, style);
        out
    }

    fn write(&self, out: &mut String, style: Style) -> fmt::Result {
        let severity = style.severity(self.severity);
        let (bold, blue, reset) = (style.code("1"), style.code("1;34"), style.code("0"));
        writeln!(
            out,
            "{severity}{}[{}]{reset}{bold}: {}{reset}",
            self.severity,
            self.code.as_str(),
            plain(&self.message)
        )?;
        let gutter = self.position.line.to_string().len();
        writeln!(out, "{:gutter$}{blue}-->{reset} {}", "", self.position)?;
        if let Some(line) = self.position.excerpt() {
            let excerpt = Excerpt::new(line, &self.position);
            let (underline, text) = (excerpt.underline(), plain(&excerpt.text));
            writeln!(out, "{:gutter$} {blue}|{reset}", "")?;
            writeln!(out, "{blue}{} |{reset} {text}", self.position.line)?;
            let label = plain(&self.label);
            let space = if label.is_empty() { "" } else { " " };
            writeln!(out, "{:gutter$} {blue}|{reset} {severity}{underline}{space}{label}{reset}", "")?;
        }
        if !self.resource.is_empty() || !self.field.is_empty() {
            writeln!(out, "{:gutter$} {blue}|{reset}", "")?;
            writeln!(out, "{:gutter$} {blue}={reset} {bold}in{reset}: {}", "", plain(&self.place()))?;
        }
        for help in &self.help {
            writeln!(out, "{:gutter$} {blue}={reset} {bold}help{reset}: {}", "", shown(help, MAX_SHOWN_HELP))?;
        }
        Ok(())
    }

    fn place(&self) -> String {
        match (self.field.is_empty(), self.resource.is_empty()) {
            (false, false) => format!("{} of {}", self.field, self.resource),
            (false, true) => self.field.clone(),
            (true, _) => self.resource.clone(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.position)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", plain(&self.field))?;
        }
        f.write_str(&plain(&self.message))
    }
}

/// Whether text is decorated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For files and pipes.
    Plain,
    /// For terminals: ANSI colours.
    Ansi,
}

impl Style {
    /// Colours if `stream` is a terminal and the user has not set `NO_COLOR`.
    pub fn of(stream: &impl std::io::IsTerminal) -> Self {
        if stream.is_terminal() && std::env::var_os("NO_COLOR").is_none() { Self::Ansi } else { Self::Plain }
    }

    fn code(self, code: &str) -> String {
        match self {
            Self::Plain => String::new(),
            Self::Ansi => format!("\u{1b}[{code}m"),
        }
    }

    fn severity(self, severity: Severity) -> String {
        self.code(match severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Info => "1;36",
        })
    }
}

/// The part of a line that is shown, and what of it is underlined.
struct Excerpt<'a> {
    text: Cow<'a, str>,
    before: usize,
    length: usize,
}

impl<'a> Excerpt<'a> {
    fn new(line: &'a str, position: &Position) -> Self {
        let before = position.column.saturating_sub(1) as usize;
        let length = position.length.max(1) as usize;
        if line.chars().nth(MAX_SHOWN).is_none() {
            return Self { text: line.into(), before, length };
        }
        let skipped = before.saturating_sub(MAX_SHOWN_BEFORE);
        let mut text: String = line.chars().skip(skipped).take(MAX_SHOWN).collect();
        let length = length.min(MAX_SHOWN - (before - skipped));
        if line.chars().nth(skipped + MAX_SHOWN).is_some() {
            text.push('…');
        }
        if skipped == 0 {
            return Self { text: text.into(), before, length };
        }
        text.insert(0, '…');
        Self { text: text.into(), before: before - skipped + 1, length }
    }

    /// Spaces up to the column, then carets. Tabs are kept, so the carets stand under the text at any tab width.
    fn underline(&self) -> String {
        let mut line: String =
            self.text.chars().take(self.before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let rest = self.text.chars().count().saturating_sub(self.before).max(1);
        line.extend(std::iter::repeat_n('^', self.length.min(rest)));
        line
    }
}

/// Escapes and shortens text of a file, which must not control the terminal or fill the log.
fn plain(text: &str) -> String {
    // With the marks of an excerpt.
    shown(text, MAX_SHOWN + 2)
}

fn shown(text: &str, limit: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
    let mut shown: String = chars.by_ref().take(limit).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// All diagnostics in order, in the format of [`Diagnostic::render`], each followed by an empty line.
pub fn report_all(diagnostics: &[Diagnostic], style: Style) -> String {
    render_all(diagnostics.iter(), style)
}

/// Like [`report_all`], but limited, for errors and logs: errors first, at most 20 diagnostics, and the number of the others.
pub fn report(diagnostics: &[Diagnostic], style: Style) -> String {
    let mut by_severity: Vec<_> = diagnostics.iter().collect();
    by_severity.sort_by_key(|diagnostic| diagnostic.severity);
    let mut report = render_all(by_severity.into_iter().take(MAX_REPORTED), style);
    let others = diagnostics.len().saturating_sub(MAX_REPORTED);
    if others > 0 {
        let _ = writeln!(report, "... and {others} more; `mesh-control validate` shows all");
    }
    report
}

fn render_all<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>, style: Style) -> String {
    diagnostics.map(|diagnostic| diagnostic.render(style) + "\n").collect()
}

/// Severity, then file, line and column: the order in which a user works through them.
pub(crate) fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by(|a, b| {
        (&a.position.source.path, a.position.line, a.position.column, a.severity, a.code).cmp(&(
            &b.position.source.path,
            b.position.line,
            b.position.column,
            b.severity,
            b.code,
        ))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic(length: u32) -> Diagnostic {
        let source = Source::new("mesh/a.yaml", "hosts:\n\t- rëviews \u{7} # x\n");
        let position = Position { source: Arc::new(source), line: 2, column: 4, length };
        Diagnostic::error(Code::ReferencedResourceNotFound, position, "host \"rëviews\" is not declared")
            .label("no ServiceEntry has it")
            .at("VirtualService default/a", "spec.hosts[0]")
            .help("did you mean \"reviews\"?")
    }

    #[test]
    fn renders_the_line_with_the_offending_text_underlined() {
        let expected = "error[IST0101]: host \"rëviews\" is not declared\n \
                        --> mesh/a.yaml:2:4\n  |\n\
                        2 | \t- rëviews \u{fffd} # x\n  \
                        | \t  ^^^^^^^ no ServiceEntry has it\n  |\n  \
                        = in: spec.hosts[0] of VirtualService default/a\n  \
                        = help: did you mean \"reviews\"?\n";
        assert_eq!(diagnostic(7).render(Style::Plain), expected);
    }

    #[test]
    fn one_line_form_names_file_line_column_field_and_reason() {
        assert_eq!(diagnostic(7).to_string(), "mesh/a.yaml:2:4: spec.hosts[0]: host \"rëviews\" is not declared");
    }

    #[test]
    fn names_of_fields_cannot_control_the_terminal() {
        let diagnostic = diagnostic(1).at("Gateway a/\u{1b}[2J", "spec.\u{1b}[2J");
        let shown = [diagnostic.render(Style::Plain), diagnostic.to_string()];
        assert!(shown.iter().all(|text| text.contains("[2J") && !text.contains('\u{1b}')), "{shown:?}");
    }

    #[test]
    fn lines_are_those_of_the_text() {
        for text in ["", "a", "a\n", "\n", "a\n\nb\r\nc", "a\r\n"] {
            let source = Source::new("a", text);
            let lines: Vec<_> = (0..text.lines().count()).filter_map(|index| source.line(index)).collect();
            assert_eq!(lines, text.lines().collect::<Vec<_>>(), "{text:?}");
            assert_eq!(source.line(9), None);
        }
    }

    #[test]
    #[cfg(feature = "watch")]
    fn the_document_of_a_position_is_between_separators() {
        let source = Arc::new(Source::new("a.yaml", "a: 1\n---\nb: 2\nc: '---'\n--- # d\nd: 3"));
        let document =
            |line| Position { source: Arc::clone(&source), line, column: 1, length: 1 }.document().map(str::to_owned);
        for (line, expected) in [(1, "a: 1\n"), (3, "b: 2\nc: '---'\n"), (4, "b: 2\nc: '---'\n"), (6, "d: 3")] {
            assert_eq!(document(line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(document(0), None);
    }

    #[test]
    fn underline_never_runs_past_the_line() {
        let rendered = diagnostic(1000).render(Style::Plain);
        assert!(rendered.contains("| \t  ^^^^^^^^^^^^^ no"), "{rendered}");
    }

    #[test]
    fn of_a_long_line_only_the_part_around_the_mistake_is_shown() {
        let lines = |column: u32, length: u32| {
            let text = format!("{}é{}", "x".repeat(500), "y".repeat(500));
            let position = Position { source: Arc::new(Source::new("a", text)), line: 1, column, length };
            let rendered = Diagnostic::error(Code::Syntax, position, "z".repeat(1000)).render(Style::Plain);
            assert!(rendered.chars().count() < 4 * MAX_SHOWN, "{rendered}");
            let line = |i| rendered.lines().nth(i).unwrap_or_default().to_owned();
            let underlined =
                line(4).find('^').map(|from| line(3).chars().skip(from).take(line(4).matches('^').count()).collect());
            (line(3), underlined.unwrap_or_else(String::new))
        };
        let (line, underlined) = lines(501, 3);
        assert!(line.starts_with("1 | …xxx") && line.ends_with("yyy…"), "{line}");
        assert_eq!(underlined, "éyy");
        assert_eq!(lines(1, 2).1, "xx");
        assert_eq!(lines(1001, 1).1, "y");
        assert!(lines(1, 900).1.starts_with("xxx"));
    }

    #[test]
    fn a_report_is_bounded_and_has_errors_first() {
        let warning = Diagnostic { severity: Severity::Warning, ..diagnostic(1) };
        let mut many = vec![warning; 2 * MAX_REPORTED];
        many.push(diagnostic(1));
        let report = report(&many, Style::Plain);
        assert!(report.starts_with("error["), "{report}");
        assert_eq!(report.matches("-->").count(), MAX_REPORTED);
        assert!(report.ends_with("... and 21 more; `mesh-control validate` shows all\n"), "{report}");
    }

    #[test]
    fn colours_only_in_ansi_style() {
        assert!(!diagnostic(1).render(Style::Plain).contains('\u{1b}'));
        assert!(diagnostic(1).render(Style::Ansi).starts_with("\u{1b}[1;31merror"));
    }
}
