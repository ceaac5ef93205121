//! `cargo xtask tidy`: rules of this repository that rustfmt and clippy cannot check.
//!
//! - a Rust file has at most [`MAX_LINES`] lines without its tests;
//! - a Rust file begins with `//!` (files of tests may do without);
//! - a crate has none of its [`FORBIDDEN_DEPENDENCIES`];
//! - the top-level modules of a crate do not use each other in a circle (`cargo xtask arrows CRATE` shows how they do);
//! - a note about work to do refers to an issue;
//! - no checked-in file contains the path of a directory of this machine, and `Cargo.lock` refers to no registry other
//!   than crates.io.
//!
//! The check also runs as a test of this crate. There are no exceptions: a file that is too long must be split.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::arrows::{self, Closing};

/// Maximum number of lines of a Rust file, not counting a test module at its end.
const MAX_LINES: usize = 500;

/// Generated sources, which `cargo xtask codegen --check` checks.
const GENERATED: &str = "mesh-xds/src/proto/";

/// The only registry that `Cargo.lock` may refer to.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that a crate must not depend on, in any dependency section. See `ARCHITECTURE.md`.
const FORBIDDEN_DEPENDENCIES: &[(&str, &[&str])] = &[
    (
        "mesh-core",
        &["hyper", "hyper-util", "mesh-control", "mesh-tower", "mesh-xds", "prost", "prost-types", "tokio", "tonic"],
    ),
    ("mesh-tower", &["mesh-control", "mesh-xds", "prost", "prost-reflect", "prost-types", "serde-saphyr"]),
    ("mesh-xds", &["mesh-control", "mesh-tower"]),
    ("mesh-control", &["mesh-tower"]),
    ("mesh-admin", &["mesh", "mesh-control", "mesh-proxy"]),
];

/// A violation of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: PathBuf,
    line: usize,
    rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.rule)
    }
}

/// Checks the workspace at `root` and prints all findings.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]
pub(crate) fn run(root: &Path) -> ExitCode {
    match findings(root) {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in &findings {
                println!("{finding}");
            }
            println!("{} findings", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn findings(root: &Path) -> std::io::Result<Vec<Finding>> {
    let machine = machine_directories(root);
    let mut findings = Vec::new();
    for path in checked_in_files(root)? {
        let Ok(bytes) = std::fs::read(root.join(&path)) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        check_file(&path, &text, &machine, &mut |line, rule| {
            findings.push(Finding { path: path.clone(), line, rule });
        });
    }
    for name in arrows::WITHOUT_CIRCLES {
        findings.extend(circles(root, name)?);
    }
    Ok(findings)
}

/// A finding for each place of each arrow that closes a circle of top-level modules.
fn circles(root: &Path, name: &str) -> std::io::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for Closing { circle, places } in arrows::circles(root, name)? {
        let circle = circle.join(" -> ");
        findings.extend(places.into_iter().map(|place| Finding {
            rule: format!("{} closes a circle of modules: {circle}", place.path),
            path: place.file,
            line: place.line,
        }));
    }
    Ok(findings)
}

/// Files known to git, and new files that are not ignored.
fn checked_in_files(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    if !listing.status.success() {
        let cause = String::from_utf8_lossy(&listing.stderr).trim().to_owned();
        return Err(std::io::Error::other(format!("git ls-files in {}: {cause}", root.display())));
    }
    Ok(String::from_utf8_lossy(&listing.stdout).lines().map(PathBuf::from).collect())
}

/// The workspace directory and the home directory of the user.
fn machine_directories(root: &Path) -> Vec<String> {
    let home = std::env::home_dir().filter(|home| home.components().count() > 1);
    [Some(root.to_path_buf()), home].into_iter().flatten().map(|path| format!("{}/", path.display())).collect()
}

fn check_file(path: &Path, text: &str, machine: &[String], report: &mut dyn FnMut(usize, String)) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let generated = path.starts_with(GENERATED);
    let is_rust = path.extension().is_some_and(|extension| extension == "rs");
    if is_rust && !generated && !only_tests(path) {
        check_length(text, report);
        check_module_docs(text, report);
    }
    if name == "Cargo.toml" {
        check_dependencies(text, report);
    }
    if name == "Cargo.lock" {
        check_registries(text, report);
    }
    if !generated {
        check_notes(text, report);
        check_machine_paths(text, machine, report);
    }
}

fn only_tests(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

fn check_length(text: &str, report: &mut dyn FnMut(usize, String)) {
    let lines = lines_without_tests(text);
    if lines > MAX_LINES {
        report(lines, format!("{lines} lines without tests, at most {MAX_LINES}: split the file by concern"));
    }
}

/// Number of lines before the test module at the end of a file.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(tests).unwrap_or(lines.len())
}

fn check_module_docs(text: &str, report: &mut dyn FnMut(usize, String)) {
    if !text.starts_with("//!") {
        report(1, "a module begins with `//!` and a description".to_owned());
    }
}

fn check_dependencies(manifest: &str, report: &mut dyn FnMut(usize, String)) {
    let package = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default().trim_matches('"');
    let Some((_, forbidden)) = FORBIDDEN_DEPENDENCIES.iter().find(|(name, _)| *name == package) else { return };
    let mut in_dependencies = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end().trim_end_matches(']').ends_with("dependencies");
            continue;
        }
        let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if in_dependencies && forbidden.contains(&dependency) {
            report(index + 1, format!("{package} may not depend on {dependency} (see ARCHITECTURE.md)"));
        }
    }
}

fn check_registries(lock: &str, report: &mut dyn FnMut(usize, String)) {
    for (index, line) in lock.lines().enumerate() {
        if line.strip_prefix("source = ").is_some_and(|source| source.trim_matches('"') != CRATES_IO) {
            report(index + 1, format!("registry other than crates.io: {line}"));
        }
    }
}

/// Notes about work to do must refer to an issue.
fn check_notes(text: &str, report: &mut dyn FnMut(usize, String)) {
    const NOTE: &str = concat!("TO", "DO");
    const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X:")];
    for (index, line) in text.lines().enumerate() {
        let unnamed = line.match_indices(NOTE).any(|(at, _)| !names_issue(&line[at + NOTE.len()..]));
        if unnamed || MARKS.iter().any(|mark| line.contains(mark)) {
            report(index + 1, format!("notes about work to do have the form {NOTE}(#issue)"));
        }
    }
}

fn names_issue(rest: &str) -> bool {
    let number = rest.strip_prefix("(#").and_then(|rest| rest.split_once(')')).map_or("", |(number, _)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_machine_paths(text: &str, machine: &[String], report: &mut dyn FnMut(usize, String)) {
    for (index, line) in text.lines().enumerate() {
        if let Some(directory) = machine.iter().find(|directory| line.contains(directory.as_str())) {
            report(index + 1, format!("contains a directory of this machine: {directory}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        check_file(Path::new(path), text, &["/somewhere/checkout/".to_owned()], &mut |line, rule| {
            found.push((line, rule));
        });
        found
    }

    #[track_caller]
    fn check(path: &str, text: &str, line: usize, words: &str) {
        let found = rules(path, text);
        assert!(found.iter().any(|(at, rule)| *at == line && rule.contains(words)), "{found:?}");
    }

    #[test]
    fn the_workspace_is_tidy() {
        let findings: Vec<String> =
            findings(&crate::workspace_root()).unwrap().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn a_long_file_is_found_unless_its_tests_make_it_long() {
        let code = |lines| format!("//! Docs.\n{}", "\n".repeat(lines - 1));
        assert_eq!(rules("a/src/lib.rs", &code(MAX_LINES)), []);
        check("a/src/lib.rs", &code(MAX_LINES + 1), MAX_LINES + 1, "501 lines");
        assert_eq!(rules("a/src/b/tests.rs", &"use super::*;\n".repeat(MAX_LINES + 1)), []);
        assert_eq!(rules("a/tests/it/main.rs", &code(MAX_LINES + 1)), []);
        assert_eq!(rules("mesh-xds/src/proto/envoy.rs", &"\n".repeat(9000)), []);
        let with_tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", code(MAX_LINES - 1), "\n".repeat(90));
        assert_eq!(rules("a/src/lib.rs", &with_tests), []);
    }

    #[test]
    fn a_module_without_docs_is_found() {
        check("a/src/lib.rs", "use std::fmt;\n//! Late.\n", 1, "begins with");
    }

    #[test]
    fn a_forbidden_dependency_is_found_in_every_section() {
        let core = |section: &str, line: &str| format!("[package]\nname = \"mesh-core\"\n[{section}]\n{line}\n");
        check("mesh-core/Cargo.toml", &core("dependencies", "tokio.workspace = true"), 4, "not depend on tokio");
        check("mesh-core/Cargo.toml", &core("dev-dependencies", "prost = \"1\""), 4, "not depend on prost");
        check("mesh-core/Cargo.toml", &core("target.'cfg(unix)'.dependencies", "hyper = \"1\""), 4, "hyper");
        assert_eq!(rules("mesh-core/Cargo.toml", &core("dependencies", "tokio-like = \"1\"")), []);
        assert_eq!(rules("mesh-core/Cargo.toml", &core("features", "tokio = []")), []);
    }

    #[test]
    fn another_registry_is_found() {
        check("Cargo.lock", "source = \"registry+https://mirror.example/index\"\n", 1, "registry other than");
        assert_eq!(rules("Cargo.lock", &format!("source = \"{CRATES_IO}\"\n")), []);
    }

    #[test]
    fn a_note_must_refer_to_an_issue() {
        let note = |rest: &str| format!("//! Docs.\n// {}{rest}\n", concat!("TO", "DO"));
        assert_eq!(rules("a/src/lib.rs", &note("(#12): faster")), []);
        for rest in [": faster", "(me): faster", "(#): faster", "(#12"] {
            check("a/src/lib.rs", &note(rest), 2, "#issue");
        }
        check("a.md", concat!("FIX", "ME later\n"), 1, "#issue");
    }

    #[test]
    fn a_path_of_the_machine_is_found() {
        check("README.md", "cd /somewhere/checkout/examples\n", 1, "directory of this machine");
        assert_eq!(rules("README.md", "cd /somewhere/else/\n"), []);
    }
}
