//! What the documents promise about the tree.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The Rust files below some directories, by path from the top.
pub(crate) fn sources(below: &[&str]) -> Vec<(String, String)> {
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

/// What reads or writes YAML asks `yaml` for it: two parsers that look at one file could see two files in it.
#[test]
fn yaml_is_read_and_written_in_one_place() {
    let all = sources(&["src", "tests", "benches", "fuzz"]);
    for (crate_, home) in [("serde_yaml", "src/yaml.rs"), ("saphyr_parser", "src/yaml/tree.rs")] {
        let path = format!("{crate_}::");
        let named = all.iter().filter(|(name, text)| {
            text.contains(&path) && name != home && name != "src/yaml/tests.rs"
        });
        let named: Vec<&String> = named.map(|(name, _)| name).collect();
        assert!(named.is_empty(), "{crate_} is for {home} alone, and stands in {named:?}");
        assert!(all.iter().any(|(name, text)| name == home && text.contains(&path)), "{home}");
    }
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
    for &(code, meaning) in kubastion::workflow::command_error::Exit::ALL {
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
    for &phase in kubastion::desired::Phase::ALL {
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

/// The lists of what is added most often ask for nothing that would go unnoticed.
#[test]
fn what_is_added_often_goes_by_the_compiler_and_by_tests() {
    let page = read("docs/decisions/adding.md");
    for list in ["A control about a flag or a setting", "A kernel setting", "A verb"] {
        let (_, rest) = page.split_once(&format!("**{list}**")).unwrap_or_else(|| panic!("{list}"));
        let text = rest.split("\n\n**").next().unwrap();
        assert!(!text.contains("(!)"), "{list}: {text}");
    }
}

fn long_help(words: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubastion"));
    let output = command.args(words).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Names of subcommands, in the order of a help text.
fn subcommands(words: &[&str]) -> Vec<String> {
    let help = long_help(words);
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|l| !l.is_empty());
    let names = lines.filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    names
        .filter_map(|l| l.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// A new verb without examples, without a test that runs it, or that no page knows.
#[test]
fn every_verb_has_examples_a_test_and_a_page() {
    let tests: String = sources(&["tests"]).into_iter().map(|(_, text)| text).collect();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut pages = read("README.md");
    for entry in std::fs::read_dir(docs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "md") {
            pages += &std::fs::read_to_string(path).unwrap();
        }
    }
    let verbs = subcommands(&[]);
    assert!(verbs.len() > 12, "{verbs:?}");
    for verb in &verbs {
        assert!(tests.contains(&format!("\"{verb}\"")), "no test runs `{verb}`");
        assert!(pages.contains(&format!("kubastion {verb}")), "no page shows `{verb}`");
        let below = subcommands(&[verb]);
        let leaves: Vec<Vec<&str>> = match below.is_empty() {
            true => vec![vec![verb.as_str()]],
            false => below.iter().map(|sub| vec![verb.as_str(), sub.as_str()]).collect(),
        };
        for words in leaves {
            let help = long_help(&words);
            // A family of short verbs has them together, above.
            let above = long_help(&words[..1]);
            let examples = [&help, &above].into_iter().find_map(|h| h.split_once("Examples:\n"));
            let Some((_, examples)) = examples else {
                panic!("`{}` has no examples", words.join(" "));
            };
            let wide = examples.lines().take_while(|l| !l.is_empty()).find(|l| l.len() >= 80);
            assert!(wide.is_none(), "{words:?}: {wide:?}");
        }
    }
    // In both formats: what prints asks which is wanted.
    for (name, text) in sources(&["src/cli"]) {
        let prints = text.contains("pub fn run(") || text.contains("pub fn list(");
        // Itself, or by handing the options over to what does.
        let asks = text.contains(".format") || text.contains("(global");
        assert!(!prints || asks, "{name} does not ask for the format");
    }
}

/// A key whose every test keeps its default could do nothing, and all would pass.
#[test]
fn every_key_of_the_inventory_is_set_by_a_test() {
    let schema: serde_json::Value = serde_json::from_str(&read("inventory/schema.json")).unwrap();
    let files = sources(&["tests", "src"]);
    let text: String = files
        .into_iter()
        .filter(|(name, text)| name.contains("tests") || text.contains("#[cfg(test)]"))
        .map(|(name, text)| match text.split_once("#[cfg(test)]") {
            Some((_, tests)) if !name.contains("tests") => tests.to_owned(),
            _ => text,
        })
        // What a comment names, nothing sets.
        .flat_map(|text| {
            let lines = text.lines().map(|line| format!("{line}\n"));
            lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>()
        })
        .collect();
    let mut lacking = Vec::new();
    let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for definition in definitions {
        let Some(keys) = definition["properties"].as_object() else { continue };
        for key in keys.keys() {
            let set =
                [format!("{key}:"), format!("{key} ="), format!(".{key}"), format!("\"{key}\"")];
            if !set.iter().any(|words| text.contains(words)) {
                lacking.push(key.clone());
            }
        }
    }
    assert!(lacking.is_empty(), "no test sets {lacking:?}");
}

/// Whoever adds one of these is told by the compiler or a test what is forgotten.
#[test]
fn nothing_is_left_to_memory_where_a_control_a_key_a_minor_or_a_verb_is_added() {
    let text = std::fs::read_to_string("docs/decisions/adding.md").unwrap();
    let sections: Vec<&str> = text.split("\n\n**").skip(1).collect();
    for title in [
        "A control about a flag or a setting**",
        "A kernel setting**",
        "Another control of the host**",
        "A Kubernetes minor**",
        "An operating system**",
        "A key of the inventory**",
        "A verb**",
    ] {
        let section = sections.iter().find(|s| s.starts_with(title));
        let section = section.unwrap_or_else(|| panic!("no section {title}"));
        assert!(!section.contains("(!)"), "{section}");
    }
}
