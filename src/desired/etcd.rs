//! The etcd member: keys, configuration and service.

use super::collector::{Collector, Unit, exists};
use super::context::{Context, Source};
use super::error::ResolveError;
use super::etcd_pod::{EtcdPod, POD};
use super::firewall::{ETCD_CLIENT, ETCD_PEER, in_url};
use super::model::{Access, Content, FileCheck, ItemKind, OnChange, Start};
use super::order;
use super::pki_files::{held, ours};
use super::places::{ETCD_CA, ETCD_DATA};
use super::software::{self, PROGRAMS};
use super::version::Version;
use crate::controls::Daemon;
use crate::facts::NodeFacts;
use crate::kubernetes::Release;
use crate::pki::{Ca, CertificateKind};
use crate::render::Text;
use crate::render::input::etcd::{EtcdBootstrap, EtcdUnit, Flag, Member};

/// User and group of the service.
const USER: &str = "etcd";
const UNIT: &str = "/etc/systemd/system/etcd.service";
/// root:root 0600, and where CIS 1.1.7 and 1.1.8 look for an etcd that is a host service.
const CONF: &str = "/etc/etcd/etcd.conf";

const SERVER: &[&str] = &["etcd-client-cert-auth", "etcd-server-tls", "etcd-unique-ca"];
const PEER: &[&str] = &["etcd-peer-client-cert-auth", "etcd-peer-tls"];
/// Controls of the service that are about no flag that has one name in every release.
const SERVICE: &[&str] = &["etcd-corruption-check", "etcd-run-as-user"];

pub(super) fn items(context: &Context<'_>, collector: &mut Collector<'_>) {
    if !context.has_etcd_service() {
        return;
    }
    let private = Access { owner: USER.into(), group: USER.into(), mode: 0o700 };
    let user = ItemKind::User { name: USER.into(), home: ETCD_DATA.into() };
    collector.push(&["etcd-data-dir", "etcd-run-as-user"], user);
    collector.directory(&["etcd-data-dir"], ETCD_DATA, private);
    collector.directory(&[], "/etc/etcd", Access::root(0o755));
    collector.directory(&["etcd-run-as-user"], "/etc/etcd/pki", readable(0o750));

    let mut watches = vec![UNIT.to_owned()];
    if software::bundled(context, "etcd") {
        watches.push(format!("{PROGRAMS}/etcd"));
    }
    ours(context, collector, ETCD_CA, Ca::Etcd);
    let shared = context.shared;
    key_file(collector, SERVER, ETCD_CA, |s| {
        Ok(Content::Text(shared.text(s.material.trust(Ca::Etcd).bundle())))
    });
    watches.push(ETCD_CA.to_owned());
    let pairs = [
        ("server", CertificateKind::EtcdServer, SERVER),
        ("peer", CertificateKind::EtcdPeer, PEER),
    ];
    for (name, kind, controls) in pairs {
        let (crt, key) = (format!("/etc/etcd/pki/{name}.crt"), format!("/etc/etcd/pki/{name}.key"));
        key_file(collector, controls, &crt, |s| {
            Ok(Content::Text(held(context, s, kind)?.cert_pem.as_str().into()))
        });
        key_file(collector, controls, &key, |s| {
            Ok(Content::Secret(held(context, s, kind)?.key_pem.clone()))
        });
        watches.extend([crt, key]);
    }
    collector.template(&["files-static-pod-manifests"], CONF, |_| Ok(bootstrap(context)));
    if context.facts().is_none() || exists(context, POD) {
        collector.push(&[], ItemKind::NoEtcdPod { manifest: POD.to_owned() });
    }
    if let Some(facts) = context.facts()
        && let Some(error) = older_than_pod(context, facts)
    {
        collector.errors.push(error);
    }
    let mut service = order::flags(context, Daemon::Etcd, &[]).controls;
    service.extend(SERVICE);
    service.sort_unstable();
    service.dedup();
    collector.template(&service, UNIT, |source| Ok(unit(context, source.facts)));
    collector.unit(
        &service,
        Unit {
            on_change: OnChange::Restart,
            watches,
            // A first member has a quorum, and systemd's word for it, only once others start.
            start: Start::NoWait,
            ..Unit::running("etcd.service")
        },
    );
    if let Some(facts) = context.facts() {
        notes(context, facts, collector);
    }
}

/// For the service's user to read. What it could replace by a link, root would one day write or read through.
fn readable(mode: u32) -> Access {
    Access { owner: "root".into(), group: USER.into(), mode }
}

/// A file of /etc/etcd/pki: the service reads it as its own user.
fn key_file<'a>(
    collector: &mut Collector<'a>,
    controls: &[&'static str],
    path: &str,
    content: impl FnOnce(Source<'a>) -> Result<Content, ResolveError>,
) {
    collector.content(controls, path, readable(0o640), FileCheck::None, content);
}

/// What a member without data starts from.
///
/// etcd looks at none of it once it has data, so that the state stays `new`: a member that lost its
/// data and starts with it is turned away by its peers, which is what should happen.
fn bootstrap(context: &Context<'_>) -> EtcdBootstrap {
    let members = context
        .inventory
        .etcd_members()
        .map(|n| Member { name: Text::of(&n.name), peer_url: Text::of(peer_url(n.internal_ip())) });
    EtcdBootstrap { token: Text::of(&context.inventory.cluster.name), members: members.collect() }
}

/// Where its peers reach a member.
pub fn peer_url(address: std::net::IpAddr) -> String {
    format!("https://{}:{ETCD_PEER}", in_url(address))
}

fn unit(context: &Context<'_>, facts: &NodeFacts) -> EtcdUnit {
    let node = context.node;
    let ip = in_url(node.internal_ip());
    let client = format!("https://{ip}:{ETCD_CLIENT}");
    let peer = peer_url(node.internal_ip());
    let mut flags = vec![
        ("name", node.name.to_string()),
        ("data-dir", ETCD_DATA.to_owned()),
        ("listen-client-urls", format!("https://127.0.0.1:{ETCD_CLIENT},{client}")),
        ("advertise-client-urls", client),
        ("listen-peer-urls", peer.clone()),
        ("initial-advertise-peer-urls", peer),
    ];
    flags.extend(order::flags(context, Daemon::Etcd, &[]).flags);
    flags.extend(of_release(version(context, facts)));
    if version(context, facts).is_some_and(knows_tls_floor) {
        flags.push(("tls-min-version", "TLS1.2".to_owned()));
    }
    let flag = |(name, value): (&str, String)| Flag { name: Text::of(name), value: value.into() };
    EtcdUnit {
        flags: flags.into_iter().map(flag).collect(),
        // A container may not protect its processes from the host's memory killer.
        oom_score_adjust: if context.platform.container { 0 } else { -900 },
    }
}

/// What kubeadm gives a member too (cmd/kubeadm/app/phases/etcd/local.go, 1.36), under the names that its release has.
fn of_release(version: Option<Version>) -> Vec<(&'static str, String)> {
    match version {
        Some(v) if v >= Version(3, 6, 0) => vec![
            ("feature-gates", "InitialCorruptCheck=true".to_owned()),
            ("watch-progress-notify-interval", "5s".to_owned()),
        ],
        Some(v) if v >= Version(3, 5, 0) => vec![
            ("experimental-initial-corrupt-check", "true".to_owned()),
            ("experimental-watch-progress-notify-interval", "5s".to_owned()),
        ],
        _ => vec![("experimental-initial-corrupt-check", "true".to_owned())],
    }
}

/// `--tls-min-version` came with 3.4.25 and 3.5.8; before it, Go's own floor of TLS 1.2 holds.
fn knows_tls_floor(version: Version) -> bool {
    version >= Version(3, 5, 8) || (Version(3, 4, 25)..Version(3, 5, 0)).contains(&version)
}

/// The release of the bundle, else the installed one, else the one that the distribution would install.
fn version(context: &Context<'_>, facts: &NodeFacts) -> Option<Version> {
    if let Some(version) = software::version(context, "etcd") {
        return Version::in_text(version);
    }
    let said = facts.versions.get("etcd").and_then(|v| Version::in_text(v));
    let installed = ["etcd-server", "etcd"].iter().find_map(|p| facts.packages.get(*p));
    said.or_else(|| Version::of_package(installed?)).or_else(|| {
        let release = (facts.os.id.as_str(), facts.os.version.as_str());
        CANDIDATES.iter().find(|(os, _)| *os == release).map(|(_, v)| *v)
    })
}

/// What a member that runs as a static pod would be started with, if that cannot read the data of its release
/// (<https://etcd.io/docs/v3.6/downgrades/>).
fn older_than_pod(context: &Context<'_>, facts: &NodeFacts) -> Option<ResolveError> {
    let pod = EtcdPod::of(facts)?;
    let runs = pod.release()?;
    let would = version(context, facts)?;
    ((would.0, would.1) < (runs.0, runs.1))
        .then(|| ResolveError::OlderEtcd { runs: runs.to_string(), would: would.to_string() })
}

/// What a fresh node of these releases gets.
const CANDIDATES: &[((&str, &str), Version)] = &[
    (("debian", "12"), Version(3, 4, 23)),
    (("debian", "13"), Version(3, 5, 16)),
    (("ubuntu", "22.04"), Version(3, 3, 25)),
    (("ubuntu", "24.04"), Version(3, 4, 30)),
];

fn notes(context: &Context<'_>, facts: &NodeFacts, collector: &mut Collector<'_>) {
    let found = version(context, facts);
    let oldest = Release::of(context.minor()).oldest_etcd.map(|(a, b, c)| Version(a, b, c));
    if let (Some(v), Some(oldest)) = (found, oldest)
        && v < oldest
    {
        collector.note(format!(
            "kubeadm 1.{} refuses etcd {v}: it requires {oldest} or newer",
            context.minor()
        ));
    }
    if !found.is_some_and(knows_tls_floor) {
        collector.note("this etcd has no --tls-min-version flag: TLS 1.2 is its own minimum");
    }
    if exists(context, "/var/lib/etcd/default") {
        collector.note("/var/lib/etcd/default is left over from the package's own instance; it is unused and can be deleted");
    }
    if context.os().starts_etcd
        && !facts.packages.contains_key("etcd-server")
        && !facts.commands.contains("etcd")
        && !software::bundled(context, "etcd")
    {
        collector.note("Debian's etcd-server starts an instance of its own on 127.0.0.1 when it is installed; it is replaced in the etcd phase");
    }
}
