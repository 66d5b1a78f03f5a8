//! The command line as typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Hardens Kubernetes nodes over SSH and proves that they are hardened.
#[derive(Debug, Parser)]
#[command(name = "kubastion", version, arg_required_else_help = true, after_long_help = exit_codes())]
pub struct Cli {
    /// What every verb understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb understands.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Inventory file.
    #[arg(short, long, global = true, default_value = "./inventory.yaml", value_name = "FILE")]
    pub inventory: PathBuf,
    /// How results are written to standard output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The verbs, in the order of a first hour.
#[derive(Debug, Subcommand)]
pub enum Verb {}

fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, meaning) in super::exit::Exit::ALL {
        text.push_str(&format!("  {}  {meaning}\n", code as u8));
    }
    text
}
