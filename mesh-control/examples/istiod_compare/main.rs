//! Compares our translation with the responses of a real istiod to the same nodes.
//!
//! Reads a folder with the configuration (`config/*.yaml`), the nodes (`nodes.yaml`) and istiod's recorded
//! responses (`NODE/{lds,rds,cds,eds}.pb`), translates the configuration for each node and compares, resource by
//! resource, what this version covers. Fields and kinds that it does not support are left out of the configuration with
//! a warning, and of the comparison by [`normalize`]; everything else must be equal.
//!
//! With `--baseline FILE` it fails if any count is worse than the recorded one; `--update` records those of this run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]

mod compare;
mod normalize;
mod recorded;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use compare::Outcome;
use mesh_control::config::{Options, Strictness};
use mesh_control::diagnostic::{Code, Severity};
use mesh_control::load::Loaded;
use mesh_control::translate::translate;
use recorded::Answers;

type Error = Box<dyn std::error::Error>;

/// A line of the baseline: node and type, then equal and compared resources.
type Row<'a> = ((&'a str, &'a str), (usize, usize));

/// Equal and compared resources by node and type.
type Table = BTreeMap<(String, &'static str), (usize, usize)>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("istiod_compare: {error}");
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
    let folder = folder.ok_or("usage: istiod_compare FOLDER [--baseline FILE [--update]]")?;
    let table = compare_all(&folder)?;
    match baseline {
        Some(file) if update => std::fs::write(&file, counts(&table)).map(|()| true).map_err(Error::from),
        Some(file) => Ok(is_no_worse(&table, &std::fs::read_to_string(&file)?)),
        None => Ok(table.values().all(|(equal, total)| equal == total)),
    }
}

fn compare_all(folder: &Path) -> Result<Table, Error> {
    let loaded =
        Loaded::from_directory(&folder.join("config"), Options::from(Strictness::Lenient).with_certificates(true))?;
    // istiod serves a destination without a port, too, although its analyzers call this an error.
    let is_served = |code| code == Code::VirtualServiceDestinationPortSelectorRequired;
    let mut errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    if let Some(error) = errors.find(|error| !is_served(error.code)) {
        return Err(error.to_string().into());
    }
    println!("left out of the configuration:");
    for diagnostic in &loaded.diagnostics {
        println!("  {diagnostic}");
    }
    let registry = &loaded.mesh.registry;
    let mut table = Table::new();
    for (name, node) in recorded::nodes(folder, registry)? {
        let theirs = Answers::read(&folder.join(&name))?;
        let ours = Answers::of(&translate(&loaded.mesh, &node), registry);
        for (kind, outcomes) in compare::all(&node, &theirs, &ours) {
            let row = print(&name, kind, &outcomes);
            table.insert((name.clone(), kind), row);
        }
    }
    Ok(table)
}

/// Prints a row and its details; returns the number of equal and of compared resources.
fn print(node: &str, kind: &str, outcomes: &BTreeMap<String, Outcome>) -> (usize, usize) {
    let count = |wanted: fn(&Outcome) -> bool| outcomes.values().filter(|outcome| wanted(outcome)).count();
    let equal = count(|outcome| matches!(outcome, Outcome::Equal));
    let skipped = count(|outcome| matches!(outcome, Outcome::NotCovered(_)));
    let total = outcomes.len() - skipped;
    println!("{node:<20} {kind} {equal:>3} of {total:<3} equal, {skipped} not covered");
    for (name, outcome) in outcomes {
        match outcome {
            Outcome::Equal => {}
            Outcome::NotCovered(reason) => println!("    not covered  {name}: {reason}"),
            Outcome::Missing => println!("    MISSING      {name}"),
            Outcome::Extra => println!("    EXTRA        {name}"),
            Outcome::Different(differences) => {
                println!("    DIFFERENT    {name}");
                for difference in differences {
                    println!("                 {difference}");
                }
            }
        }
    }
    (equal, total)
}

fn counts(table: &Table) -> String {
    table.iter().map(|((node, kind), (equal, total))| format!("{node} {kind} {equal} {total}\n")).collect()
}

/// No count of equal resources may fall, and no resource may leave the comparison.
fn is_no_worse(table: &Table, baseline: &str) -> bool {
    let mut is_fine = true;
    for line in baseline.lines().filter(|line| !line.is_empty()) {
        let now = counts(table);
        let Some((key, before)) = parse(line) else {
            eprintln!("istiod_compare: the baseline has the line {line:?}");
            return false;
        };
        let found = now.lines().filter_map(parse).find(|(other, _)| *other == key).map(|(_, counts)| counts);
        if found.is_none_or(|(equal, total)| equal < before.0 || total < before.1) {
            eprintln!("istiod_compare: {} {}: was {before:?}, now {found:?}", key.0, key.1);
            is_fine = false;
        }
    }
    is_fine
}

fn parse(line: &str) -> Option<Row<'_>> {
    let mut words = line.split_whitespace();
    let key = (words.next()?, words.next()?);
    Some((key, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
}
