//! `kubastion lab`: disposable nodes on this machine.

use std::os::unix::process::CommandExt;
use std::path::Path;

use super::args::{LabUp, LabVerb};
use super::global::{Format, Global};
use super::output;
use crate::error::Problem;
use crate::lab::{Lab, NodeStatus, Spec, Step, Stock};
use crate::report::table::{self, Column};
use crate::workflow::command_error::{CommandError, Exit};
use crate::workflow::lab::{stop, up};
use crate::workflow::software::bundle_of_a_lab;

/// Runs one of the lab verbs. `exec` does not return: the program replaces this one, so that its
/// exit code, signals and terminal are its own.
pub(super) fn run(global: &Global, verb: LabVerb) -> Result<Exit, CommandError> {
    match verb {
        LabVerb::Up(args) => {
            let lab = up(&spec(&args)?, &show)?;
            let done = print(global.format, &lab.status());
            if let Some(next) = next_of_stock(&lab) {
                eprintln!("{next}");
            }
            done
        }
        LabVerb::Status(args) => {
            let lab = Lab::open(&args.dir).map_err(|e| stop(&e))?;
            print(global.format, &lab.status())
        }
        LabVerb::Exec(args) => {
            let lab = Lab::open(&args.dir.dir).map_err(|e| stop(&e))?;
            let mut command = lab.command(&args.node, &args.command).map_err(|e| stop(&e))?;
            let why = command.exec();
            let problem = Problem::new("cannot enter the node").at(args.node);
            Err(CommandError::one(Exit::Unexpected, problem.because(why.to_string())))
        }
        LabVerb::Down(args) => {
            let lab = Lab::open(&args.dir).map_err(|e| stop(&e))?;
            let dir = lab.dir().to_owned();
            lab.down(&show).map_err(|e| stop(&e))?;
            if let Some(line) = left(&dir) {
                eprintln!("{line}");
            }
            Ok(Exit::Done)
        }
    }
}

/// What a lab that is gone has left in its directory, and why.
fn left(dir: &Path) -> Option<String> {
    let entries = std::fs::read_dir(dir).ok()?;
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let dir = dir.display();
    (!names.is_empty()).then(|| {
        format!(
            "lab: {dir} is kept with {}: the lab did not create them, and no verb deletes keys or records; run `rm -r {dir}` to delete them",
            names.join(", ")
        )
    })
}

fn show(step: &Step) {
    match &step.node {
        Some(node) => eprintln!("lab: {node}: {}", step.what),
        None => eprintln!("lab: {}", step.what),
    }
}

fn print(format: Format, nodes: &[NodeStatus]) -> Result<Exit, CommandError> {
    let text = match format {
        Format::Json => output::pretty(&nodes),
        Format::Text => {
            let dash = || "-".to_owned();
            let row = |n: &NodeStatus| {
                [
                    n.name.to_string(),
                    n.address.to_string(),
                    n.state.to_string(),
                    n.systemd.clone().unwrap_or_else(dash),
                    if n.ssh { "yes" } else { "no" }.to_owned(),
                    n.since.clone().unwrap_or_else(dash),
                ]
            };
            let head = ["NODE", "ADDRESS", "STATE", "SYSTEMD", "SSH", "SINCE"].map(str::to_owned);
            let rows = std::iter::once(head).chain(nodes.iter().map(row));
            table::text([Column::TEXT; 6], rows)
        }
    };
    output::print(&text)
}

/// What was asked for.
fn spec(args: &LabUp) -> Result<Spec, CommandError> {
    Ok(Spec {
        dir: args.dir.dir.clone(),
        cache: args.cache.clone(),
        control_planes: args.control_planes,
        workers: args.workers,
        bundle: args.bundle.as_deref().map(bundle_of_a_lab).transpose()?,
        stock: args
            .stock
            .then(|| Stock { variant: args.stock_variant.into(), etcd: args.stock_etcd.into() }),
    })
}

/// What can be done with a stock cluster first.
fn next_of_stock(lab: &Lab) -> Option<String> {
    lab.stock()?;
    let first = lab.address(lab.node_names().first()?).ok()?;
    let here = std::env::current_dir().ok();
    let elsewhere = Some(lab.dir()).filter(|dir| here.as_deref() != Some(*dir));
    Some(next(&first.to_string(), elsewhere))
}

/// Paths are the lab's own, so that the line is the same for every lab.
fn next(address: &str, elsewhere: Option<&Path>) -> String {
    let way = elsewhere.map(|dir| format!("  cd {}\n", word(&dir.to_string_lossy())));
    format!(
        "\nA stock cluster is up. Assess it, which changes nothing:\n{}  kubastion assess ssh://root@{address} --identity ssh/id_ed25519 --known-hosts ssh/known_hosts",
        way.unwrap_or_default()
    )
}

/// A word as a shell reads it.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::{Cli, Verb};
    use super::*;
    use crate::lab::{StockEtcd, StockVariant};

    fn up_of(words: &str) -> Result<super::super::args::LabUp, String> {
        let words = ["kubastion", "lab", "up"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words).map_err(|e| e.to_string())?.verb {
            Verb::Lab(LabVerb::Up(args)) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stock_cluster_is_asked_for_and_a_variant_only_with_it() {
        let stock_of = |words: &str| spec(&up_of(words).unwrap()).unwrap().stock;
        assert_eq!(stock_of(""), None);
        assert_eq!(stock_of("--stock"), Some(Stock::default()));
        let odd = Stock { variant: StockVariant::Odd, ..Stock::default() };
        assert_eq!(stock_of("--stock --stock-variant odd"), Some(odd));
        let external = Stock { etcd: StockEtcd::External, ..Stock::default() };
        assert_eq!(stock_of("--stock --stock-etcd external"), Some(external));
        for lacking in ["--stock-variant odd", "--stock-etcd external"] {
            let said = up_of(lacking).unwrap_err();
            assert!(said.contains("--stock"), "{said}");
        }
        assert!(up_of("--stock --stock-variant other").is_err());
    }

    #[test]
    fn what_is_next_works_in_the_directory_of_the_lab() {
        let said = next("10.213.7.11", Some(Path::new("/my lab")));
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        assert_eq!(
            lines[2..],
            [
                "cd '/my lab'",
                "kubastion assess ssh://root@10.213.7.11 --identity ssh/id_ed25519 --known-hosts ssh/known_hosts"
            ]
        );
        assert!(!next("10.213.7.11", None).contains("cd "));
    }

    #[test]
    fn what_a_lab_leaves_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(left(dir.path()), None);
        for name in ["pki", ".kubastion"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let said = left(dir.path()).unwrap();
        assert!(
            said.contains("is kept with .kubastion, pki: ") && said.contains("rm -r"),
            "{said}"
        );
        assert_eq!(left(&dir.path().join("gone")), None);
    }
}
