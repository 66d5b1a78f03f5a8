use openssl::rsa::Rsa;

use super::*;
use crate::clock::Clock;
use crate::inventory::{CaOrigin, testing};
use crate::pki::issue::{generate_key, issue_ca, key_pem};
use crate::pki::{self, Reason, assess};

const NOW: time::OffsetDateTime = time::macros::datetime!(2026-03-01 12:00 UTC);

fn no_passphrase(_: crate::pki::Ask) -> std::io::Result<Secret<String>> {
    Err(std::io::Error::other("no passphrase in this test"))
}

/// A CA as kubeadm makes one: RSA with 2048 bits, its key in PKCS#1, no bound for paths.
fn kubeadm_ca(name: &str) -> (Vec<u8>, Secret<Vec<u8>>) {
    let rsa = Rsa::generate(2048).unwrap();
    let pem = rsa.private_key_to_pem().unwrap();
    assert!(pem.starts_with(b"-----BEGIN RSA PRIVATE KEY"));
    let key = CaKey::new(PKey::from_rsa(rsa).unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![
        rcgen::KeyUsagePurpose::DigitalSignature,
        rcgen::KeyUsagePurpose::KeyEncipherment,
        rcgen::KeyUsagePurpose::KeyCertSign,
    ];
    params.not_before = NOW - time::Duration::days(1);
    params.not_after = NOW + time::Duration::days(3650);
    (params.self_signed(&key).unwrap().pem().into_bytes(), Secret::new(pem))
}

fn own_ca(ca: Ca) -> (Vec<u8>, Secret<Vec<u8>>) {
    let (pair, _) = issue_ca(ca, "test", &Default::default(), NOW).unwrap();
    (pair.cert_pem.into_bytes(), pair.key_pem)
}

fn print_of(pem: &[u8]) -> String {
    hex(&Sha256::digest(pem::parse(pem).unwrap().contents()))
}

struct Three(Vec<(Ca, Vec<u8>, Secret<Vec<u8>>)>);

impl Three {
    fn new() -> Self {
        let rsa = kubeadm_ca("kubernetes");
        let (etcd, front) = (own_ca(Ca::Etcd), own_ca(Ca::FrontProxy));
        Self(vec![
            (Ca::Cluster, rsa.0, rsa.1),
            (Ca::Etcd, etcd.0, etcd.1),
            (Ca::FrontProxy, front.0, front.1),
        ])
    }

    fn found(&self) -> FoundKeys {
        let one = |(ca, cert, key): &(Ca, Vec<u8>, Secret<Vec<u8>>)| {
            let found = FoundCa { certificates: vec![cert.clone()], keys: vec![key.clone()] };
            (*ca, found)
        };
        let key = Rsa::generate(2048).unwrap().private_key_to_pem().unwrap();
        FoundKeys {
            cas: self.0.iter().map(one).collect(),
            service_account: vec![Secret::new(key)],
            encryption: FoundEncryption::None,
        }
    }
}

fn imported(dir: &std::path::Path) -> crate::inventory::Inventory {
    let mut inventory = testing::two_and_two();
    inventory.pki.dir = dir.join("pki");
    inventory.pki.cas = CaOrigin::Imported;
    inventory
}

fn kept(inventory: &crate::inventory::Inventory, found: &FoundKeys) -> (Store, TakenOver) {
    let mut store = Store::open(&inventory.pki, &inventory.cluster.name, &no_passphrase).unwrap();
    let over = take_over(found).unwrap();
    over.keep(&mut store, &no_passphrase).unwrap();
    (store, over)
}

#[test]
fn cas_are_taken_over_as_they_are_and_sign_also_with_rsa() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = imported(dir.path());
    let three = Three::new();
    let (mut store, over) = kept(&inventory, &three.found());
    assert!(over.taken.iter().all(|t| t.lacks.is_none()), "{:?}", over.taken);
    for (ca, cert, key) in &three.0 {
        assert!(over.issues(*ca));
        let at = |end: &str| std::fs::read(inventory.pki.dir.join(format!("{}.{end}", ca.file())));
        assert_eq!(&at("crt").unwrap(), cert);
        assert!(crate::secret::equal(&at("key").unwrap(), key.expose()));
    }
    let clock = Clock::Fixed(NOW);
    let (_, issued) = pki::ensure(&inventory, &mut store, &no_passphrase, clock).unwrap();
    assert!(!issued.is_empty() && issued.iter().all(|i| matches!(i.entry, Entry::Leaf(_))));
    let all = assess(&inventory, &store.contents().unwrap(), NOW);
    assert!(all.iter().all(|a| a.reasons.is_empty()), "{all:#?}");
    for (ca, cert, _) in &three.0 {
        let assessed = all.iter().find(|a| a.entry == Entry::Ca(*ca)).unwrap();
        assert_eq!(assessed.certificate.as_ref().unwrap().sha256, print_of(cert));
    }
    // It is not filled a second time.
    let again = over.keep(&mut store, &no_passphrase);
    assert!(matches!(again, Err(PkiError::NotEmpty(_))));
}

#[test]
fn of_several_certificates_that_whose_key_is_there_issues() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = imported(dir.path());
    let (three, old) = (Three::new(), kubeadm_ca("old"));
    let mut found = three.found();
    let bundle = [&old.0[..], &three.0[0].1].concat();
    found.cas[0].1.certificates = vec![bundle.clone(), bundle];
    let (store, over) = kept(&inventory, &found);
    assert!(over.issues(Ca::Cluster));
    let all = assess(&inventory, &store.contents().unwrap(), NOW);
    let which = |entry| {
        let found = all.iter().find(|a| a.entry == entry).unwrap();
        found.certificate.clone().unwrap().sha256
    };
    assert_eq!(which(Entry::Ca(Ca::Cluster)), print_of(&three.0[0].1));
    assert_eq!(which(Entry::Accepted(Ca::Cluster)), print_of(&old.0));
    assert_eq!(all.iter().filter(|a| a.entry == Entry::Accepted(Ca::Cluster)).count(), 1);
}

#[test]
fn a_ca_without_a_key_that_can_sign_issues_nothing_and_none_is_made_in_its_place() {
    let encrypted = {
        let rsa = Rsa::generate(2048).unwrap();
        let cipher = openssl::symm::Cipher::aes_256_cbc();
        rsa.private_key_to_pem_passphrase(cipher, b"PLANTED").unwrap()
    };
    for (keys, why) in [
        (Vec::new(), "signed elsewhere"),
        (vec![kubeadm_ca("other").1], "another CA"),
        (vec![Secret::new(encrypted)], "encrypted"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let inventory = imported(dir.path());
        let mut found = Three::new().found();
        found.cas[1].1.keys = keys;
        let (mut store, over) = kept(&inventory, &found);
        let taken = over.taken.iter().find(|t| t.entry == Entry::Ca(Ca::Etcd)).unwrap();
        assert!(taken.lacks.as_ref().unwrap().contains(why), "{:?}", taken.lacks);
        assert!(!inventory.pki.dir.join("etcd/ca.key").exists());
        let before = store.contents().unwrap();
        let clock = Clock::Fixed(NOW);
        let refused = pki::ensure(&inventory, &mut store, &no_passphrase, clock).err().unwrap();
        let said = refused.problems()[0].to_string();
        assert!(said.contains("etcd CA") && said.contains("etcd/peer of cp1"), "{said}");
        assert!(before.is_as(&store.contents().unwrap()));
        assert!(pki::prepare(&inventory, &store, clock).is_err());
        let all = assess(&inventory, &before, NOW);
        let of_it = all.iter().find(|a| a.entry == Entry::Ca(Ca::Etcd)).unwrap();
        assert_eq!(of_it.reasons, []);
    }
}

#[test]
fn without_a_store_nothing_is_made_for_a_cluster_that_has_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = imported(dir.path());
    let mut store = Store::open(&inventory.pki, &inventory.cluster.name, &no_passphrase).unwrap();
    let clock = Clock::Fixed(NOW);
    let refused = pki::ensure(&inventory, &mut store, &no_passphrase, clock).err().unwrap();
    let said = refused.problems()[0].to_string();
    assert!(said.contains("`pki.cas: imported`") && said.contains("cluster CA"), "{said}");
    assert!(store.contents().unwrap().is_empty());
    assert!(pki::prepare(&inventory, &store, clock).is_err());

    // And so for its other keys.
    let mut found = Three::new().found();
    found.service_account = vec![Secret::new(b"no key".to_vec())];
    found.encryption = FoundEncryption::Other("aesgcm".to_owned());
    let (mut store, over) = kept(&inventory, &found);
    assert_eq!(over.taken.iter().filter(|t| t.lacks.is_some()).count(), 2);
    let refused = pki::ensure(&inventory, &mut store, &no_passphrase, clock).err().unwrap();
    assert!(refused.problems()[0].to_string().contains("service-account key"));
    let all = assess(&inventory, &store.contents().unwrap(), NOW);
    let missing = |entry| all.iter().any(|a| a.entry == entry && a.reasons == [Reason::Missing]);
    assert!(missing(Entry::ServiceAccountKey) && missing(Entry::EncryptionKeys));
}

#[test]
fn a_key_of_a_kind_that_signs_no_certificate_here_is_named() {
    let key = PKey::generate_ed25519().unwrap();
    let secret = key_pem(&key).unwrap();
    let (cert, _) = own_ca(Ca::Etcd);
    let der = pem::parse(&cert).unwrap().into_contents();
    assert!(usable(&secret, &der).is_err());
    let good = generate_key(crate::inventory::KeyAlgorithm::EcdsaP256).unwrap();
    assert!(usable(&key_pem(&good).unwrap(), &der).unwrap_err().contains("another CA"));
}
