//! The inventory as verbs use it: loaded and judged by the controls too, or written anew.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::checks::exceptions_without_a_check;
use crate::clock::Clock;
use crate::error::Problem;
use crate::inventory::{LoadContext, Loaded, load, load_bytes};
use crate::workflow::command_error::{CommandError, Exit};

/// Whether every node has to have a host key in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKeys {
    /// For whoever logs in to all chosen nodes.
    Required,
    /// For what logs in to none, or leaves those out.
    Optional,
}

/// The clock, the controls of this release and the user's home directory.
pub fn context(host_keys: HostKeys) -> LoadContext<'static> {
    LoadContext {
        clock: Clock::System,
        known_controls: &crate::controls::ids::ALL,
        critical_controls: &crate::controls::ids::CRITICAL,
        impact_rows: crate::impact::IDS,
        conflicts: crate::controls::conflict,
        home: std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute()),
        host_keys_optional: host_keys == HostKeys::Optional,
    }
}

/// Loads an inventory.
///
/// # Errors
/// Every problem of it, with exit code 3.
pub fn read(file: &Path, host_keys: HostKeys) -> Result<Loaded, CommandError> {
    let loaded = load(file, &context(host_keys))
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    match exceptions_without_a_check(&loaded.inventory) {
        problems if problems.is_empty() => Ok(loaded),
        problems => Err(CommandError { exit: Exit::InvalidInput, problems }),
    }
}

/// Writes a new inventory, whose nodes may lack host keys. It is judged before, so that a clash of names or addresses
/// leaves no file. Returns how many nodes have none.
///
/// # Errors
/// What is wrong with it, or why it cannot be written.
pub fn write_new(file: &Path, text: &str) -> Result<usize, CommandError> {
    let base = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let base = base.parent().unwrap_or(Path::new("/"));
    let loaded = load_bytes(text.as_bytes(), file, base, &context(HostKeys::Optional))
        .map_err(|e| CommandError { exit: Exit::InvalidInput, problems: e.problems() })?;
    let written = std::fs::File::create_new(file).and_then(|mut f| {
        f.write_all(text.as_bytes())?;
        f.sync_all()
    });
    if let Err(e) = written {
        let problem = match e.kind() {
            std::io::ErrorKind::AlreadyExists => Problem::new("the inventory already exists")
                .left("it is unchanged")
                .hint("set -i to another file, or run `kubastion inventory check` on this one"),
            _ => Problem::from_error("the inventory cannot be written", &e),
        };
        return Err(CommandError::one(Exit::InvalidInput, problem.at(file.display().to_string())));
    }
    let inventory = &loaded.inventory;
    let unknown = inventory.nodes.iter().filter(|n| !inventory.ssh.for_node(n).has_host_key());
    Ok(unknown.count())
}
