//! The same chains, judged by webpki.

use std::time::Duration as StdDuration;

use super::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

fn judge(leaf: &str, ca: &str, usage: KeyUsage, at: OffsetDateTime) -> Result<(), webpki::Error> {
    let leaf = CertificateDer::from_pem_file(leaf).unwrap();
    let ca = CertificateDer::from_pem_file(ca).unwrap();
    let anchor = anchor_from_trusted_cert(&ca).unwrap();
    let time =
        UnixTime::since_unix_epoch(StdDuration::from_secs(at.unix_timestamp().try_into().unwrap()));
    EndEntityCert::try_from(&leaf)
        .unwrap()
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], time, usage, None, None)
        .map(|_| ())
}

pub(super) fn accepts_every_chain_for_its_usage_and_for_no_other(inventory: &Inventory) {
    for (id, file) in leaves(inventory) {
        let profile = id.kind.profile();
        let usages = format!("{:?}", profile.ext_key_usages);
        for (usage, word) in
            [(KeyUsage::server_auth(), "ServerAuth"), (KeyUsage::client_auth(), "ClientAuth")]
        {
            for &ca in Ca::ALL {
                let found = judge(&file, &ca_file(inventory, ca), usage, NOW);
                let expected = usages.contains(word) && ca == profile.issuer;
                assert_eq!(found.is_ok(), expected, "{id} {word} {ca:?}: {found:?}");
            }
        }
        let ca = ca_file(inventory, profile.issuer);
        let usage = if usages.contains("ServerAuth") {
            KeyUsage::server_auth()
        } else {
            KeyUsage::client_auth()
        };
        for (shift, good) in [(-1, false), (364, true), (366, false)] {
            let found = judge(&file, &ca, usage, NOW + Duration::days(shift));
            assert_eq!(found.is_ok(), good, "{id} after {shift} days: {found:?}");
        }
    }
}

#[test]
fn webpki_finds_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let inventory = inventory(dir.path());
    let material = ensure(&inventory).0;
    let named = |kind: CertificateKind, node: &str, name: &str| {
        let pem = &material.node(kind, &node.parse().unwrap()).unwrap().cert_pem;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let cert = EndEntityCert::try_from(&der).unwrap();
        cert.verify_is_valid_for_subject_name(&ServerName::try_from(name.to_owned()).unwrap())
            .is_ok()
    };
    assert!(named(CertificateKind::Apiserver, "cp-1", "kubernetes.default.svc.cluster.local"));
    assert!(named(CertificateKind::Apiserver, "cp-1", "fd00:10:96::1"));
    assert!(named(CertificateKind::EtcdPeer, "cp-3", "192.0.2.13"));
    assert!(named(CertificateKind::KubeletServing, "w-1", "w-1"));
    assert!(!named(CertificateKind::KubeletServing, "w-1", "cp-1"));
    assert!(!named(CertificateKind::KubeletClient, "w-1", "w-1"), "a client has no names");
}
