//! Brings the store to what the inventory wants: issues what is to be issued, and nothing else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use rcgen::Issuer;
use time::OffsetDateTime;
use time::macros::format_description;

use super::entry::Entry;
use super::error::PkiError;
use super::expiry::{Assessment, Reason, assess, private_key};
use super::inspect::inspect;
use super::issue::{CaKey, NewPair, Signatory, generate_key, issue_ca, issue_leaf, key_pem};
use super::material::{self, Material};
use super::profile::{Ca, wanted};
use super::seal::AskPassphrase;
use super::store::{Contents, NewFile, Store};
use crate::clock::Clock;
use crate::inventory::{CaOrigin, Inventory};
use crate::secret::Secret;

/// Something that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What.
    pub entry: Entry,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Issues what is missing, expiring or no longer what the inventory wants; whatever else the store
/// holds stays as it is, byte for byte. What is replaced is kept in the store's `retired`.
///
/// Everything is signed before the first file is written. A run that is killed between two files
/// leaves a key beside another certificate, which the next run sees and mends.
///
/// # Errors
/// A CA that is there in part or has expired, a store that cannot be written or is in use.
pub fn ensure(
    inventory: &Inventory,
    store: &mut Store,
    ask: AskPassphrase<'_>,
    clock: Clock,
) -> Result<(Material, Vec<Issued>), PkiError> {
    let now = clock.now();
    // A store that does not exist is not made only to be refused.
    if store.missing_cas().len() == Ca::ALL.len() {
        refuse_imported(inventory, &assess(inventory, &Contents::default(), now))?;
    }
    let lock = store.lock(ask)?;
    let contents = store.read_all()?;
    let due: Vec<Assessment> = assess(inventory, &contents, now);
    refuse_broken(inventory, &contents, &due)?;
    let due: Vec<Assessment> = due.into_iter().filter(Assessment::is_to_be_issued).collect();
    let files = make(inventory, &contents, &due, now)?;
    store.write(&lock, &files, &stamp(now))?;
    let material = Material::from_contents(inventory, &store.read_all()?)?;
    let issued = due.into_iter().map(|a| Issued { entry: a.entry, reasons: a.reasons });
    Ok((material, issued.collect()))
}

/// Keys and certificates that are generated but not stored yet, so that the plan made with them can be read first.
pub struct Prepared {
    material: Material,
    issued: Vec<Issued>,
    files: Vec<NewFile>,
    /// What the store held when they were made.
    seen: Contents,
    stamp: String,
}

/// Makes in memory what [`ensure`] would write.
///
/// # Errors
/// A CA that is there in part or has expired, a store that cannot be read.
pub fn prepare(inventory: &Inventory, store: &Store, clock: Clock) -> Result<Prepared, PkiError> {
    let now = clock.now();
    let seen = store.contents()?;
    let due: Vec<Assessment> = assess(inventory, &seen, now);
    refuse_broken(inventory, &seen, &due)?;
    let due: Vec<Assessment> = due.into_iter().filter(Assessment::is_to_be_issued).collect();
    let files = make(inventory, &seen, &due, now)?;
    let material = Material::from_contents(inventory, &seen.with(&files))?;
    let issued = due.into_iter().map(|a| Issued { entry: a.entry, reasons: a.reasons }).collect();
    Ok(Prepared { material, issued, files, seen, stamp: stamp(now) })
}

impl Prepared {
    /// The store's keys and certificates, as they will be.
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// What will be issued.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// Writes them into the store.
    ///
    /// # Errors
    /// [`PkiError::Busy`] if somebody else wrote meanwhile; a store that cannot be written.
    pub fn keep(&self, store: &mut Store, ask: AskPassphrase<'_>) -> Result<(), PkiError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let lock = store.lock(ask)?;
        if !self.seen.is_as(&store.read_all()?) {
            return Err(PkiError::Busy(store.dir().to_owned()));
        }
        store.write(&lock, &self.files, &self.stamp)
    }
}

/// Refuses to create what an imported cluster already has.
///
/// # Errors
/// [`PkiError::Imported`] for the first CA or key that the store lacks.
pub fn refuse_imported(inventory: &Inventory, all: &[Assessment]) -> Result<(), PkiError> {
    if inventory.pki.cas != CaOrigin::Imported {
        return Ok(());
    }
    let lost = |a: &&Assessment| {
        matches!(a.entry, Entry::Ca(_) | Entry::ServiceAccountKey | Entry::EncryptionKeys)
            && a.reasons == [Reason::Missing]
    };
    match all.iter().find(lost) {
        None => Ok(()),
        Some(lost) => {
            let (what, dir) = (lost.entry.to_string(), inventory.pki.dir.clone());
            Err(PkiError::Imported { what, dir })
        }
    }
}

/// Refuses what must not be mended by making a new one.
fn refuse_broken(
    inventory: &Inventory,
    contents: &Contents,
    all: &[Assessment],
) -> Result<(), PkiError> {
    refuse_imported(inventory, all)?;
    for assessment in all {
        let damaged = |file: String, why: &Reason| PkiError::Damaged {
            path: inventory.pki.dir.join(file),
            why: why.to_string(),
        };
        match (&assessment.entry, assessment.reasons.as_slice()) {
            (_, []) => {}
            (Entry::Ca(ca), [Reason::Missing]) => {
                // The CA was there once if something of it still is: a lost file, not a new cluster.
                let leaf = contents.public.keys().find(|path| signed_by(*ca, path));
                if let Some(leaf) = leaf {
                    let why = format!("it is missing, but it issued certificates such as {leaf}");
                    return Err(PkiError::CaIncomplete { ca: ca.name(), why });
                }
            }
            (Entry::Ca(ca), reasons) => {
                for reason in reasons {
                    match reason {
                        Reason::RotationDue { .. } => {}
                        Reason::Expired => {
                            let not_after = assessment.not_after.map(|t| t.date().to_string());
                            let not_after = not_after.unwrap_or_default();
                            return Err(PkiError::CaExpired { ca: ca.name(), not_after });
                        }
                        Reason::KeyMissing | Reason::CertificateMissing => {
                            let ending = if *reason == Reason::KeyMissing { "key" } else { "crt" };
                            let why = format!("{reason} ({}.{ending} in the store)", ca.file());
                            return Err(PkiError::CaIncomplete { ca: ca.name(), why });
                        }
                        other => return Err(damaged(format!("{}.crt", ca.file()), other)),
                    }
                }
            }
            (entry @ (Entry::ServiceAccountKey | Entry::EncryptionKeys), [Reason::Missing]) => {
                // They are made before any certificate: with one there, they were lost. New ones in their
                // place would make every Secret in etcd, or every token, worthless.
                if contents.public.keys().any(|path| path.ends_with("/apiserver.crt")) {
                    return Err(PkiError::KeyLost { what: entry.to_string(), file: entry.file() });
                }
            }
            (entry @ (Entry::ServiceAccountKey | Entry::EncryptionKeys), [reason, ..]) => {
                return Err(damaged(entry.file(), reason));
            }
            // One that has expired is harmless: it is said by `pki status`, and stops nobody.
            (Entry::Accepted(_), [Reason::RemovalDue]) => {}
            (entry @ Entry::Accepted(_), [reason, ..]) => {
                return Err(PkiError::NotAcceptable {
                    path: inventory.pki.dir.join(format!("{}.crt", entry.file())),
                    why: match (reason, &assessment.certificate) {
                        (Reason::Damaged(why), _) => why.clone(),
                        (other, Some(which)) => format!("{}: {other}", which.subject),
                        (other, None) => other.to_string(),
                    },
                });
            }
            (Entry::Leaf(_), _) => {}
        }
    }
    refuse_unsigned(all)
}

/// Refuses to go on where a CA would have to sign whose key is elsewhere. What is valid and soon over, or of another kind than
/// the inventory would have it, is for whoever signs.
fn refuse_unsigned(all: &[Assessment]) -> Result<(), PkiError> {
    let stands = |r: &Reason| {
        matches!(
            r,
            Reason::Expiring { .. } | Reason::LivesTooLong { .. } | Reason::Algorithm { .. }
        )
    };
    let mut due: BTreeMap<Ca, Vec<String>> = BTreeMap::new();
    for a in all.iter().filter(|a| a.signed_elsewhere && !a.reasons.iter().all(stands)) {
        if let Entry::Leaf(id) = &a.entry {
            due.entry(id.kind.profile().issuer).or_default().push(id.to_string());
        }
    }
    match due.pop_first() {
        None => Ok(()),
        Some((ca, certificates)) => {
            Err(PkiError::SignedElsewhere { ca: ca.name(), certificates: certificates.join(", ") })
        }
    }
}

/// Whether a certificate of the store is a leaf of a CA, by its place.
fn signed_by(ca: Ca, path: &str) -> bool {
    super::profile::PROFILES.iter().filter(|p| p.issuer == ca).any(|p| {
        let below = path.strip_prefix("operator/").or_else(|| {
            path.strip_prefix("nodes/").and_then(|p| p.split_once('/')).map(|(_, file)| file)
        });
        below.is_some_and(|b| b.strip_suffix(".crt") == Some(p.file))
    })
}

/// Makes everything that is due: keys before their certificates, CAs before leaves.
fn make(
    inventory: &Inventory,
    contents: &Contents,
    due: &[Assessment],
    now: OffsetDateTime,
) -> Result<Vec<NewFile>, PkiError> {
    let mut files = Vec::new();
    let mut signatories: BTreeMap<Ca, Signatory> = BTreeMap::new();
    let wanted = wanted(inventory);
    let wanted: BTreeMap<_, _> = wanted.iter().map(|w| (&w.id, w)).collect();
    for assessment in due {
        let file = assessment.entry.file();
        match &assessment.entry {
            Entry::Ca(ca) => {
                let cluster = inventory.cluster.name.as_str();
                let (pair, signatory) = issue_ca(*ca, cluster, &inventory.pki, now)?;
                signatories.insert(*ca, signatory);
                files.extend(pair_files(&file, pair));
            }
            Entry::ServiceAccountKey => {
                let failed = |source| PkiError::Key { name: "service accounts".to_owned(), source };
                let key = generate_key(inventory.pki.algorithm).map_err(failed)?;
                let public = key.public_key_to_pem().map_err(failed)?;
                let secret = key_pem(&key).map_err(failed)?;
                files.push(NewFile::Secret { path: format!("{file}.key"), bytes: secret });
                files.push(NewFile::Public { path: format!("{file}.pub"), bytes: public });
            }
            Entry::EncryptionKeys => {
                let bytes: Secret<Vec<u8>> = material::new_key_ring();
                files.push(NewFile::Secret { path: format!("{file}.json"), bytes });
            }
            // Never due: others made it.
            Entry::Accepted(_) => {}
            Entry::Leaf(id) => {
                let ca = id.kind.profile().issuer;
                let signatory = match signatories.entry(ca) {
                    Slot::Occupied(known) => known.into_mut(),
                    Slot::Vacant(slot) => slot.insert(signatory(ca, contents)?),
                };
                let wanted = wanted.get(id).expect("what is assessed is wanted");
                let pair = issue_leaf(wanted, signatory, &inventory.pki, now)?;
                files.extend(pair_files(&file, pair));
            }
        }
    }
    Ok(files)
}

/// The key first: a certificate that can be seen has its key.
fn pair_files(file: &str, pair: NewPair) -> [NewFile; 2] {
    [
        NewFile::Secret { path: format!("{file}.key"), bytes: pair.key_pem },
        NewFile::Public { path: format!("{file}.crt"), bytes: pair.cert_pem.into_bytes() },
    ]
}

/// A CA of the store, ready to sign.
fn signatory(ca: Ca, contents: &Contents) -> Result<Signatory, PkiError> {
    let name = || format!("the {} CA", ca.name());
    let (cert, key) = (format!("{}.crt", ca.file()), format!("{}.key", ca.file()));
    let cert_pem = contents.public.get(&cert).ok_or(PkiError::Missing(cert))?;
    let key = contents.secret.get(&key).ok_or(PkiError::Missing(key))?;
    let damaged = |why| PkiError::Damaged { path: ca.file().into(), why };
    let inspected = inspect(cert_pem).map_err(damaged)?;
    let key = private_key(key.expose()).map_err(|source| PkiError::Key { name: name(), source })?;
    let sign = |source| PkiError::Sign { name: name(), source };
    let key = CaKey::new(key).map_err(sign)?;
    let not_after = inspected.not_after;
    let issuer = Issuer::from_ca_cert_der(&inspected.der.into(), key).map_err(sign)?;
    Ok(Signatory { issuer, not_after })
}

/// A name for a directory of retired pairs, different for each run.
fn stamp(now: OffsetDateTime) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = now.format(format).expect("these parts of a date can always be written");
    let tail: String =
        crate::clock::random_bytes::<3>().iter().map(|b| format!("{b:02x}")).collect();
    format!("{time}-{tail}")
}
