//! Rules about software, hardening, firewall, audit, encryption, PKI and runtime.

use std::collections::BTreeSet;

use time::Date;
use time::macros::format_description;

use super::super::diagnostic::Path;
use super::super::model::{
    AuditPolicy, EncryptionProvider, FirewallMode, Inventory, SoftwareSource, StoreEncryption,
};
use super::super::{
    Acknowledged, AllowedKind, AllowedObject, PodLevel, PodSecurityExemption, Switch, SwitchedOff,
};
use super::review::{Review, duplicates, section};

/// Kinds of workloads that an exemption may be for: what makes pods in the end, and pods that nothing made.
const WORKLOADS: &[&str] = &[
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "Pod",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// A bundle has a place and somebody who is trusted; both stand only where they are used.
pub(super) fn kubernetes(inventory: &Inventory, review: &mut Review<'_>) {
    let bundle = &inventory.kubernetes.bundle;
    let path = section("kubernetes").then("bundle");
    let is_used = inventory.kubernetes.source == SoftwareSource::Bundle;
    if is_used && bundle.path.is_none() {
        review
            .error(&path.then("path"), "a bundle without a path")
            .found("`source: bundle` without `bundle.path`")
            .allowed(
                "the directory that `kubastion bundle create` or `kubastion bundle import` wrote",
            );
    }
    if is_used && bundle.signers.is_empty() {
        review
            .error(&path.then("signers"), "no signature of the bundle can be trusted")
            .found("`source: bundle` without `bundle.signers`")
            .allowed("one or more `ssh-ed25519 AAAA...` public keys");
    }
    let packages = &inventory.kubernetes.packages;
    let path = section("kubernetes").then("packages");
    if inventory.kubernetes.source == SoftwareSource::Packages && packages.signing_key.is_none() {
        review
            .error(&path.then("signing_key"), "the packages have no trusted signing key")
            .found("`source: packages` without `packages.signing_key`")
            .allowed("the file with the repository's public key, ASCII-armored");
    }
    if let Some(url) = &packages.repository {
        let plain = url.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/%+@".contains(&b));
        if !plain || !(url.starts_with("https://") || url.starts_with("file:///")) {
            review
                .error(&path.then("repository"), "not the URL of a repository")
                .found(url.clone())
                .allowed("https://... or file:///... of letters, digits and -._~:/%+@");
        }
    }
    let path = section("kubernetes").then("bundle");
    let listed = bundle.signers.iter().enumerate();
    // The comment after the key does not make it another key.
    let keys = listed.map(|(i, s)| (s.as_str().split_whitespace().nth(1).map(str::to_owned), i));
    for (_, first, again) in duplicates(keys.collect()) {
        review
            .error(&path.then("signers").then(again), "is listed twice")
            .found(format!("the key of signers[{first}]"));
    }
}

/// A critical control is only switched off with a reason, an owner and a last day.
pub(super) fn controls(inventory: &Inventory, review: &mut Review<'_>) {
    for (id, switch) in &inventory.hardening.controls {
        let path = section("hardening").then("controls").then(id);
        known_control(id, &path, review);
        let is_critical = review.critical_controls.contains(&id.as_str());
        match &switch.granted {
            None if is_critical && switch.state == Switch::Off => {
                review
                    .error(&path, "a critical control is switched off without a reason")
                    .found("`off`")
                    .allowed(format!(
                        "`{id}: {{state: off, reason: ..., owner: ..., expires: YYYY-MM-DD}}`"
                    ));
            }
            None => {}
            Some(_) if switch.state == Switch::On => {
                review
                    .error(
                        &path.then("state"),
                        "a control that is on takes no reason, owner or expiry date",
                    )
                    .found("`on`")
                    .allowed(format!("`{id}: on`, or `state: off`"));
            }
            Some(SwitchedOff { reason, owner, expires }) => {
                Granted { reason, owner, expires, what: "the grant" }.judge(&path, review);
                if is_critical {
                    let until = format!("a critical control is off until {expires} by {owner}");
                    review.warn(&path, until);
                }
            }
        }
    }
}

fn known_control(id: &str, path: &Path, review: &mut Review<'_>) {
    let known = review.known_controls;
    if !known.contains(&id) {
        review
            .error(path, "no such control")
            .found(format!("{id:?}"))
            .allowed(format!("one of the {} control ids", known.len()))
            .nearest(id, known.iter().copied());
    }
}

/// An exception names a control, nodes, a reason, an owner and a day that is not over.
pub(super) fn exceptions(inventory: &Inventory, review: &mut Review<'_>) {
    let names: BTreeSet<&str> = inventory.nodes.iter().map(|n| n.name.as_str()).collect();
    for (e, exception) in inventory.hardening.exceptions.iter().enumerate() {
        let path = section("hardening").then("exceptions").then(e);
        known_control(&exception.control, &path.then("control"), review);
        if review.nodes_complete {
            for (n, node) in exception.nodes.iter().enumerate() {
                if !names.contains(node.as_str()) {
                    review
                        .error(&path.then("nodes").then(n), "no such node")
                        .found(format!("`{node}`"))
                        .allowed("the name of a node in this file")
                        .nearest(node.as_str(), names.iter().copied());
                }
            }
        }
        let granted = Granted {
            reason: &exception.reason,
            owner: &exception.owner,
            expires: &exception.expires,
            what: "the exception",
        };
        granted.judge(&path, review);
    }
}

/// What is acknowledged is named once, with a reason, an owner and a day that is not over, and where there is a stage that it
/// is about.
pub(super) fn acknowledged(inventory: &Inventory, review: &mut Review<'_>) {
    let hardening = &inventory.hardening;
    let list = section("hardening").then("acknowledged");
    if hardening.stage.is_none() && !hardening.acknowledged.is_empty() {
        review
            .error(&list, "has no effect without a stage")
            .allowed("`stage: observe` or `stage: enforce`, or no list");
    }
    for (i, acknowledged) in hardening.acknowledged.iter().enumerate() {
        let path = list.then(i);
        let row = acknowledged.item.split('/').next().unwrap_or_default();
        if !review.impact_rows.contains(&row) {
            let rows = review.impact_rows;
            review
                .error(&path.then("item"), "is not a name that `kubastion impact` lists")
                .found(format!("{:?}", acknowledged.item))
                .allowed("a name that begins with a row of `kubastion impact`, as in `flows/...`")
                .nearest(row, rows.iter().copied());
        }
        let Acknowledged { reason, owner, expires, .. } = acknowledged;
        Granted { reason, owner, expires, what: "the acknowledgement" }.judge(&path, review);
    }
    let named = hardening.acknowledged.iter().enumerate();
    for (name, first, again) in duplicates(named.map(|(i, a)| (&a.item, i)).collect()) {
        review
            .error(&list.then(again).then("item"), "is listed twice")
            .found(format!("`{name}`, as in acknowledged[{first}]"));
    }
}

/// What is granted has a reason, an owner and a day that is not over.
struct Granted<'g> {
    reason: &'g str,
    owner: &'g str,
    expires: &'g str,
    /// What it is, in words.
    what: &'static str,
}

impl Granted<'_> {
    fn judge(&self, path: &Path, review: &mut Review<'_>) {
        for (key, text) in [("reason", self.reason), ("owner", self.owner)] {
            if text.trim().is_empty() {
                review
                    .error(&path.then(key), "is empty")
                    .allowed("a text that a reviewer can check");
            }
        }
        let format = format_description!("[year]-[month]-[day]");
        match Date::parse(self.expires, format) {
            Err(_) => {
                review
                    .error(&path.then("expires"), "not a date")
                    .found(format!("{:?}", self.expires))
                    .allowed("YYYY-MM-DD");
            }
            Ok(last) if last < review.today => {
                let (today, what) = (review.today, self.what);
                review
                    .error(&path.then("expires"), format!("{what} has expired"))
                    .found(self.expires)
                    .allowed(format!("{today} or later, or remove {what}"));
            }
            Ok(_) => {}
        }
    }
}

/// What is let through in a running cluster is named once, with its reason, its owner and its end.
pub(super) fn granted(inventory: &Inventory, review: &mut Review<'_>) {
    let hardening = &inventory.hardening;
    let exemptions = section("hardening").then("pod_security").then("exemptions");
    for (i, exemption) in hardening.pod_security.exemptions.iter().enumerate() {
        let path = exemptions.then(i);
        let is_label = |name: &str| {
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !name.is_empty()
                && name.len() <= 63
                && name.bytes().all(fits)
                && !name.starts_with('-')
                && !name.ends_with('-')
        };
        if !is_label(&exemption.namespace) {
            review
                .error(&path.then("namespace"), "not the name of a namespace")
                .found(format!("{:?}", exemption.namespace))
                .allowed("1 to 63 of a-z, 0-9 and -, not starting or ending with -");
        }
        if exemption.level == PodLevel::Restricted {
            review
                .error(&path.then("level"), "has no effect")
                .found("`restricted`, which is the default for every namespace")
                .allowed("baseline, privileged");
        }
        for (w, workload) in exemption.workloads.iter().enumerate() {
            let named = workload.split_once('/').filter(|(_, n)| !n.is_empty() && !n.contains('/'));
            if !named.is_some_and(|(kind, _)| WORKLOADS.contains(&kind)) {
                review
                    .error(&path.then("workloads").then(w), "is not a workload")
                    .found(format!("`{workload}`"))
                    .allowed(format!("KIND/NAME, with KIND one of {}", WORKLOADS.join(", ")));
            }
        }
        let PodSecurityExemption { reason, owner, expires, .. } = exemption;
        Granted { reason, owner, expires, what: "the exemption" }.judge(&path, review);
    }
    let named = hardening.pod_security.exemptions.iter().enumerate();
    for (name, first, again) in duplicates(named.map(|(i, e)| (&e.namespace, i)).collect()) {
        review
            .error(&exemptions.then(again).then("namespace"), "is listed twice")
            .found(format!("`{name}`, the namespace of exemptions[{first}]"));
    }
    let allowed = section("hardening").then("allowed_objects");
    for (i, object) in hardening.allowed_objects.iter().enumerate() {
        let path = allowed.then(i);
        if object.name.trim().is_empty() {
            review.error(&path.then("name"), "is empty").allowed("the name of an object");
        } else if object.kind == AllowedKind::RoleBinding && object.name.split('/').count() != 2 {
            review
                .error(&path.then("name"), "names no namespace")
                .found(format!("`{}`", object.name))
                .allowed("NAMESPACE/NAME");
        }
        let AllowedObject { reason, owner, expires, .. } = object;
        Granted { reason, owner, expires, what: "the grant" }.judge(&path, review);
    }
    let named = hardening.allowed_objects.iter().enumerate();
    for ((kind, name), first, again) in
        duplicates(named.map(|(i, o)| ((o.kind, &o.name), i)).collect())
    {
        review
            .error(&allowed.then(again).then("name"), "is listed twice")
            .found(format!("{kind} `{name}`, as in allowed_objects[{first}]"));
    }
}

/// What lies inside the pod or Service networks is pods: they would reach sshd as administrators, and nobody else would.
pub(super) fn administrators(inventory: &Inventory, review: &mut Review<'_>) {
    let cluster = &inventory.cluster;
    let lists =
        [("pod_networks", &cluster.pod_networks), ("service_networks", &cluster.service_networks)];
    for (i, net) in inventory.firewall.admin_networks.iter().enumerate() {
        let at = section("firewall").then("admin_networks").then(i);
        for (key, networks) in lists {
            for (n, inner) in networks.iter().enumerate() {
                let other = section("cluster").then(key).then(n);
                if inner.0.contains(&net.0) {
                    review
                        .error(&at, format!("lies inside {other} ({inner})"))
                        .found(net)
                        .allowed("networks outside those of pods and Services");
                } else if net.0.contains(&inner.0) && net.0.prefix_len() > 0 {
                    review.warn(
                        &at,
                        format!(
                            "{net} contains {other} ({inner}): every pod has administrator access"
                        ),
                    );
                }
            }
        }
    }
}

pub(super) fn firewall(inventory: &Inventory, review: &mut Review<'_>) {
    let firewall = &inventory.firewall;
    let path = section("firewall");
    let admins = path.then("admin_networks");
    if firewall.mode != FirewallMode::Off {
        if firewall.admin_networks.is_empty() {
            review.warn(&admins, "no admin networks: sshd and the API server are open to everyone");
        }
        for (i, net) in firewall.admin_networks.iter().enumerate() {
            if net.0.prefix_len() == 0 {
                review.warn(&admins.then(i), format!("{net} includes everyone"));
            }
        }
    }
    for (i, net) in firewall.service_clients.iter().enumerate() {
        if net.0.prefix_len() == 0 {
            let at = path.then("service_clients").then(i);
            review.warn(
                &at,
                format!("{net} includes every address: pods and Services are open to everyone"),
            );
        }
    }
    let rules = path.then("extra_rules");
    for (i, rule) in firewall.extra_rules.iter().enumerate() {
        let path = rules.then(i);
        // The name becomes a comment in the rule set, between quotes.
        let fits = |c: char| c.is_ascii_alphanumeric() || " ._-".contains(c);
        if rule.name.trim().is_empty() || rule.name.len() > 64 || !rule.name.chars().all(fits) {
            review
                .error(&path.then("name"), "malformed rule name")
                .found(format!("{:?}", rule.name))
                .allowed("1 to 64 letters, digits, spaces, `.`, `_`, `-`");
        }
        if rule.ports.is_empty() {
            review
                .error(&path.then("ports"), "a rule without ports")
                .allowed("1 to 65535, at least one");
        }
        for (p, port) in rule.ports.iter().enumerate() {
            if *port == 0 {
                review
                    .error(&path.then("ports").then(p), "no such port")
                    .found(0)
                    .allowed("1 to 65535");
            }
        }
    }
    let names = firewall.extra_rules.iter().enumerate().map(|(i, r)| (&r.name, i)).collect();
    for (name, first, again) in duplicates(names) {
        review
            .error(&rules.then(again).then("name"), format!("{} has this name", rules.then(first)))
            .found(format!("{name:?}"))
            .allowed("each rule name once");
    }
}

pub(super) fn audit(inventory: &Inventory, review: &mut Review<'_>) {
    let audit = &inventory.audit;
    let path = section("audit");
    match (&audit.file, audit.policy) {
        (None, AuditPolicy::Custom) => {
            review
                .error(&path.then("policy"), "a custom policy needs a file")
                .found("`policy: custom` without `file`")
                .allowed("`file` with the path of a policy");
        }
        (Some(file), policy) if policy != AuditPolicy::Custom => {
            review
                .error(&path.then("file"), "the policy file would not be used")
                .found(file.display())
                .allowed("`file` only with `policy: custom`");
        }
        _ => {}
    }
    let floors = [
        ("max_age_days", audit.max_age_days, 30, "1.2.17"),
        ("max_backups", audit.max_backups, 10, "1.2.18"),
        ("max_size_mb", audit.max_size_mb, 100, "1.2.19"),
    ];
    for (key, value, floor, cis) in floors {
        if value < floor {
            review.warn(
                &path.then(key),
                format!("{value} is less than CIS {cis} requires ({floor})"),
            );
        }
    }
}

pub(super) fn encryption(inventory: &Inventory, review: &mut Review<'_>) {
    let encryption = &inventory.encryption;
    let path = section("encryption");
    match (&encryption.kms_endpoint, encryption.provider) {
        (None, EncryptionProvider::Kms) => {
            review
                .error(&path.then("provider"), "a KMS provider needs an endpoint")
                .found("`provider: kms` without `kms_endpoint`")
                .allowed("`kms_endpoint: unix:///path/to/socket`");
        }
        (Some(_), provider) if provider != EncryptionProvider::Kms => {
            review
                .error(&path.then("kms_endpoint"), "the endpoint would not be used")
                .allowed("`kms_endpoint` only with `provider: kms`");
        }
        (Some(endpoint), _) => {
            let socket = endpoint.strip_prefix("unix://");
            let plain = |s: &str| s.starts_with('/') && !s.contains(char::is_whitespace);
            if !socket.is_some_and(plain) || encryption.kms_directory().is_none() {
                review
                    .error(&path.then("kms_endpoint"), "malformed endpoint")
                    .found(format!("{endpoint:?}"))
                    .allowed("`unix://` and an absolute path, in its own directory");
            }
        }
        _ => {}
    }
    let resources = path.then("resources");
    if !encryption.resources.iter().any(|r| r == "secrets" || r == "*." || r == "*.*") {
        review
            .error(&resources, "Secrets would not be encrypted")
            .found(encryption.resources.join(", "))
            .allowed("a list with `secrets`");
    }
    for (i, resource) in encryption.resources.iter().enumerate() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-*".contains(c);
        if resource.is_empty() || !resource.chars().all(plain) {
            review
                .error(&resources.then(i), "malformed resource")
                .found(format!("{resource:?}"))
                .allowed("a resource such as `secrets` or `deployments.apps`");
        }
    }
    let listed = encryption.resources.iter().enumerate().map(|(i, r)| (r, i)).collect();
    for (resource, _, again) in duplicates(listed) {
        review.error(&resources.then(again), "is listed twice").found(format!("`{resource}`"));
    }
}

pub(super) fn pki(inventory: &Inventory, review: &mut Review<'_>) {
    let pki = &inventory.pki;
    let path = section("pki");
    if pki.renew_before_days >= pki.leaf_days {
        review
            .error(
                &path.then("renew_before_days"),
                "every leaf certificate would be due for renewal at once",
            )
            .found(format!("{} days of {}", pki.renew_before_days, pki.leaf_days))
            .allowed("less than `leaf_days`");
    }
    if pki.leaf_days > pki.ca_days {
        review
            .error(&path.then("leaf_days"), "a leaf certificate would outlive its CA")
            .found(format!("{} days, but the CA only {}", pki.leaf_days, pki.ca_days))
            .allowed("`ca_days` or less");
    }
    if pki.leaf_days > 398 {
        review.warn(
            &path.then("leaf_days"),
            format!("leaf certificates live {} days; one year is usual", pki.leaf_days),
        );
    }
    store(inventory, &path.then("store"), review);
}

fn store(inventory: &Inventory, path: &Path, review: &mut Review<'_>) {
    let store = &inventory.pki.store;
    let with_recipients = store.encryption == StoreEncryption::AgeRecipients;
    if with_recipients && store.recipients.is_empty() {
        review
            .error(&path.then("recipients"), "nobody could decrypt the key store")
            .allowed("one or more `age1...` recipients");
    }
    if with_recipients && store.identity_file.is_none() {
        review
            .error(&path.then("identity_file"), "the key store could be written but not read")
            .allowed("the file that `age-keygen` wrote");
    }
    for (i, recipient) in store.recipients.iter().enumerate() {
        let bech32 = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        if with_recipients
            && !recipient
                .strip_prefix("age1")
                .is_some_and(|r| r.len() == 58 && r.bytes().all(bech32))
        {
            review
                .error(&path.then("recipients").then(i), "malformed recipient")
                .found(format!("{recipient:?}"))
                .allowed("`age1` and 58 lower-case letters and digits");
        }
    }
    let passphrase = store.encryption == StoreEncryption::AgePassphrase;
    let unused = [
        ("recipients", !store.recipients.is_empty() && !with_recipients, "age-recipients"),
        ("identity_file", store.identity_file.is_some() && !with_recipients, "age-recipients"),
        ("passphrase_file", store.passphrase_file.is_some() && !passphrase, "age-passphrase"),
    ];
    for (key, is_unused, wanted) in unused {
        if is_unused {
            review
                .error(
                    &path.then(key),
                    "would not be used: the key store would not be encrypted with it",
                )
                .allowed(format!("only with `encryption: {wanted}`"));
        }
    }
}

pub(super) fn runtime(inventory: &Inventory, review: &mut Review<'_>) {
    let mirrors = section("runtime").then("registry_mirrors");
    for (registry, urls) in &inventory.runtime.registry_mirrors {
        let path = mirrors.then(registry);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
        if registry.is_empty() || registry.starts_with('.') || !registry.chars().all(plain) {
            review
                .error(&path, "malformed registry name")
                .found(format!("{registry:?}"))
                .allowed("a host and optional port, as in `registry.k8s.io` or `r.example:5000`");
        }
        if urls.is_empty() {
            review.error(&path, "a registry without a mirror").allowed("one or more URLs");
        }
        for (i, url) in urls.iter().enumerate() {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let odd = |c: char| c.is_whitespace() || c.is_control() || "\"'\\<>`{}".contains(c);
            if !rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/') && !r.contains(odd)) {
                review
                    .error(&path.then(i), "malformed mirror")
                    .found(format!("{url:?}"))
                    .allowed("a URL, as in `https://mirror.example:5000`");
            } else if url.starts_with("http://") {
                review.warn(&path.then(i), "images are pulled without TLS from this mirror");
            }
        }
    }
}
