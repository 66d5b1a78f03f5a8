//! What the documents promise about the tree.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_crate_has_its_reason_and_every_reason_its_crate() {
    let mut named: BTreeSet<String> = BTreeSet::new();
    for manifest in ["Cargo.toml", "src/probe/Cargo.toml"] {
        let manifest: toml::Table = read(manifest).parse().unwrap();
        for section in ["dependencies", "dev-dependencies"] {
            named.extend(manifest[section].as_table().unwrap().keys().cloned());
        }
    }
    let table: BTreeSet<String> = read("docs/decisions/dependencies.md")
        .lines()
        .filter_map(|l| l.strip_prefix("| ")?.split(" |").next())
        .filter(|cell| *cell != "crate")
        .flat_map(|cell| {
            cell.replace(" (tests)", "").split(", ").map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(table, named);
}

#[test]
fn the_readme_names_folders_verbs_and_files_that_exist() {
    let readme = read("README.md");
    for stage in [
        "bundle",
        "inventory",
        "facts",
        "desired",
        "render",
        "pki",
        "plan",
        "apply",
        "verify",
        "report",
        "transport",
        "controls",
        "lab",
        "cli",
    ] {
        assert!(readme.contains(stage), "{stage}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(stage).is_dir(), "{stage}");
    }
    let help =
        std::process::Command::new(env!("CARGO_BIN_EXE_kubastion")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for line in readme.lines().filter_map(|l| l.strip_prefix("$ kubastion ")) {
        let verb = line.split(' ').next().unwrap();
        assert!(help.contains(&format!("  {verb}")), "the README shows `{verb}`");
    }
    for (code, meaning) in kubastion::cli::exit::Exit::ALL {
        assert!(help.contains(&format!("  {}  {meaning}", code as u8)), "{meaning}");
    }
    for link in readme.split("](").skip(1).filter_map(|l| l.split(')').next()) {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "{link}");
    }
}

#[test]
fn the_architecture_page_has_every_certificate_and_every_phase() {
    let page = read("docs/architecture.md");
    let row = |first: &str| page.lines().any(|l| l.starts_with(&format!("| {first} |")));
    for profile in kubastion::pki::PROFILES {
        assert!(row(profile.file), "{}", profile.file);
    }
    for phase in kubastion::desired::Phase::ALL {
        assert!(row(phase.name()), "{}", phase.name());
    }
    // Ports that the firewall opens for roles, and those that only the node itself may use.
    for port in [6443, 2379, 2380, 2381, 10248, 10249, 10250, 10256, 10257, 10259] {
        assert!(row(&format!("{port}/tcp")), "{port}");
    }
}
