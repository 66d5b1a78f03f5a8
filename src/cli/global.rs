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
    /// Output format. With json, standard error has one JSON object per line; prompts stay text.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Options of every command")]
    pub format: Format,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Human-readable.
    Text,
    /// Machine-readable.
    Json,
}
