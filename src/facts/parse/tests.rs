//! Answers of the real program on this machine, and answers that are cut off or mangled.

use super::*;
use crate::digest::Digest;
use crate::facts::answers::{Answers, Part};

mod secrets;

/// Begins the sections of these answers.
const WORD: &str = "w0rd";

fn watch(items: &[(&str, &str)]) -> WatchList {
    let mut w = WatchList::default();
    for (kind, item) in items {
        match *kind {
            "F" => w.files.insert((*item).to_owned()),
            "U" => w.units.insert((*item).to_owned()),
            "S" => w.sysctls.insert((*item).to_owned()),
            _ => w.packages.insert((*item).to_owned()),
        };
    }
    w
}

fn this_machine(w: &WatchList) -> Vec<u8> {
    use std::io::Write;
    let mut child = std::process::Command::new("sh")
        .args(["-c", super::super::SCRIPT])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(super::super::batch::request_lines(w, WORD).as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().stdout
}

fn name() -> NodeName {
    "n1".parse().unwrap()
}

#[test]
fn the_real_program_on_this_machine_parses() {
    let w = watch(&[
        ("F", "/etc/passwd"),
        ("F", "/etc"),
        ("F", "/no/such"),
        ("F", "/proc/self"),
        ("F", "/dev/null"),
        ("S", "net.ipv4.ip_forward"),
    ]);
    let f = facts(&name(), &w, WORD, &this_machine(&w)).unwrap();
    assert!(matches!(f.files["/etc/passwd"], FileFacts::File { mode: 0o644, .. }));
    assert!(matches!(f.files["/etc"], FileFacts::Directory { mode: 0o755, .. }));
    assert_eq!(f.files["/no/such"], FileFacts::Absent);
    assert!(matches!(f.files["/proc/self"], FileFacts::Symlink { .. }));
    assert!(matches!(f.files["/dev/null"], FileFacts::Other { .. }));
    assert!(["0", "1"].contains(&f.sysctls["net.ipv4.ip_forward"].as_str()));
    assert!(f.memory_bytes > 0 && f.cpus > 0 && f.var_free_bytes > 0 && !f.os.id.is_empty());
    assert!(f.disks["/var/lib"].free_bytes > 0);
}

/// What the program says and nobody asks for would be empty where it is not said.
#[test]
fn every_section_of_the_program_is_asked_for() {
    let said = super::super::SCRIPT.lines().filter_map(|l| l.trim().strip_prefix("section "));
    let said: Vec<&str> = said.filter(|s| !OF_FILES.contains(s)).collect();
    assert_eq!(said, SECTIONS);
}

#[test]
fn every_kind_of_thing_that_is_watched_has_a_branch_in_the_program() {
    let one = || std::collections::BTreeSet::from(["a".to_owned()]);
    let w = WatchList {
        files: one(),
        programs: one(),
        images: one(),
        units: one(),
        sysctls: one(),
        modules: one(),
        packages: one(),
        users: one(),
        texts: one(),
        shown: one(),
        trees: one(),
        sshd: one(),
        extras: [Extra::Lsm].into(),
    };
    let lines = super::super::batch::request_lines(&w, WORD);
    let letters: BTreeSet<&str> =
        lines.lines().skip(1).filter_map(|l| Some(l.split_once(' ')?.0)).collect();
    assert_eq!(letters.len(), 14, "{letters:?}");
    for letter in letters {
        assert!(super::super::SCRIPT.contains(&format!("    '{letter} '*) ")), "{letter}");
    }
}

#[test]
fn disks_are_told_apart_by_their_id() {
    let lines = ["/var/lib 1f 10 4096", "/var/lib/a b 2c 0 4096"];
    let found = disks(&lines).unwrap();
    assert_eq!(found["/var/lib"], Disk { id: "1f".into(), free_bytes: 40960 });
    assert_eq!(found["/var/lib/a b"].free_bytes, 0);
    for bad in ["/var/lib 1f 10", "/var/lib 1f many 4096", ""] {
        assert!(disks(&[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn addresses_have_their_interface_and_length() {
    let lines = [
        "2: eth0    inet 192.0.2.11/24 brd 192.0.2.255 scope global eth0\\       valid_lft forever",
        "3: veth1@if5    inet6 fd00::1/64 scope global",
        "4: ppp0    inet 10.0.0.1 peer 10.0.0.2/32 scope global ppp0",
        "5: odd    inet nonsense",
        "6: short",
    ];
    let found: Vec<String> =
        addresses(&lines).iter().map(|a| format!("{} {}", a.interface, a.network)).collect();
    assert_eq!(found, ["eth0 192.0.2.11/24", "veth1 fd00::1/64"]);
}

#[test]
fn who_gets_in_is_told_whole_or_not_at_all() {
    let found = logins(&["a\t::1\t", "b\t192.0.2.1\tno enabled method", "ok"]).unwrap();
    let lost: Vec<_> = found.iter().map(|l| (l.name.as_str(), l.lost.clone())).collect();
    let method = LostLogin::Method("no enabled method".into());
    assert_eq!(lost, [("a", None), ("b", Some(method))]);
    assert_eq!(logins(&["ok"]), Some(Vec::new()));
    for partial in [&["a\t::1\t"][..], &["a", "ok"], &[]] {
        assert_eq!(logins(partial), None, "{partial:?}");
    }
}

/// OpenSSH 10.4 and later print keys as the manual writes them; these lines are of 10.5, built from its source.
#[test]
fn what_sshd_says_in_mixed_case_is_the_same() {
    let mixed = [
        "Port 22",
        "Port 2222",
        "PasswordAuthentication no",
        "ListenAddress [::]:2222",
        "PermitRootLogin prohibit-password",
        "KbdInteractiveAuthentication yes",
        "AuthenticationMethods any",
        "MaxStartups 10:30:100",
        "KexAlgorithms curve25519-sha256",
        "IPQoS ef cs0",
        "ok",
    ];
    let lower = mixed.map(|line| {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        format!("{} {value}", key.to_lowercase()).trim().to_owned()
    });
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let found = sshd(&mixed);
    assert_eq!(found, sshd(&lower));
    // Both ports: a firewall that knows one alone locks out who comes by the other.
    assert_eq!(found["port"], ["22", "2222"]);
    assert_eq!(found["passwordauthentication"], ["no"]);
}

#[test]
fn interfaces_that_go_by_routers_are_known_beside_their_addresses() {
    let lines =
        ["2: eth0    inet 192.0.2.11/24 scope global eth0", "ra eth0 1", "ra eth1 2", "ra x y"];
    assert_eq!(addresses(&lines).len(), 1);
    let found = advertised(&lines);
    assert_eq!(found, [("eth0".to_owned(), 1), ("eth1".to_owned(), 2)].into());
}

#[test]
fn tables_of_others_that_drop_are_known() {
    let found =
        nft(&["usable", "table ip filter", "table inet kubastion", "drops input ip filter"]);
    assert_eq!(found.foreign_drops, [("input".to_owned(), "ip filter".to_owned())].into());
    assert_eq!(found.foreign_tables, ["ip filter"]);
}

#[test]
fn settings_below_match_lines_are_known_or_nothing_is() {
    let line = "/etc/ssh/sshd_config\tpasswordauthentication\tyes";
    let found = sshd_matches(&[line, "ok"]).unwrap();
    assert_eq!(found[0].file, "/etc/ssh/sshd_config");
    assert_eq!((found[0].key.as_str(), found[0].value.as_str()), ("passwordauthentication", "yes"));
    assert_eq!(sshd_matches(&["ok"]), Some(Vec::new()));
    for cut in [&[][..], &[line], &["nonsense", "ok"]] {
        assert_eq!(sshd_matches(cut), None);
    }
}

#[test]
fn every_process_of_a_watched_name_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("kubelet");
    // A link: a copy that was just written may not be run yet (ETXTBSY) where another test starts a program just then.
    std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
    let mut running: Vec<_> =
        (0..2).map(|_| std::process::Command::new(&program).arg("600").spawn().unwrap()).collect();
    let f = facts(&name(), &WatchList::default(), WORD, &this_machine(&WatchList::default()));
    for child in &mut running {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let found = &f.unwrap().processes["kubelet"];
    for child in &running {
        let one = found.iter().find(|p| p.pid == child.id()).unwrap();
        assert_eq!(one.argv, [program.to_str().unwrap(), "600"]);
    }
}

#[test]
fn each_part_of_an_answer_has_the_digest_of_its_bytes() {
    let keys = [("S", "kernel.panic"), ("S", "no.such.key"), ("S", "net.ipv4.conf.*.rp_filter")];
    let w =
        watch(&[&keys[..], &[("F", "/etc/passwd"), ("S", "net.ipv4.conf.lo.rp_filter")]].concat());
    let whole = this_machine(&w);
    let answers = facts(&name(), &w, WORD, &whole).unwrap().answers;
    assert_eq!(answers.of(Part::Everything), Some(Digest::of(&whole)));
    let text = String::from_utf8(whole.clone()).unwrap();
    let of = |section: &str| Some(Digest::of(section_of(&text, section)));
    for (part, section) in
        [(Part::Processes, "processes"), (Part::Stat, "stat"), (Part::Packages, "packages")]
    {
        assert_eq!(answers.of(part), of(section), "{section}");
    }
    // As sha256sum prints it of the file.
    for key in ["kernel.panic", "net.ipv4.conf.lo.rp_filter"] {
        let held = std::fs::read(format!("/proc/sys/{}", key.replace('.', "/"))).unwrap();
        assert_eq!(answers.setting(key), Some(Digest::of(held)), "{key}");
    }
    assert_eq!(answers.setting("no.such.key"), None);
    // An empty section of what always says something is no answer; a list may be empty.
    let silent = text.replacen(
        &format!("@{WORD} listeners\n{}", section_of(&text, "listeners")),
        &format!("@{WORD} listeners\n"),
        1,
    );
    let answers = facts(&name(), &w, WORD, silent.as_bytes()).unwrap().answers;
    assert_eq!(answers.of(Part::Listeners), None);
    assert!(answers.of(Part::Swaps).is_some());
    assert_eq!(answers.read, None, "who asked knows when");
}

fn section_of<'t>(text: &'t str, section: &str) -> &'t str {
    let (_, rest) = text.split_once(&format!("@{WORD} {section}\n")).unwrap();
    rest.split(&format!("@{WORD} ")).next().unwrap()
}

#[test]
fn an_answer_cut_off_anywhere_is_an_error() {
    let w = watch(&[("F", "/etc/passwd"), ("F", "/etc/group")]);
    let whole = this_machine(&w);
    assert!(facts(&name(), &w, WORD, &whole).is_ok());
    for cut in (0..whole.len() - 5).step_by(7) {
        assert!(facts(&name(), &w, WORD, &whole[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn processors_are_those_that_are_allowed_and_online() {
    let count = |allowed: &str, online: &str| {
        cpus(&["Name:\tgrep", &format!("Cpus_allowed_list:\t{allowed}")], &[online]).ok()
    };
    for (allowed, online, wanted) in [
        ("0", "0-3", 1),
        ("0-3", "0-3", 4),
        ("0-3,6", "0-7", 5),
        ("5,7-8", "0-7", 2),
        // Slots for more, and one that is there.
        ("0-127", "0", 1),
    ] {
        assert_eq!(count(allowed, online), Some(wanted), "{allowed} {online}");
    }
    let most = format!("0-{}", u32::MAX);
    assert_eq!(count(&most, &most), Some(1 << 32));
    for odd in ["", "x", "3-0", "1-", "-1", "1,,2", "0-18446744073709551615"] {
        assert_eq!((count(odd, "0-3"), count("1-2", odd)), (None, Some(2)), "{odd}");
    }
    assert_eq!(count("4-7", "0-1"), Some(4));
    assert_eq!(cpus(&["Cpus_allowed_list:\t0"], &[]).ok(), Some(1));
    assert!(cpus(&[], &["0"]).is_err());
}

/// Kernels before 6.1 do not say their architecture, and os-release(5) names a second place.
#[test]
fn a_small_file_speaks_for_itself_alone_and_what_is_elsewhere_is_found_there() {
    let w = WatchList::default();
    let text = String::from_utf8(this_machine(&w)).unwrap();
    let plain = facts(&name(), &w, WORD, text.as_bytes()).unwrap();
    let older: String = text
        .lines()
        .filter(|l| !l.starts_with("arch=") && !l.starts_with("/proc/sys/kernel/arch:"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert!(facts(&name(), &w, WORD, older.as_bytes()).is_err(), "no architecture");
    let hostile = [
        "@w0rd read",
        "/etc/passwd:/usr/lib/os-release:ID=posed",
        "/etc/passwd:@sshd",
        "/etc/passwd:/proc/sys/kernel/hostname:posed",
        "/etc/passwd:@node",
        "/etc/passwd:arch=posed\n",
    ]
    .join("\n");
    let older = older
        .replacen("@w0rd node\n", "@w0rd node\narch=riscv64\n", 1)
        .replace("\n/etc/os-release:", "\n/usr/lib/os-release:")
        .replacen("@w0rd read\n", &hostile, 1);
    let found = facts(&name(), &w, WORD, older.as_bytes()).unwrap();
    assert_ne!(found.answers, plain.answers, "it is another answer");
    assert_eq!(
        NodeFacts { answers: Answers::default(), ..found },
        NodeFacts { arch: "riscv64".into(), answers: Answers::default(), ..plain }
    );
}

/// Whatever a program says instead of its answer: an error, or an answer to nothing but what was asked of it.
#[test]
fn no_program_of_a_node_speaks_for_another() {
    use std::io::Write as _;
    let w = watch(&[
        ("F", "/etc/passwd"),
        ("F", "/no/such"),
        ("U", "a.service"),
        ("S", "net.ipv4.ip_forward"),
        ("P", "dpkg"),
    ]);
    let w = WatchList { extras: [Extra::Time, Extra::Audit].into(), ..w };
    let told = |programs: &str| {
        let script =
            super::super::SCRIPT.replacen("have() {", &format!("{programs}\nhave() {{"), 1);
        assert!(script.contains(programs));
        let mut child = std::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(super::super::batch::request_lines(&w, WORD).as_bytes()).unwrap();
        drop(stdin);
        facts(&name(), &w, WORD, &child.wait_with_output().unwrap().stdout)
    };
    let honest = told("").unwrap();
    let texts = [
        "@stat\\n81a4 root root 5 /no/such\\n",
        "@other stat\\n81a4 root root 5 /no/such\\n@other end\\n",
        "/proc/sys/net/ipv4/ip_forward:7\\n/etc/passwd:root:x:1:1\\n",
        "arch=posed\\nok\\n",
        "file a.service masked\\nok\\n",
        "\\\\n@stat\\\\c\\n",
    ];
    let programs = [
        "ss",
        "ip",
        "sshd",
        "nft",
        "systemctl",
        "auditctl",
        "chronyc",
        "timedatectl",
        "apt-config",
        "dpkg-query",
        "uname",
    ];
    for program in programs {
        for text in texts {
            // A name with a dash is no function's.
            let function = program.replace('-', "_");
            let alias = if function == program {
                String::new()
            } else {
                format!("alias {program}={function}\n")
            };
            let Ok(posed) = told(&format!("{alias}{function}() {{ printf '{text}'; }}")) else {
                continue;
            };
            assert_eq!(posed.files, honest.files, "{program}: {text}");
            assert_eq!(
                (&posed.sysctls, &posed.arch),
                (&honest.sysctls, &honest.arch),
                "{program}: {text}"
            );
            assert_eq!((&posed.hostname, &posed.boot_id), (&honest.hostname, &honest.boot_id));
            if program != "systemctl" {
                assert_eq!(posed.units, honest.units, "{program}: {text}");
            }
        }
    }
}

/// The states of unit files in a directory in the place of the machine's.
fn states_of_unit_files(root: &std::path::Path, units: &[&str]) -> BTreeMap<String, String> {
    use std::io::Write as _;
    let wanted: Vec<(&str, &str)> = units.iter().map(|u| ("U", *u)).collect();
    let w = watch(&wanted);
    let mut script = super::super::SCRIPT.to_owned();
    for dir in ["/etc/systemd", "/run/systemd", "/usr/lib/systemd", "/usr/local/lib/systemd"] {
        script = script.replace(&format!(" {dir}/"), &format!(" {}{dir}/", root.display()));
    }
    script = script
        .replace("/etc/systemd/system/$t", &format!("{}/etc/systemd/system/$t", root.display()));
    script = script
        .replace("/run/systemd/system/$t", &format!("{}/run/systemd/system/$t", root.display()));
    let script = script.replacen("have() {", "systemctl() { :; }\nhave() {", 1);
    let mut child = std::process::Command::new("timeout")
        .args(["30", "sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(super::super::batch::request_lines(&w, WORD).as_bytes()).unwrap();
    drop(stdin);
    let found = facts(&name(), &w, WORD, &child.wait_with_output().unwrap().stdout).unwrap();
    found.units.into_iter().map(|(name, unit)| (name, unit.file)).collect()
}

/// Writes a file below a directory, and the directories above it.
fn put(root: &std::path::Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn link_to(root: &std::path::Path, path: &str, target: impl AsRef<std::path::Path>) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(target, path).unwrap();
}

/// systemd.unit(5), "Unit File Load Path".
#[test]
fn a_unit_is_masked_in_every_directory_that_comes_first() {
    for dir in [
        "etc/systemd/system.control",
        "run/systemd/system.control",
        "run/systemd/transient",
        "run/systemd/generator.early",
    ] {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "etc/systemd/system/a.service", "[Install]\nWantedBy=x.target\n");
        let unit = root.path().join("etc/systemd/system/a.service");
        link_to(root.path(), "etc/systemd/system/x.target.wants/a.service", unit);
        link_to(root.path(), &format!("{dir}/a.service"), "/dev/null");
        let states = states_of_unit_files(root.path(), &["a.service"]);
        assert_eq!(states["a.service"], "masked", "{dir}");
    }
}

#[test]
fn a_unit_is_enabled_where_its_own_file_says() {
    let state = |unit: &str, install: &str, links: &[&str]| -> String {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), &format!("usr/lib/systemd/system/{unit}"), install);
        for link in links {
            let (link, dead) = link.strip_prefix('!').map_or((*link, false), |l| (l, true));
            let file = root.path().join("usr/lib/systemd/system").join(unit);
            let to = if dead { "/dev/null".into() } else { file };
            link_to(root.path(), &format!("{link}/{unit}"), to);
        }
        states_of_unit_files(root.path(), &[unit])[unit].clone()
    };
    let (etc, run) = ("etc/systemd/system", "run/systemd/system");
    let of = |dir: &str, sub: &str| format!("{dir}/{sub}");
    let two = "[Install]\nWantedBy=sysinit.target nftables.service\n";
    let (first, second) = (of(etc, "sysinit.target.wants"), of(etc, "nftables.service.wants"));
    let elsewhere = of(etc, "dead.target.wants");
    // Ours: wherever it says.
    assert_eq!(state("kubastion-x.service", two, &[&first, &second]), "enabled");
    assert_eq!(state("kubastion-x.service", two, &[&elsewhere, &second]), "disabled");
    assert_eq!(state("kubastion-x.service", two, &[&first]), "disabled");
    // Others': somewhere that it says.
    assert_eq!(state("a.service", two, &[&first]), "enabled");
    assert_eq!(state("a.service", two, &[&elsewhere]), "disabled");
    assert_eq!(state("a.service", two, &[&format!("!{first}")]), "disabled");
    assert_eq!(state("a.service", two, &[]), "disabled");
    assert_eq!(state("a.service", two, &[&of(run, "sysinit.target.wants")]), "enabled-runtime");
    let lines = "[Install]\nWantedBy =a.target\nWantedBy=b.target\nAlias=c.service\n";
    assert_eq!(state("a.service", lines, &[&of(etc, "b.target.wants")]), "enabled");
    let required = "[Install]\nRequiredBy=a.target\n";
    assert_eq!(state("a.service", required, &[&of(etc, "a.target.requires")]), "enabled");
    assert_eq!(state("a.service", required, &[&of(etc, "b.target.requires")]), "disabled");
    assert_eq!(state("a.service", "[Unit]\n", &[&first]), "static");
}

/// A transient unit may be described in several lines.
#[test]
fn a_unit_that_is_answered_for_twice_is_an_error() {
    let w = watch(&[("U", "a.service")]);
    let good = "a.service loaded failed failed A";
    assert_eq!(units(&w, &[good, "ok"]).unwrap()["a.service"].active, "failed");
    for forged in
        ["a.service loaded active running A", "x a.service loaded active running", "described"]
    {
        assert!(units(&w, &[good, forged, "ok"]).is_err(), "{forged}");
    }
}

#[test]
fn a_section_that_nobody_asked_for_is_an_error() {
    let w = watch(&[("F", "/etc/passwd")]);
    let text = String::from_utf8(this_machine(&w)).unwrap();
    let wrong = |text: String| facts(&name(), &w, WORD, text.as_bytes()).unwrap_err();
    for forged in ["@w0rd extra\n", "@w0rd node\n", "@w0rd end\n@w0rd stat\n"] {
        wrong(text.replacen("@w0rd stat\n", &format!("{forged}@w0rd stat\n"), 1));
    }
    assert!(matches!(wrong(format!("before\n{text}")), ParseError::Unasked(_)));
    // A second answer for a path, and one that knows another word.
    wrong(text.replacen("@w0rd links\n", "81a4 root root 5 /etc/passwd\n@w0rd links\n", 1));
    let sums =
        text.replacen("@w0rd end\n", &format!("{}  /etc/passwd\n@w0rd end\n", "0".repeat(64)), 1);
    wrong(sums);
    assert!(facts(&name(), &w, "other", text.as_bytes()).is_err());
}

#[test]
fn a_path_that_cannot_be_read_is_not_absent() {
    let w = watch(&[("F", "/a"), ("F", "/b")]);
    let answer = |said: &str| {
        let text = String::from_utf8(this_machine(&WatchList::default())).unwrap();
        text.replace(
            "@w0rd stat\n",
            &format!(
                "@w0rd stat\nstat: cannot statx '/a': No such file or directory\n{said}@w0rd links\n@w0rd sha256\n"
            ),
        )
    };
    let io = answer("stat: cannot statx '/b': Input/output error\n");
    let e = facts(&name(), &w, WORD, io.as_bytes()).unwrap_err();
    assert!(e.to_string().contains("/b") && e.to_string().contains("Input/output"), "{e}");
    let unread = answer("81a4 root root 5 /b\n");
    assert!(matches!(facts(&name(), &w, WORD, unread.as_bytes()), Err(ParseError::Path { .. })));
    let silent = answer("");
    assert!(matches!(facts(&name(), &w, WORD, silent.as_bytes()), Err(ParseError::Path { .. })));
}

/// Text that looks like what the program says itself.
const FORGED: &[&str] = &[
    "\n=d 700 root root 9 /etc/shadow",
    "\n@w0rd end",
    "\n@stat",
    "\\n@w0rd end\\c",
    "x\n=status 0",
    "\n/etc/passwd\t/elsewhere",
    "\t|* ?[a-z]$(reboot)`x`\u{1b}[2J",
    "-delete",
];

fn hostile_bytes() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let any = proptest::collection::vec((1u8..=255).prop_filter("no name", |b| *b != b'/'), 1..40);
    let forged = (0..FORGED.len(), any.clone()).prop_map(|(i, mut b)| {
        b.extend(FORGED[i].bytes().map(|c| if c == b'/' { b'|' } else { c }));
        b
    });
    prop_oneof![any, forged].prop_filter("no name", |b| b != b"." && b != b"..")
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// Names, targets of links and texts of the node's file system, by the real program.
    #[test]
    fn what_a_file_system_holds_is_told_and_forges_nothing(
        names in proptest::collection::btree_set(hostile_bytes(), 1..5),
        target in hostile_bytes(),
        text in hostile_bytes(),
    ) {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(path("tree")).unwrap();
        for name in &names {
            std::fs::write(dir.path().join("tree").join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
        }
        // With slashes, as targets have them.
        let forged = [&target[..], FORGED[target.len() % FORGED.len()].as_bytes()].concat();
        std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&forged), path("link")).unwrap();
        std::fs::write(path("text"), [b"first\n", &text[..]].concat()).unwrap();
        let mut w = WatchList::default();
        w.trees.insert(path("tree"));
        w.files.extend([path("link"), path("text"), path("none"), "/etc/passwd".to_owned()]);
        w.texts.insert(path("text"));
        let f = facts(&name(), &w, WORD, &this_machine(&w)).unwrap();
        let tree = &f.trees[&path("tree")];
        // Of two names that are told in the same way, it is known that something is not told.
        proptest::prop_assert!(!tree.complete || tree.entries.len() == names.len() + 1, "{tree:?}");
        proptest::prop_assert!(tree.entries.keys().all(|p| p.starts_with(&path("tree"))));
        let FileFacts::Symlink { target: leads } = &f.files[&path("link")] else { panic!("a link") };
        proptest::prop_assert!(!leads.contains('\n') && !leads.is_empty());
        proptest::prop_assert_eq!(&f.files[&path("none")], &FileFacts::Absent);
        let regular = matches!(f.files["/etc/passwd"], FileFacts::File { .. });
        proptest::prop_assert!(regular);
        let told = f.texts[&path("text")].as_deref().unwrap();
        proptest::prop_assert!(told.starts_with("first\n"));
        let mut words = tree.entries.keys().map(String::as_str).chain([told, leads]);
        let is_terminal_control = words.any(|w| w.chars().any(crate::plain::is_terminal_control));
        proptest::prop_assert!(!is_terminal_control);
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
        let _ = facts(&name(), &watch(&[("F", "/a"), ("U", "x.service")]), WORD, &bytes);
    }

    #[test]
    fn no_mangled_answer_panics(at in 0usize..4000, byte in proptest::num::u8::ANY) {
        let w = watch(&[("F", "/etc/passwd")]);
        let mut answer = this_machine(&w);
        let at = at % answer.len();
        answer[at] = byte;
        let _ = facts(&name(), &w, WORD, &answer);
    }
}

/// `Match` blocks of files that an `Include` names in a way that is not taken apart are not known to be missing.
#[test]
fn an_include_that_is_not_followed_leaves_matches_unknown() {
    let script = include_str!("../collect.sh");
    let (_, rest) = script.split_once("section matches\n").unwrap();
    let (section, _) = rest.split_once("# Who gets in").unwrap();
    let said = |line: &str| {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display().to_string();
        std::fs::create_dir(dir.path().join("a b")).unwrap();
        let hidden = "Match User eve\nPasswordAuthentication yes\n";
        for name in ["a b/x.conf", "y.conf"] {
            std::fs::write(dir.path().join(name), hidden).unwrap();
        }
        std::fs::write(dir.path().join("sshd_config"), line.replace("DIR", &at)).unwrap();
        let head = "set -uf\nnl='\n'\nsshd_asked=yes extras=' matches'\nhave() { true; }\nprint() { printf '%s\\n' \"$1\"; }\n";
        let program = format!("{head}{}", section.replace("/etc/ssh", &at));
        let output = std::process::Command::new("sh").args(["-c", &program]).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let found = sshd_matches(&lines.lines().collect::<Vec<_>>());
        found.map(|found| found.len())
    };
    assert_eq!(said("Include DIR/y.conf\n"), Some(1));
    assert_eq!(said("Include \"DIR/y.conf\" DIR/none*.conf # Bob's\n"), Some(1));
    assert_eq!(said("Include \"DIR/*.conf\" \"DIR/y.conf\"\n"), Some(1));
    for hides in [
        "Include \"DIR/a b/x.conf\"\n",
        "Include 'DIR/a b/x.conf'\n",
        "Include DIR/a\\ b/x.conf\n",
        "Include DIR/y.conf \"DIR/a b/*.conf\"\n",
        "include=\"DIR/a #b/x.conf\"\n",
        "Include \"DIR/y.conf\n",
        "Include DIR\n",
        "Include DIR/none.conf\n",
    ] {
        assert_eq!(said(hides), None, "{hides}");
    }
}
