//! What is in the store, against what the inventory wants: what is to be issued, and why.
//!
//! Pure: looks at contents that were read before, and at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openssl::pkey::{Id, PKey, Private, Public};
use openssl::x509::X509;
use serde::{Serialize, Serializer};
use time::{Duration, OffsetDateTime};

use super::entry::{ENCRYPTION_KEYS, Entry, SERVICE_ACCOUNT};
use super::inspect::{Inspected, San, ext_names, inspect, usage_bits};
use super::issue::leaf_end;
use super::material::parse_key_ring;
use super::profile::{CA_USAGES, Ca, Wanted, leaf_usages, wanted};
use super::store::Contents;
use super::trust;
use crate::inventory::{CaOrigin, EncryptionProvider, Inventory, KeyAlgorithm, Pki};

/// Why something is to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Neither certificate nor key is there.
    Missing,
    /// The certificate is there and its key is not.
    KeyMissing,
    /// The key is there and its certificate is not.
    CertificateMissing,
    /// Its time is over.
    Expired,
    /// Its time is nearly over.
    Expiring {
        /// Whole days left.
        days: i64,
        /// From how many on it is renewed.
        renew_before: u32,
    },
    /// The time of a CA is nearly over; that is for a rotation to mend.
    RotationDue {
        /// Whole days left.
        days: i64,
    },
    /// The time of an accepted CA is over: nothing that it signed is believed any more, and its certificate is of no use.
    RemovalDue,
    /// Its time has not begun: this machine's clock is behind the one that issued it.
    NotYetValid,
    /// It lives longer than `pki.leaf_days`.
    LivesTooLong {
        /// Its whole life in days.
        days: i64,
        /// What the inventory allows.
        allowed: u32,
    },
    /// The subject is another.
    Subject {
        /// As in the certificate.
        found: String,
        /// As in the profile.
        wanted: String,
    },
    /// Names or addresses differ.
    Names {
        /// Wanted and not there.
        missing: Vec<San>,
        /// There and not wanted.
        surplus: Vec<San>,
    },
    /// Key usage, extended key usage or basic constraints differ.
    Usages,
    /// It is signed by another key than that of the CA in the store.
    Issuer(Ca),
    /// Another key algorithm than the inventory's.
    Algorithm {
        /// That of the key.
        found: String,
        /// That of the inventory.
        wanted: String,
    },
    /// Key and certificate do not belong together.
    KeyDiffers,
    /// The file cannot be read as what it should be.
    Damaged(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |sans: &[San]| sans.iter().map(San::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Reason::Missing => f.write_str("it is missing"),
            Reason::KeyMissing => f.write_str("its key is missing"),
            Reason::CertificateMissing => f.write_str("its certificate is missing"),
            Reason::Expired => f.write_str("it has expired"),
            Reason::Expiring { days, renew_before } => {
                write!(f, "{days} days are left, and it is due for renewal from {renew_before} on")
            }
            Reason::RotationDue { days } => {
                write!(f, "{days} days are left, and only a rotation replaces a CA")
            }
            Reason::RemovalDue => {
                f.write_str("it has expired: its certificates are no longer accepted, and it should be removed from the file")
            }
            Reason::NotYetValid => f.write_str("it is not valid yet"),
            Reason::LivesTooLong { days, allowed } => {
                write!(f, "its lifetime is {days} days, but {allowed} are allowed")
            }
            Reason::Subject { found, wanted } => {
                write!(f, "its subject is {found}, not {wanted}")
            }
            Reason::Names { missing, surplus } if surplus.is_empty() => {
                write!(f, "it lacks the names {}", list(missing))
            }
            Reason::Names { missing, surplus } if missing.is_empty() => {
                write!(f, "it has the extra names {}", list(surplus))
            }
            Reason::Names { missing, surplus } => {
                write!(f, "it lacks the names {} and has the extra names {}", list(missing), list(surplus))
            }
            Reason::Usages => f.write_str("its key usages are not those of its profile"),
            Reason::Issuer(ca) => write!(f, "the {} CA of this store did not sign it", ca.name()),
            Reason::Algorithm { found, wanted } => write!(f, "its key is {found}, not {wanted}"),
            Reason::KeyDiffers => f.write_str("its key belongs to another certificate"),
            Reason::Damaged(why) => write!(f, "it is damaged: {why}"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// How something stands; the worst of its reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As wanted.
    Ok,
    /// To be renewed, or, for an accepted CA, to be removed.
    Expiring,
    /// Not what the inventory wants.
    Mismatch,
    /// Not there, or in part.
    Missing,
    /// Its time is over.
    Expired,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Ok => "ok",
            State::Expiring => "expiring",
            State::Mismatch => "mismatch",
            State::Missing => "missing",
            State::Expired => "expired",
        })
    }
}

/// Which certificate a CA has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, printable.
    pub subject: String,
    /// SHA-256 of its certificate.
    pub sha256: String,
}

/// How one entry of the store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// What it is.
    pub entry: Entry,
    /// Which one, of a CA that can be read.
    pub certificate: Option<Certificate>,
    /// Whether others sign it: the cluster had its CA before, and that CA's key is not in the store.
    pub signed_elsewhere: bool,
    /// Names and addresses in the certificate, or those it will get.
    pub names: Vec<San>,
    /// First moment of the certificate that is there.
    pub not_before: Option<OffsetDateTime>,
    /// Last moment of the certificate that is there.
    pub not_after: Option<OffsetDateTime>,
    /// Whole days until then, negative if it is over.
    pub days_left: Option<i64>,
    /// How it stands.
    pub state: State,
    /// Why it does not stand well; empty if it does.
    pub reasons: Vec<Reason>,
}

impl Assessment {
    /// Whether [`super::ensure()`] will issue it anew. A CA is only ever issued when nothing of it
    /// is there; what else is wrong with one is for a rotation to mend.
    pub fn is_to_be_issued(&self) -> bool {
        match self.entry {
            _ if self.signed_elsewhere => false,
            Entry::Ca(_) | Entry::ServiceAccountKey | Entry::EncryptionKeys => {
                self.reasons == [Reason::Missing]
            }
            Entry::Leaf(_) => !self.reasons.is_empty(),
            // Others made it.
            Entry::Accepted(_) => false,
        }
    }
}

/// A CA as it stands in the store.
struct CaState {
    inspected: Inspected,
    public: PKey<Public>,
    subject: Vec<u8>,
    /// Whether others sign with its key.
    signs_elsewhere: bool,
}

/// Judges everything that the inventory wants, in a fixed order: CAs, keys, leaves by node.
///
/// Reads and writes nothing. Whatever else the store holds is not looked at.
pub fn assess(inventory: &Inventory, contents: &Contents, now: OffsetDateTime) -> Vec<Assessment> {
    let mut all = Vec::new();
    let mut cas = BTreeMap::new();
    let accepted = trust::accepted(contents);
    for &ca in Ca::ALL {
        let (assessment, state) = assess_ca(ca, &inventory.pki, contents, now);
        all.push(assessment);
        cas.insert(ca, state);
        all.extend(assess_accepted(ca, &accepted, now));
    }
    all.push(assess_service_account(contents));
    if inventory.encryption.provider != EncryptionProvider::Kms {
        all.push(assess_encryption_keys(contents));
    }
    for wanted in wanted(inventory) {
        let ca = cas.get(&wanted.id.kind.profile().issuer).and_then(Option::as_ref);
        all.push(assess_leaf(&wanted, ca, &inventory.pki, contents, now));
    }
    all
}

fn assessment(entry: Entry, reasons: Vec<Reason>) -> Assessment {
    let state = reasons.iter().map(state_of).max().unwrap_or(State::Ok);
    Assessment {
        entry,
        certificate: None,
        signed_elsewhere: false,
        names: Vec::new(),
        not_before: None,
        not_after: None,
        days_left: None,
        state,
        reasons,
    }
}

fn state_of(reason: &Reason) -> State {
    match reason {
        Reason::Missing | Reason::KeyMissing | Reason::CertificateMissing => State::Missing,
        Reason::Expired => State::Expired,
        Reason::Expiring { .. } | Reason::RotationDue { .. } | Reason::RemovalDue => {
            State::Expiring
        }
        _ => State::Mismatch,
    }
}

fn dated(mut assessment: Assessment, inspected: &Inspected, now: OffsetDateTime) -> Assessment {
    assessment.not_before = Some(inspected.not_before);
    assessment.not_after = Some(inspected.not_after);
    assessment.days_left = Some(days_left(inspected.not_after, now));
    assessment.names = inspected.sans.iter().cloned().collect();
    assessment
}

fn days_left(not_after: OffsetDateTime, now: OffsetDateTime) -> i64 {
    // Rounded down also when it is over: an hour ago is -1.
    (not_after - now).whole_seconds().div_euclid(86_400)
}

fn assess_ca(
    ca: Ca,
    pki: &Pki,
    contents: &Contents,
    now: OffsetDateTime,
) -> (Assessment, Option<CaState>) {
    let entry = Entry::Ca(ca);
    let file = ca.file();
    let cert = contents.public.get(&format!("{file}.crt"));
    let key = contents.secret.get(&format!("{file}.key"));
    let Some(cert) = cert else {
        let reason = if key.is_some() { Reason::CertificateMissing } else { Reason::Missing };
        return (assessment(entry, vec![reason]), None);
    };
    let read = inspect(cert).and_then(|inspected| {
        let x509 = X509::from_der(&inspected.der).map_err(|e| e.to_string())?;
        let public = x509.public_key().map_err(|e| e.to_string())?;
        let subject = x509.subject_name().to_der().map_err(|e| e.to_string())?;
        let signs_elsewhere = pki.cas == CaOrigin::Imported && key.is_none();
        Ok(CaState { inspected, public, subject, signs_elsewhere })
    });
    let state = match read {
        Ok(state) => state,
        Err(why) => return (assessment(entry, vec![Reason::Damaged(why)]), None),
    };
    let mut reasons = times(&state.inspected, pki, Dates::Ca, now);
    let inspected = &state.inspected;
    let is_a_ca = match pki.cas {
        // With a leaf in mind: a CA that may not sign, or whose path may go on, is none of ours.
        CaOrigin::Created => {
            inspected.ca == Some(Some(0)) && inspected.key_usage == Some(usage_bits(CA_USAGES))
        }
        CaOrigin::Imported => trust::anchor(&inspected.der).is_ok(),
    };
    if !is_a_ca {
        reasons.push(Reason::Usages);
    }
    match key {
        None if state.signs_elsewhere => {}
        None => reasons.push(Reason::KeyMissing),
        Some(key) => reasons.extend(key_reason(key.expose(), &state.public)),
    }
    let mut judged = dated(assessment(entry, reasons), inspected, now);
    judged.signed_elsewhere = state.signs_elsewhere;
    judged.certificate = trust::anchor(&inspected.der)
        .ok()
        .map(|anchor| Certificate { subject: anchor.subject, sha256: anchor.sha256 });
    (judged, Some(state))
}

/// The accepted CAs in place of one: each of them, and what its file holds that is none.
fn assess_accepted(ca: Ca, all: &trust::Accepted, now: OffsetDateTime) -> Vec<Assessment> {
    let one = |anchor: &trust::Anchor| {
        let mut reasons = Vec::new();
        // Sessions that run go on, and new ones are refused by all who verify: nothing is open that should not be.
        if anchor.not_after < now {
            reasons.push(Reason::RemovalDue);
        }
        if anchor.not_before > now {
            reasons.push(Reason::NotYetValid);
        }
        Assessment {
            certificate: Some(Certificate {
                subject: anchor.subject.clone(),
                sha256: anchor.sha256.clone(),
            }),
            not_before: Some(anchor.not_before),
            not_after: Some(anchor.not_after),
            days_left: Some(days_left(anchor.not_after, now)),
            ..assessment(Entry::Accepted(ca), reasons)
        }
    };
    let good = all.good.get(&ca).into_iter().flatten().map(one);
    let faults = all.faults.iter().filter(|(of, _)| *of == ca);
    let faults =
        faults.map(|(_, why)| assessment(Entry::Accepted(ca), vec![Reason::Damaged(why.clone())]));
    good.chain(faults).collect()
}

fn assess_leaf(
    wanted: &Wanted,
    ca: Option<&CaState>,
    pki: &Pki,
    contents: &Contents,
    now: OffsetDateTime,
) -> Assessment {
    let signed_elsewhere = ca.is_some_and(|ca| ca.signs_elsewhere);
    Assessment { signed_elsewhere, ..judge_leaf(wanted, ca, pki, contents, now) }
}

fn judge_leaf(
    wanted: &Wanted,
    ca: Option<&CaState>,
    pki: &Pki,
    contents: &Contents,
    now: OffsetDateTime,
) -> Assessment {
    let entry = Entry::Leaf(wanted.id.clone());
    let file = wanted.id.file();
    let key = contents.secret.get(&format!("{file}.key"));
    let planned = |mut a: Assessment| {
        a.names = wanted.sans.iter().cloned().collect();
        a
    };
    let Some(cert) = contents.public.get(&format!("{file}.crt")) else {
        let reason = if key.is_some() { Reason::CertificateMissing } else { Reason::Missing };
        return planned(assessment(entry, vec![reason]));
    };
    let x509 = |der: &[u8]| X509::from_der(der).map_err(|e| e.to_string());
    let read = inspect(cert).and_then(|i| x509(&i.der).map(|x| (i, x)));
    let (inspected, x509) = match read {
        Ok(both) => both,
        Err(why) => return planned(assessment(entry, vec![Reason::Damaged(why)])),
    };
    let mut reasons = times(&inspected, pki, Dates::Leaf(ca), now);
    reasons.extend(subject_reason(&inspected, wanted));
    reasons.extend(names_reason(&inspected.sans, &wanted.sans));
    let profile = wanted.id.kind.profile();
    if inspected.key_usage != Some(usage_bits(leaf_usages(pki.algorithm)))
        || !inspected.key_usage_critical
        || inspected.ext_key_usages != ext_names(profile.ext_key_usages)
        || inspected.ca.is_some()
    {
        reasons.push(Reason::Usages);
    }
    let signed = ca.is_some_and(|ca| {
        let issuer = x509.issuer_name().to_der().unwrap_or_default();
        issuer == ca.subject
            && inspected.authority_key_id.is_some()
            // CAs of others may have no identifier of their key.
            && (inspected.authority_key_id == ca.inspected.subject_key_id
                || (pki.cas == CaOrigin::Imported && ca.inspected.subject_key_id.is_none()))
            && x509.verify(&ca.public).unwrap_or(false)
    });
    if !signed {
        reasons.push(Reason::Issuer(profile.issuer));
    }
    match x509.public_key() {
        Err(e) => reasons.push(Reason::Damaged(e.to_string())),
        Ok(public) => {
            let (found, wanted) = (algorithm_of(&public), word(pki.algorithm));
            if found != wanted {
                reasons.push(Reason::Algorithm { found, wanted: wanted.to_owned() });
            }
            match key {
                None => reasons.push(Reason::KeyMissing),
                Some(key) => reasons.extend(key_reason(key.expose(), &public)),
            }
        }
    }
    dated(assessment(entry, reasons), &inspected, now)
}

/// Whose dates are judged.
#[derive(Clone, Copy)]
enum Dates<'a> {
    Ca,
    /// Of a leaf, with its CA if the store has one that can be read.
    Leaf(Option<&'a CaState>),
}

/// What is wrong with the dates.
fn times(inspected: &Inspected, pki: &Pki, whose: Dates<'_>, now: OffsetDateTime) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let left = inspected.not_after - now;
    let renew_before = pki.renew_before_days;
    if left < Duration::ZERO {
        reasons.push(Reason::Expired);
    } else if left < Duration::days(renew_before.into()) {
        let days = left.whole_days();
        // Near the end of its CA a leaf is short and a new one would be no longer: then it is the
        // CA that is expiring, and every run would issue the leaf again for nothing.
        let gains = |ca: &CaState| {
            leaf_end(pki, now, ca.inspected.not_after) - inspected.not_after > Duration::days(1)
        };
        match whose {
            Dates::Ca => reasons.push(Reason::RotationDue { days }),
            Dates::Leaf(ca) if ca.is_none_or(gains) => {
                reasons.push(Reason::Expiring { days, renew_before });
            }
            Dates::Leaf(_) => {}
        }
    }
    if inspected.not_before > now {
        reasons.push(Reason::NotYetValid);
    }
    let life = inspected.not_after - inspected.not_before;
    let is_leaf = matches!(whose, Dates::Leaf(_));
    if is_leaf && life > Duration::days(i64::from(pki.leaf_days) + 1) {
        let (days, allowed) = (life.whole_days(), pki.leaf_days);
        reasons.push(Reason::LivesTooLong { days, allowed });
    }
    reasons
}

fn subject_reason(inspected: &Inspected, wanted: &Wanted) -> Option<Reason> {
    let text = |names: &[String], groups: &[String], others: usize| {
        let names = names.iter().map(|n| format!("CN={n}"));
        let groups = groups.iter().map(|g| format!("O={g}"));
        let others = (others > 0).then(|| format!("and {others} more"));
        names.chain(groups).chain(others).collect::<Vec<_>>().join(" ")
    };
    let organizations: Vec<String> = wanted.organization.iter().cloned().collect();
    let found = text(&inspected.common_name, &inspected.organizations, inspected.other_subject);
    let wanted = text(std::slice::from_ref(&wanted.common_name), &organizations, 0);
    (found != wanted).then_some(Reason::Subject { found, wanted })
}

fn names_reason(found: &BTreeSet<San>, wanted: &BTreeSet<San>) -> Option<Reason> {
    let less = |a: &BTreeSet<San>, b: &BTreeSet<San>| a.difference(b).cloned().collect();
    (found != wanted)
        .then(|| Reason::Names { missing: less(wanted, found), surplus: less(found, wanted) })
}

fn key_reason(pem: &[u8], public: &PKey<Public>) -> Option<Reason> {
    match PKey::private_key_from_pem(pem) {
        // The parser's message could quote the file; its kind is enough.
        Err(_) => Some(Reason::Damaged("its key is not a PEM private key".to_owned())),
        Ok(key) => (!key.public_eq(public)).then_some(Reason::KeyDiffers),
    }
}

fn word(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => "ECDSA P-256",
        KeyAlgorithm::EcdsaP384 => "ECDSA P-384",
        KeyAlgorithm::Rsa3072 => "RSA 3072",
        KeyAlgorithm::Rsa4096 => "RSA 4096",
    }
}

fn algorithm_of(key: &PKey<Public>) -> String {
    match key.id() {
        Id::EC => format!("ECDSA P-{}", key.bits()),
        Id::RSA => format!("RSA {}", key.bits()),
        _ => "of an unknown kind".to_owned(),
    }
}

fn assess_service_account(contents: &Contents) -> Assessment {
    let entry = Entry::ServiceAccountKey;
    let key = contents.secret.get(&format!("{}.key", SERVICE_ACCOUNT));
    let public = contents.public.get(&format!("{}.pub", SERVICE_ACCOUNT));
    let reasons = match (key, public) {
        (None, None) => vec![Reason::Missing],
        (None, Some(_)) => vec![Reason::KeyMissing],
        (Some(_), None) => vec![Reason::CertificateMissing],
        (Some(key), Some(public)) => match PKey::public_key_from_pem(public) {
            Err(_) => vec![Reason::Damaged("sa.pub is not a PEM public key".to_owned())],
            Ok(public) => key_reason(key.expose(), &public).into_iter().collect(),
        },
    };
    assessment(entry, reasons)
}

fn assess_encryption_keys(contents: &Contents) -> Assessment {
    let file = format!("{}.json", ENCRYPTION_KEYS);
    let reasons = match contents.secret.get(&file) {
        None => vec![Reason::Missing],
        Some(ring) => match parse_key_ring(ring.expose()) {
            Ok(_) => Vec::new(),
            Err(why) => vec![Reason::Damaged(why)],
        },
    };
    assessment(Entry::EncryptionKeys, reasons)
}

/// The private key in a PEM file.
pub(super) fn private_key(pem: &[u8]) -> Result<PKey<Private>, openssl::error::ErrorStack> {
    PKey::private_key_from_pem(pem)
}
