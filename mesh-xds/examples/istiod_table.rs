//! How much of what a control plane says is understood.
//!
//! Reads a folder of recorded answers, `NODE/{lds,rds,cds,eds}.pb` with one `DiscoveryResponse` each, and prints for
//! every node and type how many resources became model values, what of them is passed over and what is refused, each
//! with its reason. With `--baseline FILE` it fails if any count is worse than the recorded one; `--update` records the
//! counts of this run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mesh_xds::proto::envoy::service::discovery::v3::DiscoveryResponse;
use mesh_xds::resource;
use prost::Message;

const TYPES: [&str; 4] = ["lds", "rds", "cds", "eds"];

type Error = Box<dyn std::error::Error>;

#[derive(Default)]
struct Row {
    resources: usize,
    refused: Vec<String>,
    /// Reason to number of fields passed over for it.
    ignored: BTreeMap<String, usize>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("istiod_table: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Error> {
    let (mut folder, mut baseline, mut update) = (None, None, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--baseline" => baseline = arguments.next().map(PathBuf::from),
            "--update" => update = true,
            _ => folder = Some(PathBuf::from(argument)),
        }
    }
    let folder = folder.ok_or("usage: istiod_table FOLDER [--baseline FILE [--update]]")?;
    let table = read(&folder)?;
    if table.is_empty() {
        return Err(format!("{}: no NODE/{{lds,rds,cds,eds}}.pb inside", folder.display()).into());
    }
    print(&table);
    match baseline {
        Some(file) if update => std::fs::write(&file, counts(&table)).map(|()| true).map_err(Error::from),
        Some(file) => compare(&table, &std::fs::read_to_string(&file)?),
        None => Ok(true),
    }
}

fn read(folder: &Path) -> Result<BTreeMap<(String, &'static str), Row>, Error> {
    let mut table = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        for kind in TYPES {
            let path = entry.path().join(kind).with_extension("pb");
            if path.is_file() {
                let response = DiscoveryResponse::decode(std::fs::read(&path)?.as_slice())
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                table.insert((entry.file_name().to_string_lossy().into_owned(), kind), row(&response));
            }
        }
    }
    Ok(table)
}

fn row(response: &DiscoveryResponse) -> Row {
    let mut row = Row { resources: response.resources.len(), ..Row::default() };
    for any in &response.resources {
        match resource::decode(any) {
            Ok(decoded) => {
                for ignored in decoded.ignored {
                    let field = ignored.path.rsplit('.').next().unwrap_or_default().to_owned();
                    let field = field.split('[').next().unwrap_or_default();
                    *row.ignored.entry(format!("{field}: {}", ignored.reason)).or_default() += 1;
                }
            }
            Err(error) => row.refused.push(error.to_string()),
        }
    }
    row
}

fn print(table: &BTreeMap<(String, &'static str), Row>) {
    println!("{:<22} {:<4} {:>9} {:>8} {:>8} {:>8}", "node", "type", "resources", "model", "refused", "ignored");
    for ((node, kind), row) in table {
        let ignored: usize = row.ignored.values().sum();
        let (all, refused) = (row.resources, row.refused.len());
        println!("{node:<22} {kind:<4} {all:>9} {:>8} {refused:>8} {ignored:>8}", all - refused);
    }
    for ((node, kind), row) in table {
        if !row.refused.is_empty() || !row.ignored.is_empty() {
            println!("\n{node} {kind}");
        }
        row.refused.iter().for_each(|reason| println!("  refused  {reason}"));
        row.ignored.iter().for_each(|(reason, count)| println!("  ignored  {count:>3}x {reason}"));
    }
}

/// One line per node and type: how many resources became model values, of how many.
fn counts(table: &BTreeMap<(String, &'static str), Row>) -> String {
    table.iter().fold(String::new(), |mut text, ((node, kind), row)| {
        let decoded = row.resources - row.refused.len();
        writeln!(text, "{node} {kind} {decoded} {}", row.resources).expect("a String takes all text");
        text
    })
}

fn compare(table: &BTreeMap<(String, &'static str), Row>, baseline: &str) -> Result<bool, Error> {
    let mut good = true;
    for line in baseline.lines().filter(|line| !line.is_empty()) {
        let [node, kind, decoded, _] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("baseline: {line:?} is not `NODE TYPE DECODED RESOURCES`").into());
        };
        let before: usize = decoded.parse()?;
        let row = table.iter().find(|((name, of), _)| name == node && *of == kind).map(|(_, row)| row);
        let now = row.map_or(0, |row| row.resources - row.refused.len());
        if now < before {
            eprintln!("{node} {kind}: {now} resources decoded, {before} before");
            good = false;
        } else if now > before {
            eprintln!("{node} {kind}: {now} resources decoded, {before} before; record it with --update");
        }
    }
    Ok(good)
}
