use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::*;
use crate::inventory::testing;
use crate::pki::{Entry, Reason, State, assess};

/// A self-signed CA, DER, with whatever is changed about it.
pub(super) fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn contents(files: &[(&str, &str)]) -> Contents {
    let public = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    Contents { public: public.collect(), ..Contents::default() }
}

fn fault(files: &[(&str, &str)]) -> String {
    match trusts(Path::new("/store"), &contents(files)) {
        Err(e) => e.problems().into_iter().map(|p| p.to_string()).collect(),
        Ok(_) => "it is accepted".to_owned(),
    }
}

#[test]
fn without_accepted_cas_the_bundle_is_the_file_of_the_store() {
    for pem in [made("a").pem, made("a").pem.trim_end().to_owned(), "CERTIFICATE ca\n".to_owned()] {
        let trust = Trust::new(pem.clone(), Vec::new());
        assert_eq!((trust.bundle(), trust.issues()), (pem.as_str(), pem.as_str()));
        assert!(trust.accepted().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_bundle_has_one_order_the_issuing_ca_first_and_nothing_twice(
        count in 1..5_usize,
        swaps in prop::collection::vec((0..5_usize, 0..5_usize), 0..6),
        newline in any::<bool>(),
    ) {
        let issuing = made("issuing").pem;
        let issuing = if newline { issuing } else { issuing.trim_end().to_owned() };
        let all: Vec<Anchor> = (0..count).map(|n| made(&n.to_string())).collect();
        let mut other = all.clone();
        for (a, b) in swaps {
            other.swap(a % count, b % count);
        }
        // Whatever comes twice into the constructor stands in the bundle once.
        other.extend(all.first().cloned());
        let trust = Trust::new(issuing.clone(), all);
        prop_assert_eq!(&trust, &Trust::new(issuing.clone(), other));
        let ders = certificates(trust.bundle()).unwrap();
        prop_assert_eq!(ders.len(), count + 1);
        prop_assert_eq!(ders.iter().collect::<BTreeSet<_>>().len(), count + 1);
        prop_assert_eq!(&ders[..1], &certificates(&issuing).unwrap()[..]);
    }
}

#[test]
fn what_no_ca_is_or_more_than_one_is_refused_with_its_place() {
    let (own, other) = (made("own").pem, made("other"));
    let pem = |der: &[u8]| encoded(der);
    let leaf = pem(&authority("leaf", |p| p.is_ca = IsCa::ExplicitNoCa));
    let signs_nothing =
        pem(&authority("quiet", |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]));
    let key = KeyPair::generate().unwrap().serialize_pem();
    let cut = other.pem.replace("-----END CERTIFICATE-----\n", "");
    let garbage = pem(b"no certificate");
    let twice = format!("{0}{0}", other.pem);
    for (file, why) in [
        ("", "it contains no certificate"),
        ("hello", "it contains no certificate"),
        (leaf.as_str(), "certificate 1: CN=leaf is not a CA"),
        (signs_nothing.as_str(), "CN=quiet is not a CA"),
        (garbage.as_str(), "certificate 1: it is not an X.509 certificate"),
        (own.as_str(), "certificate 1: it is the certificate of the CA that issues"),
        (twice.as_str(), "certificate 2: it is listed twice"),
        (&format!("{}{key}", other.pem), "it contains a PRIVATE KEY"),
        (&format!("{}{cut}", made("x").pem), ""),
    ] {
        let said = fault(&[("ca.crt", &own), ("ca-accepted.crt", file)]);
        for words in [
            why,
            "/store/ca-accepted.crt",
            "the key store and the nodes were not changed",
            "remove everything else",
        ] {
            assert!(said.contains(words), "{file}: {words}: {said}");
        }
    }
    // Text that openssl writes before a certificate is none of its business.
    let commented = format!("subject=CN = other\n{}", other.pem);
    let all = trusts(
        Path::new("/store"),
        &contents(&[("ca.crt", &own), ("ca-accepted.crt", &commented)]),
    );
    assert_eq!(all.unwrap()[&Ca::Cluster].accepted(), [other]);
}

#[test]
fn a_ca_is_accepted_in_place_of_one_alone() {
    let (own, etcd, other) = (made("own").pem, made("etcd").pem, made("other").pem);
    let files = |accepted: [&'static str; 2], text: [&str; 2]| {
        let mut all = vec![("ca.crt", own.clone()), ("etcd/ca.crt", etcd.clone())];
        all.extend(accepted.into_iter().zip(text.map(str::to_owned)));
        let all: Vec<(&str, &str)> = all.iter().map(|(p, t)| (*p, t.as_str())).collect();
        fault(&all)
    };
    let [cluster, of_etcd] = ["ca-accepted.crt", "etcd/ca-accepted.crt"];
    let both = files([cluster, of_etcd], [&other, &other]);
    assert!(both.contains("CN=other has the same key as the etcd CA"), "{both}");
    let own_of_another = files([cluster, of_etcd], [&etcd, &other]);
    assert!(own_of_another.contains("CN=etcd has the same key as the etcd CA"), "{own_of_another}");
    assert_eq!(files([cluster, of_etcd], [&other, &made("else").pem]), "it is accepted");
}

#[test]
fn a_node_is_known_by_any_ca_that_is_ours() {
    let (own, old, stranger) = (made("own"), made("old"), made("stranger"));
    let trust = Trust::new(own.pem.clone(), vec![old.clone()]);
    let digest = |text: &str| hex(&Sha256::digest(text));
    let of = |text: &str| trust.recognizes(&digest(text), Some(text));
    let with = |a: &Anchor, b: &Anchor| format!("{}{}", a.pem, b.pem);
    // What a node holds before, during and after a rotation, and what was accepted until now.
    for text in [&own.pem, &old.pem, &with(&old, &own), &with(&own, &stranger)] {
        assert!(of(text), "{text}");
    }
    assert!(trust.recognizes(&digest(trust.bundle()), None), "its text was not read");
    assert!(!of(&stranger.pem) && !of("") && !trust.recognizes("", None));
    assert!(!trust.recognizes(&digest(&with(&own, &stranger)), None), "nobody read it");
    assert!(!of(&format!("{}-----BEGIN PRIVATE KEY-----\n", own.pem)), "it is no file of CAs");
}

#[test]
fn an_expired_accepted_ca_is_due_for_removal_and_stops_nobody() {
    let inventory = testing::two_and_two();
    let now = OffsetDateTime::from_unix_timestamp(1_780_000_000).unwrap();
    let day = time::Duration::days(1);
    let lasting = |from: OffsetDateTime, to: OffsetDateTime| {
        encoded(&authority("other", |p| (p.not_before, p.not_after) = (from, to)))
    };
    let stands = |accepted: &str| {
        let own = made("own").pem;
        let contents = contents(&[("ca.crt", &own), ("ca-accepted.crt", accepted)]);
        let all = assess(&inventory, &contents, now);
        let mut found = all.into_iter().filter(|a| a.entry == Entry::Accepted(Ca::Cluster));
        let one = found.next().unwrap();
        assert!(found.next().is_none() && !one.is_to_be_issued());
        (one, trusts(Path::new("/store"), &contents).is_ok())
    };
    let (valid, usable) = stands(&lasting(now - day, now + day));
    assert_eq!((valid.state, valid.days_left, usable), (State::Ok, Some(1), true));
    let shown = valid.certificate.unwrap();
    assert_eq!((shown.subject.as_str(), shown.sha256.len()), ("CN=other", 64));
    let (over, usable) = stands(&lasting(now - day * 2, now - day));
    assert_eq!(
        (over.state, &over.reasons[..], usable),
        (State::Expiring, &[Reason::RemovalDue][..], true)
    );
    let (early, usable) = stands(&lasting(now + day, now + day * 2));
    assert_eq!((early.state, usable), (State::Mismatch, true));
    let (garbage, usable) = stands("hello");
    assert_eq!((garbage.state, usable), (State::Mismatch, false));
    assert!(garbage.reasons[0].to_string().contains("no certificate"));
}

#[test]
fn a_run_refuses_what_is_not_valid_yet_and_takes_what_has_expired() {
    let mut inventory = testing::two_and_two();
    let dir = tempfile::tempdir().unwrap();
    inventory.pki.dir = dir.path().join("pki");
    let ask: crate::pki::AskPassphrase<'_> = &|_| Err(std::io::Error::other("none in this test"));
    let now = OffsetDateTime::from_unix_timestamp(1_780_000_000).unwrap();
    let clock = crate::clock::Clock::Fixed(now);
    let open = || crate::pki::Store::open(&inventory.pki, &inventory.cluster.name, ask).unwrap();
    let (before, _) = crate::pki::ensure(&inventory, &mut open(), ask, clock).unwrap();
    let accept = |from: i64, to: i64| {
        let day = time::Duration::days(1);
        let der = authority("other", |p| {
            (p.not_before, p.not_after) =
                (now + day * i32::try_from(from).unwrap(), now + day * i32::try_from(to).unwrap());
        });
        let file = inventory.pki.dir.join("etcd/ca-accepted.crt");
        std::fs::write(&file, encoded(&der)).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        crate::pki::ensure(&inventory, &mut open(), ask, clock)
    };
    for (from, to) in [(-1, 1), (-2, -1)] {
        let (material, issued) = accept(from, to).unwrap();
        assert!(issued.is_empty(), "{issued:?}");
        let trust = material.trust(Ca::Etcd);
        assert!(trust.bundle().starts_with(before.trust(Ca::Etcd).issues()));
        assert_eq!(trust.accepted().len(), 1);
        assert_eq!(material.trust(Ca::Cluster), before.trust(Ca::Cluster), "of the others nothing");
    }
    let early = accept(1, 2).err().unwrap().problems()[0].to_string();
    assert!(early.contains("etcd/ca-accepted.crt") && early.contains("not valid yet"), "{early}");
}
