//! What the documents promise about the tree.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The Rust files below some directories, by path from the top.
fn sources(below: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs: Vec<_> = below.iter().map(|dir| root.join(dir)).collect();
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    files
}

/// What verbs do can be used without a command line, and is read without it.
#[test]
fn nothing_but_the_program_itself_knows_the_command_line() {
    let known: BTreeSet<String> = sources(&["src"])
        .into_iter()
        .filter(|(name, text)| !name.starts_with("src/cli/") && text.contains("cli::"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(known, ["src/main.rs".to_owned()].into());
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
            cell.replace(" (tests)", "")
                .replace(" (benches)", "")
                .split(", ")
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(table, named);
}

#[test]
fn the_readme_names_folders_verbs_and_files_that_exist() {
    let readme = read("README.md");
    // The folders of src/ are those of the section about the code, in its line of stages or between backquotes.
    let (_, code) = readme.split_once("## The code").unwrap();
    let line = code.lines().find(|l| l.contains(" -> ")).unwrap();
    let words = |text: &str| -> Vec<String> {
        text.split([' ', '+', ',', '(', ')']).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let mut named: BTreeSet<String> = words(line).into_iter().filter(|w| w != "->").collect();
    named.extend(code.split('`').skip(1).step_by(2).map(str::to_owned));
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let folders = std::fs::read_dir(&src).unwrap().map(|e| e.unwrap().path());
    for folder in folders.filter(|p| p.is_dir()) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(named.contains(&name), "the README does not name src/{name}");
    }
    for stage in words(line).iter().filter(|w| *w != "->") {
        assert!(src.join(stage).is_dir(), "{stage}");
    }
    let help =
        std::process::Command::new(env!("CARGO_BIN_EXE_kubastion")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for line in readme.lines().filter_map(|l| l.strip_prefix("$ kubastion ")) {
        let verb = line.split(' ').next().unwrap();
        assert!(help.contains(&format!("  {verb}")), "the README shows `{verb}`");
    }
    for (code, meaning) in kubastion::command_error::Exit::ALL {
        assert!(help.contains(&format!("  {}  {meaning}", code as u8)), "{meaning}");
    }
    // A number would be wrong with the next control.
    let (_, catalogue) = readme.split_once("the catalogue of ").unwrap();
    assert!(catalogue.starts_with("controls"), "the README counts the controls");
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

/// The book's pages: every document has its place in it, and no place is empty.
#[test]
fn the_book_has_every_page_and_no_link_leads_nowhere() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = |dir: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        entries.filter(|p| p.extension().is_some_and(|e| e == "md")).collect()
    };
    let mut all = pages(&docs);
    all.extend(pages(&docs.join("decisions")));
    let summary = read("docs/SUMMARY.md");
    for page in &all {
        let name = page.strip_prefix(&docs).unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name}");
        let text = std::fs::read_to_string(page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|t| !t.starts_with('#') && !t.contains("://")) {
            let file = page.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(file.exists(), "{}: {target}", page.display());
        }
    }
}

/// The tests that pages name as guards exist.
#[test]
fn named_guards_exist() {
    let files = sources(&["tests", "src", "fuzz/targets"]);
    let sources: String = files.into_iter().map(|(_, text)| text).collect();
    let mut named = 0;
    for page in ["docs/protection.md", "docs/threats.md"] {
        for word in read(page).split('`').skip(1).step_by(2).filter(|w| w.contains('_')) {
            let plain = word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if plain && word.matches('_').count() >= 2 {
                assert!(sources.contains(&format!("fn {word}(")), "{page}: {word}");
                named += 1;
            }
        }
    }
    assert!(named > 15, "{named}");
}
