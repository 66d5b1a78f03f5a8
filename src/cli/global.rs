//! Options that every verb takes.

use std::path::PathBuf;

use clap::ValueEnum;

/// What every verb understands.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Inventory file.
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Options of every command",
        default_value = "./inventory.yaml",
        value_name = "FILE"
    )]
    pub inventory: PathBuf,
    /// Text for people, or JSON for machines. With JSON, standard error has one object a line; questions are text.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Options of every command")]
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
