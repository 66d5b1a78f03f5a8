//! `kubernetes.source: packages`: a repository is used only if the pinned key has signed it.

use crate::support::skip::skipped;
use std::path::Path;
use std::process::{Command, Stdio};

use kubastion::lab::{Lab, Spec, preflight, quiet};

fn sh(dir: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

/// A repository of packages that hold one program each, which says who it is and fails.
fn repository(dir: &Path) {
    sh(
        dir,
        "mkdir -m 0700 gnupg repo; export GNUPGHOME=$PWD/gnupg
        for who in good bad; do
            gpg --batch --quiet --passphrase '' --quick-generate-key $who@example.org ed25519 sign never
            gpg --batch --armor --export $who@example.org > $who.asc
        done
        for p in kubeadm kubectl kubelet; do
            for v in 1.36.2-1.1 1.36.9-1.1; do
                rm -rf pkg; mkdir -p pkg/DEBIAN pkg/usr/bin
                printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: a test <a@example.org>\\nDescription: stand-in\\n' $p $v > pkg/DEBIAN/control
                printf '#!/bin/sh\\necho the stand-in for %s does nothing >&2; exit 1\\n' $p > pkg/usr/bin/$p
                chmod 0755 pkg/usr/bin/$p
                dpkg-deb --root-owner-group -b pkg repo/${p}_$v.deb >/dev/null
                { cat pkg/DEBIAN/control; printf 'Filename: ./%s_%s.deb\\nSize: %s\\nSHA256: %s\\n\\n' $p $v \\
                    $(stat -c %s repo/${p}_$v.deb) $(sha256sum < repo/${p}_$v.deb | cut -d' ' -f1); } >> repo/Packages
            done
        done
        printf 'Origin: a test\\nSuite: stable\\nDate: %s\\nSHA256:\\n %s %s Packages\\n' \"$(date -Ru)\" \\
            $(sha256sum < repo/Packages | cut -d' ' -f1) $(stat -c %s repo/Packages) > Release
        gpg --batch --quiet -u good@example.org --clearsign -o repo/InRelease Release",
    );
}

#[test]
fn only_what_the_pinned_key_has_signed_is_installed() {
    let missing: Vec<String> = preflight().iter().map(|m| format!("{m:?}")).collect();
    if !missing.is_empty() {
        return skipped("only_what_the_pinned_key_has_signed_is_installed", &missing.join("; "));
    }
    let dir =
        tempfile::Builder::new().prefix("kubastion-packages-").tempdir_in("/var/tmp").unwrap();
    let lab = Lab::up(&Spec::new(dir.path().join("lab"), 1, 0), &quiet).unwrap();
    let result = std::panic::catch_unwind(|| tried(&lab, dir.path()));
    lab.down(&quiet).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn tried(lab: &Lab, dir: &Path) {
    repository(dir);
    sh(dir, &format!("cp -r repo {}", lab.dir().join("nodes/cp1/root/opt/kubernetes").display()));
    let inventory = std::fs::read_to_string(lab.inventory()).unwrap();
    let with = |key: &str| {
        let source = format!(
            "kubernetes:\n  source: packages\n  packages:\n    repository: file:///opt/kubernetes/\n    signing_key: {}\nssh:\n",
            dir.join(key).display()
        );
        std::fs::write(lab.inventory(), inventory.replacen("ssh:\n", &source, 1)).unwrap();
    };
    let apply = || {
        let output = Command::new(env!("CARGO_BIN_EXE_kubastion"))
            .current_dir(lab.dir())
            .args(["--format", "json", "apply", "--yes"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
        (json["outcomes"]["cp1"].clone(), said)
    };
    let installed = || {
        let query =
            "dpkg-query -W -f '${Package}=${Version}\\n' kubeadm kubectl kubelet 2>/dev/null; true";
        let out = lab.command("cp1", &["sh", "-c", query]).unwrap().output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    with("bad.asc");
    let (outcomes, said) = apply();
    assert_eq!(outcomes["repositories"]["outcome"], "committed", "{outcomes} {said}");
    assert_eq!(outcomes["packages"]["outcome"], "reverted", "{outcomes} {said}");
    assert_eq!(installed(), "");

    with("good.asc");
    let (outcomes, said) = apply();
    assert_eq!(outcomes["packages"]["outcome"], "committed", "{outcomes} {said}");
    // The release of the inventory, though the repository has a newer one.
    assert_eq!(installed(), "kubeadm=1.36.2-1.1\nkubectl=1.36.2-1.1\nkubelet=1.36.2-1.1\n");
    // The stand-in cannot start a cluster; its own words are in the error, and the node is not half in one.
    assert_eq!(outcomes["kubernetes"]["outcome"], "reverted", "{outcomes} {said}");
    let why = outcomes["kubernetes"]["why"].as_str().unwrap();
    assert!(why.contains("the stand-in for kubeadm does nothing"), "{why}");
}
