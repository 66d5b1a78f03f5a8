//! The PKI, judged by other implementations: OpenSSL, rustls and webpki.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kubastion::clock::Clock;
use kubastion::controls::ids;
use kubastion::file_lock::FileLock;
use kubastion::inventory::{Inventory, KeyAlgorithm, LoadContext, StoreEncryption, load_bytes};
use kubastion::pki::{
    self, Ask, Ca, CertId, CertificateKind, Entry, Issued, Material, PROFILES, PkiError, Reason,
    State, Store,
};
use kubastion::secret::Secret;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

mod handshake;
mod webpki_judge;

const NOW: OffsetDateTime = datetime!(2026-02-01 12:00 UTC);

const INVENTORY: &str = r#"
version: kubastion/v1
cluster:
  name: test
  kubernetes: 1.36.2
  endpoint: api.example:6443
  extra_sans: [203.0.113.7, alias.example]
  pod_networks: [10.244.0.0/16, "fd00:10:244::/56"]
  service_networks: [10.96.0.0/16, "fd00:10:96::/112"]
ssh: { agent: true, known_hosts: kh }
nodes:
  - { name: cp-1, addresses: [192.0.2.11, "fd00:1::11"], roles: [control-plane] }
  - { name: cp-2, addresses: [192.0.2.12, "fd00:1::12"], roles: [control-plane] }
  - { name: cp-3, addresses: [192.0.2.13, "fd00:1::13"], roles: [control-plane] }
  - { name: w-1, addresses: [192.0.2.21, "fd00:1::21"], roles: [worker] }
"#;

fn inventory(dir: &Path) -> Inventory {
    parse(INVENTORY, dir)
}

fn parse(text: &str, dir: &Path) -> Inventory {
    let context = LoadContext {
        clock: Clock::Fixed(NOW),
        known_controls: &ids::ALL,
        critical_controls: &ids::CRITICAL,
        impact_rows: kubastion::impact::IDS,
        conflicts: kubastion::controls::conflict,
        home: None,
        host_keys_optional: false,
    };
    load_bytes(text.as_bytes(), Path::new("i.yaml"), dir, &context).unwrap().inventory
}

fn no_passphrase(_: Ask) -> std::io::Result<Secret<String>> {
    Err(std::io::Error::other("no passphrase in this test"))
}

fn open(inventory: &Inventory) -> Result<Store, PkiError> {
    Store::open(&inventory.pki, &inventory.cluster.name, &no_passphrase)
}

fn ensure_at(
    inventory: &Inventory,
    now: OffsetDateTime,
) -> Result<(Material, Vec<Issued>), PkiError> {
    let mut store = open(inventory)?;
    pki::ensure(inventory, &mut store, &no_passphrase, Clock::Fixed(now))
}

fn ensure(inventory: &Inventory) -> (Material, Vec<Issued>) {
    ensure_at(inventory, NOW).unwrap()
}

fn assess_at(inventory: &Inventory, now: OffsetDateTime) -> Vec<pki::Assessment> {
    pki::assess(inventory, &open(inventory).unwrap().contents().unwrap(), now)
}

/// Every file below a directory with its bytes and mode.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
            if path.is_dir() {
                all.insert(path.clone(), (Vec::new(), mode));
                todo.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                all.insert(path, (bytes, mode));
            }
        }
    }
    all
}

fn openssl(args: &[&str]) -> Result<String, String> {
    let out = Command::new("openssl").args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&out.stderr)) }
}

/// Every leaf: its id and the path of its certificate in the store.
fn leaves(inventory: &Inventory) -> Vec<(CertId, String)> {
    let all = assess_at(inventory, NOW).into_iter().filter_map(|a| match a.entry {
        Entry::Leaf(id) => Some(id),
        _ => None,
    });
    all.map(|id| {
        let file = format!("{}/{}.crt", inventory.pki.dir.display(), id.file());
        (id, file)
    })
    .collect()
}

fn ca_file(inventory: &Inventory, ca: Ca) -> String {
    format!("{}/{}.crt", inventory.pki.dir.display(), ca.file())
}

/// A small cluster, so that RSA keys do not take all day.
fn small(dir: &Path, algorithm: KeyAlgorithm) -> Inventory {
    let mut inventory = inventory(dir);
    inventory.nodes.retain(|n| n.name.as_str() == "cp-1" || n.name.as_str() == "w-1");
    inventory.pki.algorithm = algorithm;
    inventory
}

/// Each judge looks at the same store: making RSA keys is slow.
fn judge_everything(algorithm: KeyAlgorithm) {
    let dir = tempfile::tempdir().unwrap();
    let inventory = small(dir.path(), algorithm);
    let material = ensure(&inventory).0;
    openssl_accepts_every_chain_for_its_purpose_and_for_no_other(&inventory);
    webpki_judge::accepts_every_chain_for_its_usage_and_for_no_other(&inventory);
    handshake::every_profile_shakes_hands_and_strangers_are_refused(&material);
}

#[test]
fn p256_is_accepted_by_openssl_webpki_and_in_handshakes() {
    judge_everything(KeyAlgorithm::EcdsaP256);
}

#[test]
fn p384_is_accepted_by_openssl_webpki_and_in_handshakes() {
    judge_everything(KeyAlgorithm::EcdsaP384);
}

#[test]
fn rsa_is_accepted_by_openssl_webpki_and_in_handshakes() {
    judge_everything(KeyAlgorithm::Rsa3072);
}

fn openssl_accepts_every_chain_for_its_purpose_and_for_no_other(inventory: &Inventory) {
    let at = NOW.unix_timestamp().to_string();
    let mut judged = 0;
    for (id, file) in leaves(inventory) {
        let profile = id.kind.profile();
        let usages = format!("{:?}", profile.ext_key_usages);
        for (purpose, word) in [("sslserver", "ServerAuth"), ("sslclient", "ClientAuth")] {
            for &ca in Ca::ALL {
                let ca_file = ca_file(inventory, ca);
                let out = openssl(&[
                    "verify",
                    "-x509_strict",
                    "-attime",
                    &at,
                    "-purpose",
                    purpose,
                    "-CAfile",
                    &ca_file,
                    &file,
                ]);
                let expected = usages.contains(word) && ca == profile.issuer;
                assert_eq!(out.is_ok(), expected, "{id} {purpose} {ca:?}: {out:?}");
                judged += 1;
            }
        }
        for (shift, good) in [(-10, false), (0, true), (364, true), (366, false)] {
            let at = (NOW + Duration::days(shift)).unix_timestamp().to_string();
            let ca_file = ca_file(inventory, profile.issuer);
            let out = openssl(&["verify", "-attime", &at, "-CAfile", &ca_file, &file]);
            assert_eq!(out.is_ok(), good, "{id} after {shift} days: {out:?}");
        }
    }
    assert!(judged > 80, "{judged}");
}

#[test]
fn openssl_finds_every_name_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = inventory(dir.path());
    ensure(&inventory);
    let at = NOW.unix_timestamp().to_string();
    let check = |kind: CertificateKind, node: &str, flag: &str, name: &str| {
        let file =
            format!("{}/nodes/{node}/{}.crt", inventory.pki.dir.display(), kind.profile().file);
        let ca = ca_file(&inventory, kind.profile().issuer);
        openssl(&["verify", "-attime", &at, flag, name, "-CAfile", &ca, &file]).is_ok()
    };
    for name in [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "api.example",
        "alias.example",
        "localhost",
        "cp-1",
    ] {
        assert!(check(CertificateKind::Apiserver, "cp-1", "-verify_hostname", name), "{name}");
    }
    for ip in [
        "10.96.0.1",
        "fd00:10:96::1",
        "192.0.2.11",
        "fd00:1::11",
        "203.0.113.7",
        "127.0.0.1",
        "::1",
    ] {
        assert!(check(CertificateKind::Apiserver, "cp-1", "-verify_ip", ip), "{ip}");
    }
    assert!(!check(CertificateKind::Apiserver, "cp-1", "-verify_hostname", "other.example"));
    assert!(
        !check(CertificateKind::Apiserver, "cp-1", "-verify_hostname", "kube-apiserver"),
        "CN is no name"
    );
    assert!(
        !check(CertificateKind::Apiserver, "cp-1", "-verify_ip", "192.0.2.12"),
        "another node's address"
    );
    for kind in [CertificateKind::EtcdServer, CertificateKind::EtcdPeer] {
        for ip in ["192.0.2.12", "fd00:1::12", "127.0.0.1", "::1"] {
            assert!(check(kind, "cp-2", "-verify_ip", ip), "{kind:?} {ip}");
        }
        assert!(check(kind, "cp-2", "-verify_hostname", "cp-2"));
        assert!(!check(kind, "cp-2", "-verify_ip", "192.0.2.11"));
    }
    assert!(check(CertificateKind::KubeletServing, "w-1", "-verify_hostname", "w-1"));
    assert!(check(CertificateKind::KubeletServing, "w-1", "-verify_ip", "192.0.2.21"));
    assert!(!check(CertificateKind::KubeletServing, "w-1", "-verify_ip", "127.0.0.1"));
}

/// Subjects are what Kubernetes authorizes by; each is spelled out here once more.
#[test]
fn subjects_are_those_that_kubernetes_expects() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    ensure(&inventory);
    let expected = [
        ("nodes/cp-1/apiserver", "CN=kube-apiserver"),
        ("nodes/cp-1/apiserver-kubelet-client", "CN=kube-apiserver-kubelet-client"),
        ("nodes/cp-1/apiserver-etcd-client", "CN=kube-apiserver-etcd-client"),
        ("nodes/cp-1/apiserver-probe", "CN=kubastion:apiserver-probe"),
        ("nodes/cp-1/front-proxy-client", "CN=front-proxy-client"),
        ("nodes/cp-1/controller-manager", "CN=system:kube-controller-manager"),
        ("nodes/cp-1/scheduler", "CN=system:kube-scheduler"),
        ("nodes/cp-1/etcd/server", "CN=cp-1"),
        ("nodes/cp-1/etcd/peer", "CN=cp-1"),
        ("nodes/cp-1/etcd/healthcheck-client", "CN=kube-etcd-healthcheck-client"),
        ("nodes/cp-1/kubelet-client", "CN=system:node:cp-1,O=system:nodes"),
        ("nodes/cp-1/kubelet-serving", "CN=system:node:cp-1,O=system:nodes"),
        ("operator/admin", "CN=kubernetes-admin,O=kubeadm:cluster-admins"),
        ("operator/super-admin", "CN=kubernetes-super-admin,O=system:masters"),
    ];
    assert_eq!(expected.len(), PROFILES.len());
    for (file, subject) in expected {
        let path = format!("{}/{file}.crt", inventory.pki.dir.display());
        let out = openssl(&["x509", "-in", &path, "-noout", "-subject", "-nameopt", "RFC2253"]);
        assert_eq!(out.unwrap().trim(), format!("subject={subject}"), "{file}");
    }
}

#[test]
fn cas_may_sign_leaves_and_nothing_below() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = small(dir.path(), KeyAlgorithm::EcdsaP384);
    ensure(&inventory);
    let mut serials = std::collections::BTreeSet::new();
    for &ca in Ca::ALL {
        let file = ca_file(&inventory, ca);
        let text = openssl(&["x509", "-in", &file, "-noout", "-text"]).unwrap();
        for needle in
            ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "Basic Constraints: critical"]
        {
            assert!(text.contains(needle), "{ca:?} lacks {needle}: {text}");
        }
        let serial = openssl(&["x509", "-in", &file, "-noout", "-serial"]).unwrap();
        let hex = serial.trim().strip_prefix("serial=").unwrap().to_owned();
        assert_eq!(hex.len(), 32, "128 bits: {hex}");
        assert!(u8::from_str_radix(&hex[..2], 16).unwrap() < 0x80, "positive: {hex}");
        serials.insert(hex);
    }
    assert_eq!(serials.len(), 3);
    let ca = ca_file(&inventory, Ca::Cluster);
    let check = |flag: &str, file: &str| openssl(&["pkey", flag, "-in", file, "-noout"]);
    let sa = inventory.pki.dir.join("sa.key");
    check("-check", sa.to_str().unwrap()).unwrap();
    let public = inventory.pki.dir.join("sa.pub");
    let derived = openssl(&["pkey", "-in", sa.to_str().unwrap(), "-pubout"]).unwrap();
    assert_eq!(derived, std::fs::read_to_string(public).unwrap());
    assert!(std::fs::read_to_string(sa).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(openssl(&["x509", "-in", &ca, "-noout"]).is_ok());
}

#[test]
fn a_second_run_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = inventory(dir.path());
    let (_, issued) = ensure(&inventory);
    assert_eq!(issued.len(), assess_at(&inventory, NOW).len());
    assert!(issued.iter().all(|i| i.reasons == [Reason::Missing]));
    let before = tree(&inventory.pki.dir);
    let (_, issued) = ensure_at(&inventory, NOW + Duration::days(30)).unwrap();
    assert_eq!(issued, []);
    assert!(tree(&inventory.pki.dir) == before);
    assert!(assess_at(&inventory, NOW).iter().all(|a| a.state == State::Ok));
    for (path, (_, mode)) in &before {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(*mode, wanted, "{}", path.display());
    }
}

#[test]
fn assessing_an_absent_store_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = inventory(dir.path());
    let all = assess_at(&inventory, NOW);
    assert!(all.iter().all(|a| a.state == State::Missing && a.is_to_be_issued()));
    assert!(tree(dir.path()).is_empty());
}

fn ids(issued: &[Issued]) -> Vec<String> {
    issued.iter().map(|i| i.entry.to_string()).collect()
}

#[test]
fn a_changed_name_reissues_only_what_carries_it_and_keeps_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut inventory = inventory(dir.path());
    ensure(&inventory);
    let before = tree(&inventory.pki.dir);

    inventory.cluster.extra_sans.pop();
    inventory.cluster.extra_sans.push("new.example".parse().unwrap());
    let (_, issued) = ensure(&inventory);
    assert_eq!(ids(&issued), ["apiserver of cp-1", "apiserver of cp-2", "apiserver of cp-3"]);
    let why = issued[0].reasons[0].to_string();
    assert_eq!(why, "it lacks the names new.example and has the extra names alias.example");

    inventory.nodes[3].addresses[0] = "192.0.2.99".parse().unwrap();
    assert_eq!(ids(&ensure(&inventory).1), ["kubelet-serving of w-1"]);

    let after = tree(&inventory.pki.dir);
    let retired: Vec<&Vec<u8>> = after
        .iter()
        .filter(|(p, _)| p.starts_with(inventory.pki.dir.join("retired")) && p.is_file())
        .map(|(_, (bytes, _))| bytes)
        .collect();
    assert_eq!(retired.len(), 8, "four pairs");
    for (path, (bytes, _)) in &before {
        let kept = after.get(path).is_some_and(|(b, _)| b == bytes);
        assert!(kept || retired.contains(&bytes), "{} is lost", path.display());
    }
}

#[test]
fn an_expiring_leaf_is_renewed_and_a_ca_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    ensure(&inventory);
    let fresh = NOW + Duration::days(365 - 60) - Duration::hours(1);
    assert_eq!(ensure_at(&inventory, fresh).unwrap().1, []);

    let due = NOW + Duration::days(365 - 60) + Duration::hours(1);
    let all = assess_at(&inventory, due);
    let leaves = all.iter().filter(|a| matches!(a.entry, Entry::Leaf(_)));
    assert!(leaves.clone().all(|a| a.state == State::Expiring && a.days_left == Some(59)));
    let (_, issued) = ensure_at(&inventory, due).unwrap();
    assert_eq!(issued.len(), leaves.count());
    assert!(issued.iter().all(|i| matches!(i.reasons[..], [Reason::Expiring { days: 59, .. }])));

    // Near the end of the CA leaves are cut short, and a second run still has nothing to do.
    let late = NOW + Duration::days(3650 - 30);
    let all = assess_at(&inventory, late);
    assert!(all.iter().any(|a| a.entry == Entry::Ca(Ca::Etcd) && a.state == State::Expiring));
    assert!(all.iter().any(|a| a.state == State::Expired));
    assert!(!ensure_at(&inventory, late).unwrap().1.is_empty());
    assert_eq!(ensure_at(&inventory, late).unwrap().1, []);
    for a in assess_at(&inventory, late).iter().filter(|a| matches!(a.entry, Entry::Leaf(_))) {
        assert_eq!(a.days_left, Some(30), "{}: never longer than its CA", a.entry);
    }

    let over = NOW + Duration::days(3651);
    assert!(matches!(ensure_at(&inventory, over), Err(PkiError::CaExpired { ca: "cluster", .. })));

    inventory.pki.leaf_days = 30;
    inventory.pki.renew_before_days = 5;
    let (_, issued) = ensure_at(&inventory, due).unwrap();
    assert!(!issued.is_empty());
}

#[test]
fn every_way_a_leaf_can_differ_is_seen_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    ensure(&inventory);
    let path = |file: &str| inventory.pki.dir.join(file);
    let copy = |from: &str, to: &str| {
        std::fs::copy(path(from), path(to)).unwrap();
    };
    let n = "nodes/cp-1";
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>, fn(&Reason) -> bool);
    let damages: Vec<Damage<'_>> = vec![
        (
            "key lost",
            Box::new(|| std::fs::remove_file(path("nodes/cp-1/apiserver.key")).unwrap()),
            |r| *r == Reason::KeyMissing,
        ),
        (
            "certificate lost",
            Box::new(|| std::fs::remove_file(path("nodes/cp-1/apiserver.crt")).unwrap()),
            |r| *r == Reason::CertificateMissing,
        ),
        (
            "another key",
            Box::new(|| copy(&format!("{n}/scheduler.key"), &format!("{n}/apiserver.key"))),
            |r| *r == Reason::KeyDiffers,
        ),
        (
            "another's certificate",
            Box::new(|| {
                copy(&format!("{n}/scheduler.key"), &format!("{n}/apiserver.key"));
                copy(&format!("{n}/scheduler.crt"), &format!("{n}/apiserver.crt"));
            }),
            |r| matches!(r, Reason::Subject { .. }),
        ),
        (
            "a certificate of another CA",
            Box::new(|| {
                copy(&format!("{n}/etcd/server.key"), &format!("{n}/apiserver.key"));
                copy(&format!("{n}/etcd/server.crt"), &format!("{n}/apiserver.crt"));
            }),
            |r| *r == Reason::Issuer(Ca::Cluster),
        ),
        (
            "not a certificate",
            Box::new(|| std::fs::write(path("nodes/cp-1/apiserver.crt"), "x").unwrap()),
            |r| matches!(r, Reason::Damaged(_)),
        ),
        (
            "not a key",
            Box::new(|| std::fs::write(path("nodes/cp-1/apiserver.key"), "x").unwrap()),
            |r| matches!(r, Reason::Damaged(_)),
        ),
    ];
    for (what, damage, is_reason) in damages {
        damage();
        let (_, issued) = ensure(&inventory);
        assert_eq!(ids(&issued), ["apiserver of cp-1"], "{what}");
        assert!(issued[0].reasons.iter().any(is_reason), "{what}: {:?}", issued[0].reasons);
        assert_eq!(ensure(&inventory).1, [], "{what}");
    }
}

#[test]
fn a_changed_algorithm_reissues_leaves_and_keeps_cas() {
    let dir = tempfile::tempdir().unwrap();
    let mut inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    ensure(&inventory);
    inventory.pki.algorithm = KeyAlgorithm::EcdsaP384;
    let (_, issued) = ensure(&inventory);
    assert!(issued.iter().all(|i| matches!(i.entry, Entry::Leaf(_))));
    assert_eq!(issued.len(), leaves(&inventory).len());
    assert_eq!(ensure(&inventory).1, []);
}

#[test]
fn a_lost_ca_is_never_made_a_second_time() {
    for (lost, kept) in [("etcd/ca.key", "etcd/ca.crt"), ("etcd/ca.crt", "etcd/ca.key")] {
        let dir = tempfile::tempdir().unwrap();
        let inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
        ensure(&inventory);
        std::fs::remove_file(inventory.pki.dir.join(lost)).unwrap();
        let before = tree(&inventory.pki.dir);
        assert!(matches!(
            ensure_at(&inventory, NOW),
            Err(PkiError::CaIncomplete { ca: "etcd", .. })
        ));
        std::fs::remove_file(inventory.pki.dir.join(kept)).unwrap();
        let e = ensure_at(&inventory, NOW).map(|_| ()).unwrap_err();
        assert!(matches!(e, PkiError::CaIncomplete { ca: "etcd", .. }), "{e}");
        let mut after = tree(&inventory.pki.dir);
        after.insert(inventory.pki.dir.join(kept), before[&inventory.pki.dir.join(kept)].clone());
        assert!(after == before);
    }
}

#[test]
fn a_lost_encryption_or_service_account_key_is_never_made_a_second_time() {
    for lost in [&["enc/keys.json"][..], &["sa.key", "sa.pub"]] {
        let dir = tempfile::tempdir().unwrap();
        let inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
        ensure(&inventory);
        for file in lost {
            std::fs::remove_file(inventory.pki.dir.join(file)).unwrap();
        }
        let before = tree(&inventory.pki.dir);
        let e = ensure_at(&inventory, NOW).map(|_| ()).unwrap_err();
        assert!(matches!(e, PkiError::KeyLost { .. }), "{e}");
        assert!(tree(&inventory.pki.dir) == before);
    }
}

#[test]
fn encryption_keys_survive_and_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    let first = ensure(&inventory).0;
    let second = ensure(&inventory).0;
    let key = |m: &Material| m.encryption_keys()[0].secret.expose().clone();
    assert_eq!(first.encryption_keys()[0].name, "k1");
    assert_eq!(key(&first).len(), 32);
    assert!(key(&first) == key(&second));
    let file = inventory.pki.dir.join("enc/keys.json");
    std::fs::write(&file, "{}").unwrap();
    assert!(matches!(ensure_at(&inventory, NOW), Err(PkiError::Damaged { .. })));
}

#[test]
fn a_store_that_others_can_read_is_refused_with_every_offender() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    ensure(&inventory);
    let pki = &inventory.pki.dir;
    let chmod = |file: &str, mode: u32| {
        std::fs::set_permissions(pki.join(file), PermissionsExt::from_mode(mode)).unwrap();
    };
    chmod("ca.key", 0o640);
    chmod("etcd", 0o755);
    chmod("nodes/cp-1/apiserver.crt", 0o644);
    std::os::unix::fs::symlink("/etc/passwd", pki.join("operator/link")).unwrap();
    std::os::unix::net::UnixListener::bind(pki.join("socket")).unwrap();
    let Err(PkiError::Loose(offenders)) = open(&inventory) else { panic!("a loose store opened") };
    let seen: Vec<String> =
        offenders.iter().map(|o| o.path.strip_prefix(pki).unwrap().display().to_string()).collect();
    assert_eq!(seen, ["ca.key", "etcd", "nodes/cp-1/apiserver.crt", "operator/link", "socket"]);
    assert!(offenders[0].what.contains("0640"), "{}", offenders[0].what);

    std::fs::remove_file(pki.join("operator/link")).unwrap();
    std::fs::remove_file(pki.join("socket")).unwrap();
    chmod("ca.key", 0o600);
    chmod("etcd", 0o700);
    chmod("nodes/cp-1/apiserver.crt", 0o600);
    assert!(open(&inventory).is_ok());
    let moved = dir.path().join("moved");
    std::fs::rename(pki, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, pki).unwrap();
    assert!(matches!(open(&inventory), Err(PkiError::Loose(_))), "the store itself is a link");
}

#[test]
fn two_writers_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    ensure(&inventory);
    let lock = std::fs::File::open(inventory.pki.dir.join("lock")).unwrap();
    let lock = FileLock::try_exclusive(lock).unwrap();
    assert!(matches!(ensure_at(&inventory, NOW), Err(PkiError::Busy(_))));
    assert!(matches!(open(&inventory).unwrap().contents(), Err(PkiError::Busy(_))));
    drop(lock);
    assert!(ensure_at(&inventory, NOW).is_ok());
}

#[test]
fn a_store_serves_one_cluster_and_one_encryption() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = small(dir.path(), KeyAlgorithm::EcdsaP256);
    ensure(&other);
    other.pki.store.encryption = StoreEncryption::AgePassphrase;
    assert!(matches!(open(&other), Err(PkiError::OtherEncryption { .. })));
    other.pki.store.encryption = StoreEncryption::None;
    other.cluster.name = "other".parse().unwrap();
    assert!(matches!(open(&other), Err(PkiError::OtherCluster { .. })));
}

/// No private key stands in plain text in any file of a store.
fn assert_no_plain_key(dir: &Path) {
    for (path, (bytes, _)) in tree(dir) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("PRIVATE KEY"), "{}", path.display());
        assert!(!text.contains("\"secret\""), "{}", path.display());
    }
}

#[test]
fn age_recipients_open_the_store_and_strangers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (own, colleague) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    let write = |name: &str, identity: &age::x25519::Identity, mode: u32| {
        use age::secrecy::ExposeSecret;
        let path = dir.path().join(name);
        let text = format!("# created by a test\n{}\n", identity.to_string().expose_secret());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let mut inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    let store = &mut inventory.pki.store;
    store.encryption = StoreEncryption::AgeRecipients;
    store.recipients = vec![own.to_public().to_string(), colleague.to_public().to_string()];
    store.identity_file = Some(write("own", &own, 0o600));
    let first = ensure(&inventory).0;
    assert_no_plain_key(&inventory.pki.dir);
    assert!(inventory.pki.dir.join("ca.key.age").is_file());
    assert_eq!(ensure(&inventory).1, []);

    inventory.pki.store.identity_file = Some(write("colleague", &colleague, 0o600));
    let (second, issued) = ensure(&inventory);
    assert_eq!(issued, []);
    assert!(
        first.ca(Ca::Etcd).unwrap().key_pem.expose()
            == second.ca(Ca::Etcd).unwrap().key_pem.expose()
    );

    let stranger = age::x25519::Identity::generate();
    inventory.pki.store.identity_file = Some(write("stranger", &stranger, 0o600));
    assert!(matches!(open(&inventory), Err(PkiError::Identity(_))), "opens for no recipient");
    inventory.pki.store.recipients.push(stranger.to_public().to_string());
    let locked = open(&inventory).unwrap().contents();
    assert!(matches!(locked, Err(PkiError::Locked { .. })), "was no recipient when it was written");

    inventory.pki.store.identity_file = Some(write("loose", &own, 0o644));
    assert!(matches!(open(&inventory), Err(PkiError::Loose(_))));
}

#[test]
fn a_passphrase_opens_the_store_and_a_wrong_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut inventory = small(dir.path(), KeyAlgorithm::EcdsaP256);
    inventory.pki.store.encryption = StoreEncryption::AgePassphrase;
    let name = &inventory.cluster.name;
    let right = |_: Ask| Ok(Secret::new("correct horse".to_owned()));
    let wrong = |_: Ask| Ok(Secret::new("battery staple".to_owned()));
    let mut store = Store::open(&inventory.pki, name, &right).unwrap();
    let first = pki::ensure(&inventory, &mut store, &right, Clock::Fixed(NOW)).unwrap().0;
    assert_no_plain_key(&inventory.pki.dir);

    let before = tree(&inventory.pki.dir);
    let mut store = Store::open(&inventory.pki, name, &right).unwrap();
    let (second, issued) = pki::ensure(&inventory, &mut store, &right, Clock::Fixed(NOW)).unwrap();
    assert_eq!(issued, []);
    assert!(tree(&inventory.pki.dir) == before);
    assert!(first.service_account_key().expose() == second.service_account_key().expose());

    let e = Store::open(&inventory.pki, name, &wrong).map(|_| ()).unwrap_err();
    assert!(matches!(e, PkiError::Locked { .. }), "{e}");
    let e = Store::open(&inventory.pki, name, &no_passphrase).map(|_| ()).unwrap_err();
    assert!(matches!(e, PkiError::Passphrase(_)), "{e}");
}

#[test]
fn kubeconfigs_carry_the_right_identity_and_server() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = inventory(dir.path());
    let material = ensure(&inventory).0;
    let read = |secret: Secret<Vec<u8>>| -> kubastion::yaml::Value {
        kubastion::yaml::parse(std::str::from_utf8(secret.expose()).unwrap()).unwrap()
    };
    let node = |name: &str| inventory.nodes.iter().find(|n| n.name.as_str() == name).unwrap();
    let embedded = pki::kubeconfig::KubeletIdentity::Embedded;
    let cases = [
        (
            pki::kubeconfig::admin(&inventory, &material),
            "https://api.example:6443",
            "CN=kubernetes-admin,O=kubeadm:cluster-admins",
        ),
        (
            pki::kubeconfig::super_admin(&inventory, &material),
            "https://api.example:6443",
            "CN=kubernetes-super-admin,O=system:masters",
        ),
        (
            pki::kubeconfig::controller_manager(&inventory, &material, node("cp-2")),
            "https://192.0.2.12:6443",
            "CN=system:kube-controller-manager",
        ),
        (
            pki::kubeconfig::scheduler(&inventory, &material, node("cp-2")),
            "https://192.0.2.12:6443",
            "CN=system:kube-scheduler",
        ),
        (
            pki::kubeconfig::kubelet(&inventory, &material, node("cp-1"), embedded),
            "https://192.0.2.11:6443",
            "CN=system:node:cp-1,O=system:nodes",
        ),
        (
            pki::kubeconfig::kubelet(&inventory, &material, node("w-1"), embedded),
            "https://api.example:6443",
            "CN=system:node:w-1,O=system:nodes",
        ),
    ];
    let decode = |text: &kubastion::yaml::Value| {
        use base64::prelude::{BASE64_STANDARD, Engine};
        BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap()
    };
    for (config, server, subject) in cases {
        let config = read(config.unwrap());
        let cluster = &config["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], server);
        assert_eq!(
            decode(&cluster["certificate-authority-data"]),
            material.trust(Ca::Cluster).issues().as_bytes()
        );
        let user = &config["users"][0]["user"];
        let file = dir.path().join("user.crt");
        std::fs::write(&file, decode(&user["client-certificate-data"])).unwrap();
        let found = openssl(&[
            "x509",
            "-in",
            file.to_str().unwrap(),
            "-noout",
            "-subject",
            "-nameopt",
            "RFC2253",
        ]);
        assert_eq!(found.unwrap().trim(), format!("subject={subject}"));
        let key =
            openssl::pkey::PKey::private_key_from_pem(&decode(&user["client-key-data"])).unwrap();
        let cert = openssl::x509::X509::from_pem(&std::fs::read(&file).unwrap()).unwrap();
        assert!(key.public_eq(&cert.public_key().unwrap()));
        let name = &config["current-context"];
        assert_eq!(config["contexts"][0]["name"], *name);
        assert_eq!(config["contexts"][0]["context"]["user"], config["users"][0]["name"]);
    }
    let files = pki::kubeconfig::KubeletIdentity::Files { cert: "/a.crt", key: "/a.key" };
    let config = read(pki::kubeconfig::kubelet(&inventory, &material, node("w-1"), files).unwrap());
    assert_eq!(config["users"][0]["user"]["client-certificate"], "/a.crt");
    assert_eq!(config["users"][0]["user"]["client-key"], "/a.key");
    assert!(pki::kubeconfig::scheduler(&inventory, &material, node("w-1")).is_none());
}

fn kubastion(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_kubastion")).args(args).output().unwrap()
}

/// Fragments of every secret of a store: the middle line of keys, the base64 of ring keys.
fn fragments(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for (path, (bytes, _)) in tree(dir) {
        let name = path.display().to_string();
        if name.ends_with(".key") {
            let text = String::from_utf8(bytes).unwrap();
            all.push(text.lines().nth(1).unwrap().to_owned());
        } else if name.ends_with("keys.json") {
            let ring: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            all.push(ring["keys"][0]["secret"].as_str().unwrap().to_owned());
        }
    }
    all
}

#[test]
fn no_secret_appears_in_the_output_of_the_verbs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("i.yaml");
    std::fs::write(&file, INVENTORY).unwrap();
    let file = file.to_str().unwrap();
    let pki = dir.path().join("pki");
    let mut output = String::new();
    let mut run = |args: &[&str], exit: i32| {
        let out = kubastion(args);
        assert_eq!(
            out.status.code(),
            Some(exit),
            "{args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        output.push_str(&String::from_utf8_lossy(&out.stdout));
        output.push_str(&String::from_utf8_lossy(&out.stderr));
    };
    run(&["-i", file, "pki", "status"], 4);
    run(&["-i", file, "pki", "ensure"], 0);
    run(&["-i", file, "--format", "json", "pki", "ensure"], 0);
    run(&["-i", file, "pki", "status"], 0);
    run(&["-i", file, "--format", "json", "pki", "status"], 0);
    let secrets = fragments(&pki);
    assert!(secrets.len() > 30);
    // Damaged secrets must not be quoted either.
    let planted = "PLANTED-SECRET-0123456789";
    std::fs::write(pki.join("nodes/cp-1/apiserver.key"), planted).unwrap();
    run(&["-i", file, "pki", "status"], 4);
    run(&["-i", file, "--format", "json", "pki", "status"], 4);
    std::fs::write(pki.join("enc/keys.json"), format!("{{\"{planted}\":1}}")).unwrap();
    run(&["-i", file, "pki", "status"], 4);
    run(&["-i", file, "pki", "ensure"], 3);

    let leaks = |text: &str| secrets.iter().any(|s| text.contains(s)) || text.contains(planted);
    assert!(!leaks(&output));
    // The search finds what it looks for.
    assert!(leaks(&format!("{output}{}", secrets[7])));
    assert!(leaks(&format!("{output}{planted}")));
    assert!(output.contains("apiserver of cp-1"));
}

#[test]
fn status_exits_5_when_something_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("i.yaml");
    std::fs::write(&file, INVENTORY).unwrap();
    let inventory = inventory(dir.path());
    ensure_at(&inventory, OffsetDateTime::now_utc() - Duration::days(400)).unwrap();
    let out = kubastion(&["-i", file.to_str().unwrap(), "--format", "json", "pki", "status"]);
    assert_eq!(out.status.code(), Some(5));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let rows = report["entries"].as_array().unwrap();
    let row = rows.iter().find(|r| r["name"] == "apiserver" && r["node"] == "cp-2").unwrap();
    assert_eq!(row["state"], "expired");
    // A day is over or not, by how long issuing took.
    let days = row["days_left"].as_i64().unwrap();
    assert!((-36..=-35).contains(&days), "{days}");
    assert_eq!(row["issuer"], "kubernetes-ca");
    assert_eq!(row["reasons"][0], "it has expired");
}

/// No token could expire here: certificates play their part.
#[test]
fn what_has_expired_is_said_before_a_node_is_asked() {
    let run = |file: &std::path::Path, verb: &[&str]| {
        let out = kubastion(&[&["-i", file.to_str().unwrap()], verb].concat());
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let made = |days: i64| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("i.yaml");
        // Nobody listens there.
        let here = "roles: [control-plane], ssh: { host: 127.0.0.1, port: 1 } }";
        let text = INVENTORY.replacen("roles: [control-plane] }", here, 1);
        std::fs::write(&file, text).unwrap();
        ensure_at(&inventory(dir.path()), OffsetDateTime::now_utc() - Duration::days(days))
            .unwrap();
        (dir, file)
    };
    // Certificates of a year: a plan only looks, and says what is due.
    let (_dir, file) = made(400);
    let (code, said) = run(&file, &["plan"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.contains("are to be issued first") && said.contains("`kubastion pki ensure`"),
        "{said}"
    );
    assert!(!said.contains("cannot be reached"), "{said}");
    // An apply renews them by itself, with its plan: where no node can be reached there is none, and the store stays.
    let store = || tree(&file.parent().unwrap().join("pki"));
    let before = store();
    let (code, said) = run(&file, &["apply", "--yes", "--nodes", "cp-1"]);
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("cannot be reached") && !said.contains("issued"), "{said}");
    assert!(!before.is_empty() && before == store(), "keys were made that nothing will use");
    // A CA that is over is nobody's to renew in passing: every node would have to learn the new one.
    let (_dir, file) = made(11 * 365);
    for verb in [&["plan"][..], &["apply", "--yes"]] {
        let (code, said) = run(&file, verb);
        assert!(matches!(code, Some(3 | 4)), "{code:?} {said}");
        assert!(!said.contains("cannot be reached"), "{said}");
    }
    let (code, said) = run(&file, &["apply", "--yes"]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("CA expired on") && said.contains("hint:"), "{said}");
}
