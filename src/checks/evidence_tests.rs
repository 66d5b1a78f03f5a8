//! What verdicts are judged from: the tables of sources tell the truth, and nothing holds without an answer.

use proptest::prelude::*;
use time::macros::datetime;

use crate::checks::attempt::{Attempt, Tried, Witness};
use crate::checks::basis::Basis;
use crate::checks::judge::{judge, words};
use crate::checks::model::{Asked, Evidence, Outcome, Verdict};
use crate::checks::node::staged::Staged;
use crate::checks::observed::{Observed, Origin};
use crate::checks::source::{Source, SourceKind, Sources};
use crate::checks::tests::{NOW, attempts, hardened, inventory, judged, rendered};
use crate::controls::{Attack, CATALOGUE, Check};
use crate::digest::Digest;
use crate::facts::answers::Part;

/// Every check that is judged on the node, with its evidence.
fn evidence(seen: &Observed) -> Vec<(&'static Check, Evidence)> {
    let (inventory, _) = hardened();
    let node = &inventory.nodes[0];
    let on = Basis { inventory, software: None, node, seen, now: NOW };
    CATALOGUE
        .iter()
        .filter(|c| c.scope.holds(inventory, node) && c.wanted(inventory))
        .flat_map(|c| c.checks)
        .filter(|c| c.is_for(inventory, node))
        .filter_map(|check| Some((check, judge(check, &on)?)))
        .collect()
}

/// Whether a source is a part of the node's answers.
fn is_of(source: &Source, part: Part) -> bool {
    let command = part.command();
    match part {
        Part::Settings => source.what.starts_with("/proc/sys/") || source.what.starts_with(command),
        // The state of a file is told beside its digest.
        Part::Stat => source.kind == SourceKind::File || source.what.starts_with(command),
        _ => source.what.strip_prefix(command).is_some_and(|r| r.is_empty() || r.starts_with(' ')),
    }
}

/// Takes away what a part of the answer told, or makes it tell the opposite where nothing is good news.
fn blank(part: Part, seen: &mut Observed) {
    let seen_live = seen.live.as_mut().unwrap();
    match part {
        Part::Everything => seen.pending = None,
        Part::Machine => {
            seen.audit_enabled = None;
            seen.cgroup_version = None;
            seen.container = Some("nspawn".to_owned());
        }
        Part::Versions => seen.versions = [("containerd".into(), "containerd 9.9.9".into())].into(),
        Part::Swaps => seen.swaps = None,
        Part::Settings => seen.sysctls.clear(),
        Part::Packages => seen.packages.clear(),
        Part::Units => seen.units.clear(),
        Part::Listeners => seen.listeners = None,
        Part::Sshd => seen.sshd = None,
        Part::SshdMatches => seen.sshd_matches = None,
        Part::Nft => seen.nft = None,
        Part::Processes => seen.processes = None,
        Part::SecurityModules => seen.lsm = None,
        Part::Time => seen.time = None,
        Part::AuditRules => seen.audit_rules = None,
        // As if no directory could be listed to its end.
        Part::Trees => {
            let (inventory, _) = hardened();
            let dirs = crate::checks::watch::of_checks(inventory, &inventory.nodes[0]).trees;
            let unlisted = dirs.into_iter().map(|dir| (dir, Default::default()));
            seen.trees = Some(unlisted.collect());
        }
        Part::Stat => seen.files.clear(),
        Part::LiveProcesses => {
            for process in &mut seen_live.processes {
                process.environment.insert("LD_PRELOAD".to_owned());
                process.mapped.clear();
                if process.comm == "sshd" {
                    process.argv = vec!["sshd: /usr/sbin/sshd -o x=y [listener]".to_owned()];
                }
            }
        }
        Part::FilesInside => {
            // As if something was mounted over what each daemon reads.
            let pids: Vec<u32> = seen_live.processes.iter().map(|p| p.pid).collect();
            let other = || [("/etc/x".to_owned(), "2".repeat(64))].into();
            seen_live.inside = pids.into_iter().map(|pid| (pid, other())).collect();
        }
        Part::LiveSockets => seen_live.sockets = None,
        Part::LiveUnits => seen_live.units.clear(),
        Part::Mounts => seen_live.mounts = None,
        Part::Irregular => seen_live.irregular = None,
        Part::Manager => seen_live.manager = None,
        Part::Owned => seen_live.unowned = None,
        Part::Verified => seen_live.changed_files = None,
        Part::SetId => seen_live.set_id = None,
        Part::Capabilities => seen_live.capable = None,
        Part::Keys => seen_live.readable_keys = None,
        Part::AptSources => {
            let path = "/etc/apt/sources.list".to_owned();
            seen_live.apt_sources = vec![(path, "deb [trusted=yes] http://x y z".to_owned())];
        }
        Part::Paths => {
            for access in seen_live.paths.values_mut() {
                (access.changed_s, access.mode) = (1e12, 0o777);
            }
            seen_live.paths.remove("/");
        }
        Part::LiveTrees => {
            let like = seen_live.paths["/etc/ssh/sshd_config"].clone();
            let changed = crate::facts::live::PathAccess { changed_s: 1e12, mode: 0o666, ..like };
            let of_daemons = crate::controls::daemons::DAEMONS
                .iter()
                .flat_map(|d| d.reads_at_start.iter().chain(d.reads_on_reload));
            let others = [
                "/etc/ssh/sshd_config.d/x",
                "/etc/kubernetes/x.key",
                "/etc/systemd/system.control/etcd.service",
            ];
            for path in of_daemons.chain(&others) {
                seen_live.trees.insert((*path).to_owned(), changed.clone());
            }
            seen_live.trees.insert("/etc/kubernetes/manifests/x.yaml".into(), changed);
        }
        Part::Acls => seen_live.acls = None,
        Part::Interfaces => seen_live.interfaces.clear(),
        Part::Shadows => seen_live.shadows = None,
        Part::Libraries => seen_live.shadowed_libraries = None,
        Part::SysctlFiles => seen_live.sysctl_files.clear(),
        Part::Rules => seen_live.rules = None,
        Part::FileRules => seen_live.file_rules = None,
        Part::ForeignRules => seen_live.foreign_rules = None,
        Part::LegacyRules => seen_live.legacy_rules = Some(Vec::new()),
        Part::Containers => seen_live.other_containers = None,
        Part::Apt => seen_live.apt = None,
        Part::Held => seen_live.held.push("sudo".to_owned()),
        Part::PackageSources => seen_live.sources = None,
        Part::Accounts => seen_live.accounts = None,
        Part::Kubeconfigs => seen_live.kubeconfigs = None,
        Part::Reboot => seen_live.reboot_required = Some(Vec::new()),
    }
}

/// Which checks come to something else: those, and no others, have to name what was taken away.
fn changed(blanked: &Observed) -> Vec<bool> {
    let (_, good) = hardened();
    let before = evidence(good);
    let after = evidence(blanked);
    before.iter().zip(&after).map(|((_, a), (_, b))| a.verdict() != b.verdict()).collect()
}

#[test]
fn a_check_is_judged_from_the_parts_that_its_sources_name_and_no_others() {
    let (_, good) = hardened();
    let before = evidence(good);
    assert!(before.len() > 200, "{}", before.len());
    let mut wrong = Vec::new();
    for (part, ..) in Part::ALL {
        let mut blanked = good.clone();
        blank(*part, &mut blanked);
        let changed = changed(&blanked);
        assert!(changed.contains(&true), "{part:?} is no check's");
        for ((check, evidence), changed) in before.iter().zip(changed) {
            let named = evidence.sources().iter().any(|s| is_of(s, *part));
            if changed && !named {
                wrong.push(format!("{part:?} counts for `{}` and is not named", words(check)));
            } else if named && !changed && *part != Part::Stat {
                wrong.push(format!("{part:?} is named by `{}` and does not count", words(check)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_check_is_judged_from_the_files_that_its_sources_name_and_no_others() {
    let (_, good) = hardened();
    let before = evidence(good);
    let mut wrong = Vec::new();
    let there = good.texts.iter().filter(|(path, _)| good.exists(path));
    for (path, text) in there {
        let Some(_) = text else { continue };
        let mut blanked = good.clone();
        blanked.texts.insert(path.clone(), None);
        let staged = |seen: &Observed| {
            let texts = seen.texts.iter();
            Staged::from_texts(texts.filter_map(|(p, t)| Some((p.as_str(), t.as_deref()?))))
        };
        if staged(&blanked) != staged(good) {
            blanked.staged = staged(&blanked);
        }
        for ((check, evidence), changed) in before.iter().zip(changed(&blanked)) {
            let named = evidence.sources().iter().any(|s| s.what == path.as_str());
            if changed && !named {
                wrong.push(format!("{path} counts for `{}` and is not named", words(check)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_holds_without_an_answer() {
    let (inventory, good) = hardened();
    let before = evidence(good);
    let mut broken = 0;
    for (part, ..) in Part::ALL {
        let mut seen = good.clone();
        seen.answers.forget(*part);
        seen.live.as_mut().unwrap().answers.forget(*part);
        for ((check, held), (_, now)) in before.iter().zip(evidence(&seen)) {
            // Several parts may come in one section. Each setting has a digest of its own.
            let is_gone = |row: Part| match row {
                Part::Settings => *part == Part::Settings,
                row => seen.digest(row).is_none(),
            };
            let rests = Part::ALL.iter().filter(|row| is_gone(row.0)).any(|(row, ..)| {
                let by_stat = |s: &Source| *row == Part::Stat && s.kind == SourceKind::File;
                held.sources().iter().any(|s| is_of(s, *row) && !by_stat(s))
            });
            let outcome = held.verdict().outcome();
            if rests && outcome == Outcome::Pass && *part != Part::Mounts {
                broken += 1;
                let Verdict::Unknown { why } = now.verdict() else {
                    panic!("{part:?} {}: {:?}", words(check), now.verdict())
                };
                assert!(why.starts_with("evidence is missing"), "{why}");
            } else if !rests {
                assert_eq!(now.verdict().outcome(), outcome, "{part:?} {}", words(check));
            }
        }
    }
    assert!(broken > 150, "{broken}");
    // Without any answer nothing of the node itself holds.
    let mut seen = good.clone();
    seen.answers = Default::default();
    seen.live.as_mut().unwrap().answers = Default::default();
    seen.lists = Default::default();
    for (path, file) in &mut seen.files {
        if let crate::facts::FileFacts::File { sha256, .. } = file {
            // What is no digest is none.
            *sha256 = format!("of {path}");
        }
    }
    for finding in judged(inventory, "a", &seen, &attempts()) {
        for e in &finding.evidence {
            let by_attempt = e.sources().iter().all(|s| s.kind == SourceKind::Attempt);
            let holds = e.verdict().outcome() == Outcome::Pass;
            assert!(!holds || by_attempt, "{}: {e:?}", finding.control);
        }
    }
}

#[test]
fn what_is_rendered_says_so_and_a_node_never_does() {
    let is_rendered = |s: &Source| s.kind == SourceKind::Rendered;
    let sources = |seen: &Observed| -> Vec<Source> {
        let all = evidence(seen).into_iter();
        all.flat_map(|(_, e)| e.sources().iter().cloned().collect::<Vec<_>>()).collect()
    };
    let rendered = rendered(&inventory(&|t| t.to_owned()), "a");
    assert_eq!(rendered.origin, Origin::Rendered);
    let all = sources(&rendered);
    let people = |s: &Source| s.kind == SourceKind::People;
    assert!(all.iter().all(|s| is_rendered(s) || people(s)), "{all:?}");
    let (_, good) = hardened();
    let all = sources(good);
    assert!(!all.iter().any(is_rendered));
    // Each says which machine it was, and when.
    for source in all.iter().filter(|s| s.sha256.is_some() && s.kind != SourceKind::Request) {
        assert!(source.machine.is_some() && source.read.is_some(), "{source:?}");
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::pass("seen")),
        Just(Verdict::fail("this", "that")),
        Just(Verdict::not_applicable("nothing here")),
        Just(Verdict::unknown("no answer")),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    let kinds = [
        SourceKind::File,
        SourceKind::Command,
        SourceKind::Request,
        SourceKind::Attempt,
        SourceKind::Rendered,
        SourceKind::People,
    ];
    (prop::sample::select(kinds.to_vec()), any::<bool>(), any::<bool>()).prop_map(
        |(kind, answered, dated)| Source {
            sha256: answered.then(|| Digest::of("answer")),
            read: dated.then_some(datetime!(2026-02-01 12:00 UTC)),
            ..Source::without_answer(kind, "w")
        },
    )
}

proptest! {
    #[test]
    fn no_pass_has_a_source_without_a_digest(
        given in verdict(),
        staged in prop::option::of(verdict()),
        sources in prop::collection::vec(source(), 1..5),
    ) {
        let asked = Asked { what: "w".into(), check: "w".into(), expected: "e".into() };
        let all = Sources::of(sources.clone()).unwrap();
        let evidence = Evidence::new(asked, given.clone(), all).with_staged(staged.clone());
        let proven = sources.iter().all(|s| s.sha256.is_some() || s.kind == SourceKind::Rendered);
        let wanted = |given: Verdict| match given.outcome() {
            Outcome::Pass if !proven => Outcome::Unknown,
            other => other,
        };
        prop_assert_eq!(evidence.verdict().outcome(), wanted(given));
        prop_assert_eq!(evidence.staged().map(Verdict::outcome), staged.map(wanted));
    }

    #[test]
    fn no_attempt_holds_without_an_answer(given in verdict(), answered: bool) {
        let tried = Tried {
            target: "a".parse().unwrap(),
            attack: Attack::DefaultDrop,
            from: "operator".into(),
            what: "w".into(),
        };
        let answer = answered.then(|| Digest::of("answer"));
        let attempt = Attempt::new(tried, given.clone(), answer, Witness::default());
        let wanted = match given.outcome() {
            Outcome::Pass if !answered => Outcome::Unknown,
            other => other,
        };
        prop_assert_eq!(attempt.verdict().outcome(), wanted);
    }
}

/// What a check reads and nobody asked a node for would be unknown there, and only there.
#[test]
fn what_checks_read_is_asked_for() {
    let (inventory, good) = hardened();
    let watch = crate::checks::watch::of_checks(inventory, &inventory.nodes[0]);
    let before = evidence(good);
    let differ = |watch: &crate::facts::WatchList| -> Vec<String> {
        let after = evidence(&as_asked(good, watch));
        let all = before.iter().zip(&after).filter(|((_, a), (_, b))| a.verdict() != b.verdict());
        all.map(|((check, _), (_, b))| format!("{}: {:?}", words(check), b.verdict())).collect()
    };
    assert_eq!(differ(&watch), [""; 0]);
    // The test sees what is not asked for.
    let mut less = watch.clone();
    less.extras.clear();
    assert!(differ(&less).len() >= 3);
    assert!(!differ(&Default::default()).is_empty());
}

/// What a node would have answered to a watch list.
fn as_asked(good: &Observed, watch: &crate::facts::WatchList) -> Observed {
    use crate::facts::Extra;
    let mut seen = good.clone();
    seen.files.retain(|path, _| watch.files.contains(path));
    seen.texts.retain(|path, _| watch.texts.contains(path));
    seen.units.retain(|unit, _| watch.units.contains(unit));
    seen.packages.retain(|name, _| watch.packages.contains(name));
    seen.sysctls.retain(|key, _| {
        watch
            .sysctls
            .iter()
            .any(|k| k == key || crate::controls::of_interfaces(k).is_some_and(|i| i == *key))
    });
    seen.trees.as_mut().unwrap().retain(|dir, _| watch.trees.contains(dir));
    let texts = seen.texts.iter();
    seen.staged = Staged::from_texts(texts.filter_map(|(p, t)| Some((p.as_str(), t.as_deref()?))));
    let asked = |extra| watch.extras.contains(&extra);
    seen.lsm = seen.lsm.filter(|_| asked(Extra::Lsm));
    seen.time = seen.time.filter(|_| asked(Extra::Time));
    seen.audit_rules = seen.audit_rules.filter(|_| asked(Extra::Audit));
    seen.sshd_matches = seen.sshd_matches.filter(|_| asked(Extra::SshdMatches));
    seen
}
