//! Pods, and what makes pods: also what waits for its hour, or for somebody to scale it up.

use serde_json::Value;

use super::model::{Item, Seen};
use crate::checks::{MAKERS, broken, level_by_default, weaker_label};
use crate::facts::cluster::{ObjectKind, is_steady, list, name, namespace, text};
use crate::inventory::PodLevel;

/// Something that makes pods and was made by nobody that is known, or a pod like that.
pub(super) struct Workload<'o> {
    /// Its kind, as manifests have it.
    pub kind: &'static str,
    /// The object.
    pub object: &'o Value,
    /// The pod that it makes.
    pub template: &'o Value,
    /// Its pods, through whatever is between them.
    pub pods: Vec<&'o Value>,
}

impl Workload<'_> {
    /// What it does now, if it is not at work.
    fn state(&self) -> Option<&'static str> {
        let says = |at: &str, what: Value| self.object.pointer(at) == Some(&what);
        if says("/spec/replicas", 0.into()) {
            return Some("scaled to zero");
        }
        says("/spec/suspend", true.into()).then_some("suspended")
    }

    /// The same as an item.
    pub(super) fn item(&self) -> Item {
        let count = (self.kind != "Pod").then_some((self.pods.len(), "pod"));
        let new = Item::new(self.kind, namespace(self.object), name(self.object));
        Item { state: self.state(), count, ..new }
    }
}

/// Whether it has done what it was made for, and makes no pod any more.
fn is_over(object: &Value) -> bool {
    matches!(text(object, "/status/phase"), "Succeeded" | "Failed")
        || list(object, "/status/conditions").iter().any(|c| {
            matches!(text(c, "/type"), "Complete" | "Failed") && text(c, "/status") == "True"
        })
}

/// All of them, by namespace, kind and name. Pods of something that is listed are its own. What belongs to an object of a kind that
/// is not known here, as of an operator, stands for itself.
pub(super) fn all<'s>(seen: &'s Seen<'_>) -> Result<Vec<Workload<'s>>, String> {
    let owners = seen.owners()?;
    let mut found: Vec<Workload<'s>> = Vec::new();
    for &(kind, called, at) in MAKERS {
        for object in seen.all(kind)? {
            // A Deployment's ReplicaSet, or a CronJob's Job.
            if owners.controller(object).is_some() || kind == ObjectKind::Jobs && is_over(object) {
                continue;
            }
            let Some(template) = object.pointer(at) else { continue };
            found.push(Workload { kind: called, object, template, pods: Vec::new() });
        }
    }
    let makers = found.len();
    for pod in seen.all(ObjectKind::Pods)? {
        match owners.top(pod) {
            Some((kind, top)) if kind != "Node" => {
                let is_top = |w: &&mut Workload<'_>| {
                    (w.kind, namespace(w.object), name(w.object))
                        == (kind, namespace(top), name(top))
                };
                if let Some(workload) = found[..makers].iter_mut().find(is_top) {
                    workload.pods.push(pod);
                }
            }
            _ if is_over(pod) => {}
            _ => found.push(Workload { kind: "Pod", object: pod, template: pod, pods: Vec::new() }),
        }
    }
    let facts = seen.objects()?;
    found.retain(|w| is_steady(facts, namespace(w.object)));
    let place = |w: &Workload<'s>| (namespace(w.object), w.kind, name(w.object));
    found.sort_by(|a, b| place(a).cmp(&place(b)));
    Ok(found)
}

/// What it breaks of a level: rule and words, of its description first, then of its pods, to which webhooks may have added.
fn breaks(workload: &Workload<'_>, level: PodLevel) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for pod in [workload.template].iter().chain(&workload.pods) {
        for (rule, said) in broken(pod, level) {
            let one = (rule.to_owned(), said);
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all
}

/// What Pod Security refuses by the default that hardening sets.
pub(super) fn refused(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let (on, spaces) = (seen.cluster()?, seen.all(ObjectKind::Namespaces)?);
    let mut items = Vec::new();
    for workload in all(seen)? {
        let space = spaces.iter().find(|n| name(n) == namespace(workload.object));
        let Some(level) = space.and_then(|space| level_by_default(&on, space)) else { continue };
        let why = breaks(&workload, level);
        if !why.is_empty() {
            items.push(Item { seen: why, ..workload.item() }.leveled(level));
        }
    }
    Ok(items)
}

impl Item {
    /// With the level, before everything else that was seen.
    fn leveled(mut self, level: PodLevel) -> Self {
        self.seen.insert(0, ("level".to_owned(), level.to_string()));
        self
    }
}

/// Namespaces whose own label is weaker than the profile than the profile wants.
pub(super) fn labelled(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let on = seen.cluster()?;
    let workloads = all(seen)?;
    let mut items = Vec::new();
    for space in seen.all(ObjectKind::Namespaces)? {
        let Some(level) = weaker_label(&on, space) else { continue };
        let mut item = Item::new("Namespace", "", name(space)).leveled(level);
        let own = workloads.iter().filter(|w| namespace(w.object) == name(space));
        let breaking: Vec<String> = own
            .filter(|w| !breaks(w, PodLevel::Restricted).is_empty())
            .map(|w| format!("{} {}", w.kind, name(w.object)))
            .collect();
        item.count = Some((breaking.len(), "workload"));
        for called in breaking {
            item = item.saying("not restricted", called);
        }
        items.push(item);
    }
    Ok(items)
}

/// The default ServiceAccount by which a pod holds a token that it did not ask for.
fn holds_by_default(template: &Value) -> bool {
    let says = template.pointer("/spec/automountServiceAccountToken");
    matches!(text(template, "/spec/serviceAccountName"), "" | "default")
        && says.is_none_or(Value::is_null)
}

/// Whose pods hold a token only because a default ServiceAccount mounts one.
pub(super) fn token_holders(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    let accounts = seen.all(ObjectKind::ServiceAccounts)?;
    let mounts = |space: &str| {
        let own = accounts.iter().find(|a| namespace(a) == space && name(a) == "default");
        own.is_some_and(|a| a.get("automountServiceAccountToken") != Some(&Value::Bool(false)))
    };
    let is_due = |space: &str| {
        seen.changes.iter().any(|c| match c {
            crate::plan::api_change::ApiChange::Apply { object, .. } => {
                text(object, "/kind") == "ServiceAccount" && namespace(object) == space
            }
            _ => false,
        })
    };
    let wanted = crate::desired::objects::Wanted::of(seen.inventory).no_default_tokens;
    let mut items = Vec::new();
    for workload in all(seen)?.iter().filter(|_| wanted) {
        let space = namespace(workload.object);
        // What a static pod mounts, its node decides.
        let is_static = workload.kind == "Pod" && is_of_a_node(workload.object);
        if mounts(space) && !is_static && holds_by_default(workload.template) {
            let when = match is_due(space) {
                true => "by the next apply, for new pods",
                false => {
                    "not while a pod in the namespace mounts one; the control fails until then"
                }
            };
            let account = format!("{space}/default");
            items.push(workload.item().saying("account", account).saying("token removed", when));
        }
    }
    Ok(items)
}

/// Whether a kubelet made it from a file.
pub(super) fn is_of_a_node(pod: &Value) -> bool {
    list(pod, "/metadata/ownerReferences").iter().any(|o| text(o, "/kind") == "Node")
}
