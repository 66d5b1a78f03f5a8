//! What a bundle holds, for people and machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::bundle::{Architecture, Bundle, Component, File};
use crate::report::table::{self, Column};

/// A bundle as a list.
#[derive(Serialize)]
pub struct Listing<'a> {
    path: &'a Path,
    signer: &'a str,
    created: &'a str,
    architecture: Architecture,
    kubernetes: String,
    components: &'a BTreeMap<String, Component>,
    files: &'a [File],
}

impl<'a> Listing<'a> {
    /// Of a bundle in a directory.
    pub fn of(path: &'a Path, bundle: &'a Bundle) -> Self {
        let manifest = bundle.manifest();
        Self {
            path,
            signer: bundle.signer(),
            created: &manifest.created,
            architecture: manifest.architecture,
            kubernetes: manifest.kubernetes.to_string(),
            components: &manifest.components,
            files: &manifest.files,
        }
    }
}

/// The same as a table.
pub fn table(bundle: &Bundle) -> String {
    let manifest = bundle.manifest();
    let mut text = String::new();
    // Writing to a String cannot fail.
    _ = writeln!(
        text,
        "Kubernetes {} for {}, made {}, signed by {} (signer not checked; run `kubastion bundle verify`)",
        manifest.kubernetes,
        manifest.architecture,
        manifest.created,
        bundle.signer()
    );
    let versions: Vec<String> =
        manifest.components.iter().map(|(name, c)| format!("{name} {}", c.version)).collect();
    _ = writeln!(text, "{}\n", versions.join(", "));
    let mut rows = vec![["PATH", "COMPONENT", "SIZE", "ORIGIN"].map(str::to_owned)];
    for file in &manifest.files {
        let origin = file.origin.clone();
        rows.push([file.path.to_string(), file.component.clone(), bytes(file.size), origin]);
    }
    let columns = [Column::TEXT, Column::TEXT, Column::NUMBER, Column::TEXT];
    for (i, line) in table::lines(columns, rows).into_iter().enumerate() {
        _ = writeln!(text, "{line}");
        for image in i.checked_sub(1).map_or(&[][..], |f| &manifest.files[f].images) {
            _ = writeln!(text, "    {image}");
        }
    }
    _ = writeln!(text, "\n{} files, {}", manifest.files.len(), bytes(manifest.total_size()));
    text
}

/// A size for people, in powers of 1024.
pub fn bytes(count: u64) -> String {
    indicatif::DecimalBytes(count).to_string()
}
