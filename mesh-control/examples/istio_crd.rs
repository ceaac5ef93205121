//! Checks that Istio's own example documents are accepted or refused as they should be.
//!
//! Reads a folder with `istio-crd/*-{valid,invalid}.yaml`, whose invalid documents say in `_err` what is wrong, and
//! `bookinfo/*.yaml`, the samples of Istio's Bookinfo. A valid document must be accepted, or refused as not supported
//! by name; an invalid one must be refused, and if `_err` names a field, for that field.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use mesh_control::config::{Options, Strictness};
use mesh_control::diagnostic::{Code, Diagnostic, Severity, Source};
use mesh_control::load::Loaded;

type Error = Box<dyn std::error::Error>;

/// The kinds that are implemented, as files are named; Gateway and VirtualService have no file.
const KINDS: [&str; 6] = ["authz", "destinationrule", "peerauth", "reqauth", "serviceentry", "workloadentry"];

/// Services that the Bookinfo samples route to. In a cluster they are Kubernetes Services.
const BOOKINFO_SERVICES: [(&str, u16); 7] = [
    ("productpage.default", 9080),
    ("details.default", 9080),
    ("reviews.default", 9080),
    ("ratings.default", 9080),
    ("mysqldb.default", 9080),
    ("mongodb.default", 9080),
    ("cert-manager-resolver.istio-system", 8089),
];

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: istio_crd FOLDER");
        return ExitCode::FAILURE;
    };
    match run(&folder) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("istio_crd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> Result<bool, Error> {
    let mut is_fine = true;
    for kind in KINDS {
        for (suffix, is_valid) in [("valid", true), ("invalid", false)] {
            let path = folder.join("istio-crd").join(format!("{kind}-{suffix}.yaml"));
            let text = std::fs::read_to_string(&path)?;
            let documents = documents(&text);
            let verdicts: Vec<_> = documents.iter().map(|document| judge(document, is_valid)).collect();
            is_fine &= print(&format!("{kind}-{suffix}"), &verdicts);
        }
    }
    let samples = folder.join("bookinfo");
    let rules = std::fs::read_to_string(samples.join("destination-rule-all.yaml"))?;
    let mut paths: Vec<_> =
        std::fs::read_dir(&samples)?.map(|entry| entry.map(|it| it.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // The samples replace one another's rules.
        let rules = if text.contains("kind: DestinationRule") { "" } else { &rules };
        let verdict = verdict_of_valid(&load(&[&bookinfo_services(), rules, &text]));
        is_fine &= print(&format!("bookinfo/{name}"), &[verdict]);
    }
    Ok(is_fine)
}

struct Document {
    text: String,
    /// What is wrong with it.
    error: String,
}

/// Documents with at least one line that is not a comment, without their `_err`.
fn documents(text: &str) -> Vec<Document> {
    let parse = |part: &str| {
        let (error, rest): (Vec<_>, Vec<_>) = part.lines().partition(|line| line.starts_with("_err:"));
        let error = error.first().and_then(|line| line.split_once(':')).map_or("", |(_, error)| error.trim());
        let error = error.trim_matches(['"', '\'']).to_owned();
        let has_content = rest.iter().any(|line| !line.trim().is_empty() && !line.starts_with('#'));
        has_content.then(|| Document { text: rest.join("\n"), error })
    };
    text.split("\n---").filter_map(parse).collect()
}

fn bookinfo_services() -> String {
    let entry = |(name, port): &(&str, u16)| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: \
             [{name}.svc.cluster.local], resolution: DNS, ports: [{{number: {port}, name: http, protocol: HTTP}}]}}\n"
        )
    };
    BOOKINFO_SERVICES.iter().map(entry).collect()
}

fn load(texts: &[&str]) -> Vec<Diagnostic> {
    let source = |(i, text): (usize, &&str)| Arc::new(Source::new(format!("{i}.yaml"), *text));
    let options = Options::from(Strictness::Strict).with_certificates(true);
    let loaded = Loaded::from_sources(texts.iter().enumerate().map(source).collect(), options);
    loaded.diagnostics.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error).collect()
}

enum Verdict {
    Taken,
    NotSupported,
    Refused,
    Wrong(String),
}

fn judge(document: &Document, is_valid: bool) -> Verdict {
    let errors = load(&[&document.text]);
    if is_valid {
        return verdict_of_valid(&errors);
    }
    let field = document.error.split([':', ' ']).next().filter(|field| field.starts_with("spec")).unwrap_or_default();
    // A block that is not supported is refused before its contents are checked.
    let names_field = |error: &Diagnostic| {
        let is_block = error.code == Code::Unsupported && field.starts_with(&error.field);
        error.field.starts_with(field) || is_block
    };
    if errors.iter().any(names_field) {
        return Verdict::Refused;
    }
    let found: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Verdict::Wrong(format!("expected {:?}, found {found:?}", document.error))
}

fn verdict_of_valid(errors: &[Diagnostic]) -> Verdict {
    match errors.iter().find(|error| error.code != Code::Unsupported) {
        Some(error) => Verdict::Wrong(error.to_string()),
        None if errors.is_empty() => Verdict::Taken,
        None => Verdict::NotSupported,
    }
}

fn print(name: &str, verdicts: &[Verdict]) -> bool {
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| wanted(verdict)).count();
    let wrong = count(|verdict| matches!(verdict, Verdict::Wrong(_)));
    println!(
        "{name:<50} {:>3} taken {:>3} not supported {:>3} refused {wrong:>3} wrong",
        count(|verdict| matches!(verdict, Verdict::Taken)),
        count(|verdict| matches!(verdict, Verdict::NotSupported)),
        count(|verdict| matches!(verdict, Verdict::Refused)),
    );
    for verdict in verdicts {
        if let Verdict::Wrong(reason) = verdict {
            println!("    {reason}");
        }
    }
    wrong == 0
}
