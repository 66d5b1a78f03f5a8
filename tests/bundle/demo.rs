//! `make demo` as far as its bundle: the real scripts against hosts of our own. Nodes are played.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::archive::sha256;
use super::create::{KUBELET, PAUSE, Site, site};
use super::server::{self, Proxy, Twist};
use super::{err, kubastion};

/// Stands for kubastion: what it says about bundles is real, and of all else it writes down what was asked.
/// An apply ends with the next code of `applies`.
const PLAYED: &str = r#"#!/bin/sh
[ "$1" = bundle ] && exec "$REAL" "$@"
printf '%s\n' "$*" >>"$HERE/asked"
[ "$1" = apply ] || exit 0
code=$(head -n 1 "$HERE/applies")
sed -i 1d "$HERE/applies"
exit "${code:-0}"
"#;

/// A machine that the demo runs on.
struct Machine {
    site: Site,
    proxy: Proxy,
}

fn machine() -> Option<Machine> {
    if std::env::consts::ARCH != "x86_64" {
        eprintln!(
            "SKIPPED: the hosts of the tests serve amd64, and the demo asks for its own machine's files"
        );
        return None;
    }
    let site = site();
    let proxy = server::proxy(site.server.port);
    let here = site.dir.path();
    fs::write(here.join("ca.pem"), &site.server.ca_pem).unwrap();
    fs::write(here.join("played"), PLAYED).unwrap();
    fs::set_permissions(here.join("played"), fs::Permissions::from_mode(0o755)).unwrap();
    Some(Machine { site, proxy })
}

impl Machine {
    fn path(&self, name: &str) -> PathBuf {
        self.site.dir.path().join(name)
    }

    /// Runs the demo; hosts are reached through `proxy`.
    fn run(&self, bundle: &str, proxy: u16, applies: &str) -> Output {
        let _ = fs::remove_file(self.path("asked"));
        fs::write(self.path("applies"), applies).unwrap();
        Command::new("sh")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/demo.sh"))
            .arg(self.path("played"))
            .arg(self.path("lab"))
            .env("KUBASTION_BUNDLE", bundle)
            .env("HERE", self.site.dir.path())
            .env("REAL", env!("CARGO_BIN_EXE_kubastion"))
            // What a machine behind a proxy has.
            .env("HTTPS_PROXY", format!("http://127.0.0.1:{proxy}"))
            .env("SSL_CERT_FILE", self.path("ca.pem"))
            .env_remove("SSL_CERT_DIR")
            .env_remove("NO_PROXY")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn demo(&self) -> Output {
        // As a shell completes it.
        self.run(self.path("cache/bundle/").to_str().unwrap(), self.proxy.port, "")
    }

    /// What was asked of the nodes, a line each.
    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }

    /// The line that brings the lab up.
    fn lab(&self, workers: usize, bundle: bool) -> String {
        let mut line = format!(
            "lab up --control-planes 3 --workers {workers} --dir {}",
            self.path("lab").display()
        );
        if bundle {
            line.push_str(&format!(" --bundle {}", self.path("cache/bundle").display()));
        }
        line.push('\n');
        line
    }

    fn requests(&self) -> usize {
        self.site.server.world.log.lock().unwrap().len()
    }
}

#[track_caller]
fn ended(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", err(output));
    err(output)
}

/// Port of nobody: what listened there has gone.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn the_demo_makes_its_bundle_once_and_signs_it_with_a_key_of_its_own() {
    let Some(machine) = machine() else { return };
    let said = ended(&machine.demo(), 0);
    assert!(machine.asked().starts_with(&machine.lab(2, true)), "{}", machine.asked());
    assert!(machine.asked().contains("kubeconfig --out admin.conf"), "{}", machine.asked());
    // What is large is said before it is fetched, with its place.
    let (before, _) = said.split_once("kubeadm: fetched").expect(&said);
    assert!(before.contains(" MiB"), "{said}");
    assert!(before.contains(machine.path("cache/bundle").to_str().unwrap()), "{said}");
    assert!(before.contains("kept"), "{said}");
    let key = machine.path("cache/bundle.demo-key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    // Who is trusted is who signed.
    let signers = fs::read_to_string(machine.path("cache/bundle.signers")).unwrap();
    let signer = signers.lines().next().unwrap();
    let good =
        kubastion(&machine.path("cache"), &["bundle", "verify", "bundle", "--signer", signer]);
    assert!(good.status.success(), "{}", err(&good));

    let keep = ["bundle/manifest.json", "bundle.demo-key", "bundle.signers"];
    let kept = || keep.map(|name| sha256(&fs::read(machine.path("cache").join(name)).unwrap()));
    let (before, asked) = (kept(), machine.requests());
    let said = ended(&machine.demo(), 0);
    assert!(machine.asked().contains(&machine.lab(2, true)), "{}", machine.asked());
    assert!(!said.contains("MiB"), "{said}");
    assert_eq!((kept(), machine.requests()), (before, asked));

    // Another bundle, the same key.
    fs::remove_dir_all(machine.path("cache/bundle")).unwrap();
    let [_, key, signers] = kept_after_removal(&machine);
    ended(&machine.demo(), 0);
    assert_eq!(kept()[1..], [key, signers]);
}

fn kept_after_removal(machine: &Machine) -> [String; 3] {
    let read = |name: &str| fs::read(machine.path("cache").join(name)).unwrap_or_default();
    ["bundle/manifest.json", "bundle.demo-key", "bundle.signers"].map(|name| sha256(&read(name)))
}

#[test]
fn a_demo_whose_download_was_cut_off_says_so_and_the_next_one_goes_on() {
    let Some(machine) = machine() else { return };
    let gone = Twist::Status(404, "", String::new());
    machine.site.twist(KUBELET, vec![Twist::CutAfter(100), gone]);
    let said = ended(&machine.demo(), 1);
    assert!(
        said.contains("kubelet cannot be fetched") && said.contains("the next run continues"),
        "{said}"
    );
    assert_eq!(machine.asked(), "", "a demo without its bundle went on");
    ended(&machine.demo(), 0);
    assert!(machine.asked().starts_with(&machine.lab(2, true)), "{}", machine.asked());
    assert_eq!(machine.site.ranges(KUBELET).last().unwrap().as_deref(), Some("bytes=100-"));
    let kubeadm = KUBELET.replace("kubelet", "kubeadm");
    assert_eq!(machine.site.server.world.requests(&kubeadm).len(), 1);
}

#[test]
fn a_demo_that_reaches_no_host_says_so_in_one_line_and_shows_hosts_and_etcd() {
    let Some(machine) = machine() else { return };
    let bundle = machine.path("cache/bundle");
    let begun = Instant::now();
    let said = ended(&machine.run(bundle.to_str().unwrap(), closed_port(), ""), 0);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let about: Vec<&str> = said
        .lines()
        .take_while(|l| !l.contains("kubastion lab up"))
        .filter(|l| !l.is_empty())
        .collect();
    let [line] = about[..] else { panic!("{said}") };
    for text in [
        "dl.k8s.io, github.com and registry.k8s.io cannot be reached",
        "refused",
        "KUBASTION_BUNDLE",
    ] {
        assert!(line.contains(text), "no {text:?} in {line:?}");
    }
    assert!(machine.asked().starts_with(&machine.lab(1, false)), "{}", machine.asked());
    assert!(!machine.asked().contains("kubeconfig"), "{}", machine.asked());
    assert!(!machine.path("cache").exists(), "something was left");
}

#[test]
fn a_demo_whose_files_are_damaged_fails_with_the_reason() {
    let Some(machine) = machine() else { return };
    machine.site.server.world.put(&format!("{KUBELET}.sha256"), "0".repeat(64));
    machine.site.twist(PAUSE, vec![Twist::Status(404, "", String::new())]);
    let said = ended(&machine.demo(), 1);
    for text in ["its SHA-256 is", "pause:3.10.2 cannot be pulled", "KUBASTION_BUNDLE=none"] {
        assert!(said.contains(text), "no {text:?} in\n{said}");
    }
    assert!(!said.contains("cannot be reached"), "{said}");
    assert_eq!(machine.asked(), "");
}

#[test]
fn a_demo_whose_key_is_of_no_use_says_which() {
    let Some(machine) = machine() else { return };
    fs::create_dir(machine.path("cache")).unwrap();
    let key = machine.path("cache/bundle.demo-key");
    fs::write(&key, "half a key").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let said = ended(&machine.demo(), 1);
    assert!(said.contains("bundle.demo-key cannot sign: move it away"), "{said}");
    assert_eq!(machine.site.server.world.requests(KUBELET).len(), 0);
    assert_eq!(machine.asked(), "");
}

#[test]
fn a_demo_can_do_without_a_bundle() {
    let Some(machine) = machine() else { return };
    let said = ended(&machine.run("none", machine.proxy.port, ""), 0);
    assert!(!said.contains("bundle"), "{said}");
    assert!(machine.asked().starts_with(&machine.lab(1, false)), "{}", machine.asked());
    assert_eq!(machine.requests(), 0);
}

/// Packages that a plan installs may bring what makes another plan of it: once, and no longer.
#[test]
fn a_demo_plans_again_once_where_what_packages_changed_needs_it() {
    let Some(machine) = machine() else { return };
    let count = |verb: &str| machine.asked().lines().filter(|l| *l == verb).count();
    let all = |applies: &str, code: i32| {
        let said = ended(&machine.run("none", machine.proxy.port, applies), code);
        (count("plan --out demo.plan"), count("apply demo.plan"), said)
    };
    let (plans, applies, said) = all("4\n", 0);
    assert_eq!((plans, applies), (2, 2), "{said}");
    assert!(said.contains("plan again"), "{said}");
    assert!(machine.asked().contains("verify --summary"), "{}", machine.asked());
    let (plans, applies, said) = all("4\n4\n", 4);
    assert_eq!((plans, applies), (2, 2), "{said}");
    let (plans, applies, said) = all("6\n", 6);
    assert_eq!((plans, applies), (1, 1), "{said}");
    assert!(!machine.asked().contains("verify"), "{}", machine.asked());
}
