//! Changes of the cluster's objects, carried out as a plan says.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use super::bundled::BundledObjects;
use super::cas;
use super::change_error::{ChangeError, words};
use super::execution::{Execution, Sessions, with_session};
use super::{MEMBER_SCRIPT, UPLOAD_SCRIPT};
use crate::api::certificate_requests;
use crate::api::objects::{Conflicts, path};
use crate::api::{ApiAccess, ApiError, Client};
use crate::checks::{ANONYMOUS, gives_a_node, gives_certificates};
use crate::desired::differences::{Difference, differences, merge_patch};
use crate::desired::objects::{DesiredObject, Owner, Wanted, objects};
use crate::error::chain;
use crate::event::Event;
use crate::facts::cluster::{ObjectKind, list, namespace, text};
use crate::inventory::{Inventory, NodeName};
use crate::plain::plain;
use crate::plan::api_change::{Action, ApiChange};
use crate::transport::Request;
use crate::transport::http::HttpRequest;

/// Carries changes out in their order, over the first control plane whose API server is ready, and says of each why it was
/// not made. One that needs another one before it is not sent without that.
pub(super) fn carry_out(
    c: &Execution<'_>,
    changes: &[&ApiChange],
    sessions: &Mutex<Sessions>,
) -> Vec<Result<(), String>> {
    let none = |why: String| changes.iter().map(|_| Err(why.clone())).collect();
    let Some(access) = c.api else {
        return none("the key store has no administrator certificate".into());
    };
    let mut last = String::from("there is no control plane");
    let is_open = |name: &NodeName| {
        sessions.lock().expect("no thread panics while holding it").contains_key(name)
    };
    // A control plane that is known to answer goes before one that may be down.
    let (open, others): (Vec<_>, Vec<_>) =
        access.servers.iter().partition(|(name, _)| is_open(name));
    for (name, address) in open.into_iter().chain(others) {
        let Some(server) = c.inventory.nodes.iter().find(|n| n.name == *name) else { continue };
        let made = with_session(c, server, sessions, |through| {
            let mut client = Client::new(through, *address, access);
            client.json(&HttpRequest::get("/version")).map_err(|e| chain(&e))?;
            let mut said = |what: &str| {
                c.sink.send(Event::Waiting { node: name.clone(), what: what.to_owned() });
            };
            let mut bundled = BundledObjects::new(c.bundled, &mut said);
            Ok(carry_out_over(&mut client, c.inventory, access, changes, &mut bundled))
        });
        match made {
            Ok(results) => return results,
            Err(why) => last = format!("{name}: {why}"),
        }
    }
    none(last)
}

fn carry_out_over(
    client: &mut Client<'_>,
    inventory: &Inventory,
    access: &ApiAccess,
    changes: &[&ApiChange],
    bundled: &mut BundledObjects<'_>,
) -> Vec<Result<(), String>> {
    // Namespace and name of objects that were not sent.
    let mut failed: Vec<(&str, &str)> = Vec::new();
    let mut one = |made: &ApiChange, failed: &[(&str, &str)], client: &mut Client<'_>| match made
        .after()
        .filter(|first| failed.contains(first))
    {
        Some((_, first)) => Err(format!("it needs {first}, which was not sent")),
        None => match made {
            ApiChange::Bundled { .. } => bundled.send(client, made).map_err(|e| chain(&e)),
            made => change(client, inventory, access, made).map_err(|e| chain(&e)),
        },
    };
    let mut results = Vec::new();
    for made in changes {
        let result = one(made, &failed, client);
        if result.is_err() {
            failed.extend(made.object());
        }
        results.push(result);
    }
    results
}

/// Carries one change out. Doing it twice does no harm.
///
/// # Errors
/// See [`ChangeError`].
pub fn change(
    client: &mut Client<'_>,
    inventory: &Inventory,
    access: &ApiAccess,
    change: &ApiChange,
) -> Result<(), ChangeError> {
    match change {
        ApiChange::DeleteToken { name } => {
            Ok(client.delete(&path(ObjectKind::JoinTokens, "", name)?)?)
        }
        ApiChange::DeleteBootstrapBinding { name } => {
            let path = path(ObjectKind::ClusterRoleBindings, "", name)?;
            // Another one of that name may be there by now.
            match client.find(&HttpRequest::get(&path))? {
                Some(binding) if gives_a_node(&binding) => {
                    Ok(client.delete_as_read(&path, &binding)?)
                }
                _ => Ok(()),
            }
        }
        ApiChange::DeleteCertificatesBinding { name } => {
            let path = path(ObjectKind::RoleBindings, "kube-system", name)?;
            match client.find(&HttpRequest::get(&path))? {
                Some(binding) if gives_certificates(&binding) => {
                    Ok(client.delete_as_read(&path, &binding)?)
                }
                _ => Ok(()),
            }
        }
        ApiChange::DeleteRoleBinding { namespace, name } => {
            let path = path(ObjectKind::RoleBindings, namespace, name)?;
            match client.find(&HttpRequest::get(&path))? {
                // Deleting it would revoke rights of subjects that the plan did not name.
                Some(binding) if !only_anonymous(&binding) => {
                    Err(ChangeError::NotAsPlanned("it names other subjects".into()))
                }
                Some(binding) => Ok(client.delete_as_read(&path, &binding)?),
                None => Ok(()),
            }
        }
        ApiChange::KeepSubjects { namespace, name, .. } => drop_anonymous(client, namespace, name),
        ApiChange::Approve { name, node } => {
            Ok(certificate_requests::approve(client, inventory, name, node)?)
        }
        ApiChange::SetCas { place, adds, drops } => {
            Ok(cas::set(client, inventory, access, *place, (adds, drops))?)
        }
        ApiChange::UploadConfiguration => upload_configuration(client),
        // Where it comes from is for whoever has the bundle.
        ApiChange::Bundled { .. } => BundledObjects::new(&[], &mut |_| {}).send(client, change),
        ApiChange::Apply { action, object, differs, .. } => {
            let desired = desired(inventory, object).ok_or(ChangeError::NotWanted)?;
            send(client, &desired, *action, differs)
        }
    }
}

/// Deletes the Node object of a node that has left. Succeeds if there is none.
///
/// # Errors
/// What the API server said instead.
pub fn forget(client: &mut Client<'_>, node: &NodeName) -> Result<(), ApiError> {
    client.delete(&path(ObjectKind::Nodes, "", node.as_str())?)
}

/// The object that a plan sends, as this inventory asks for it: word for word.
fn desired(inventory: &Inventory, object: &Value) -> Option<DesiredObject> {
    let all = objects(inventory, [namespace(object)], Wanted::of(inventory));
    all.into_iter().find(|o| o.body == *object)
}

/// Sends an object by server-side apply.
///
/// What was not in the plan is not changed: the object is read first, and goes with its `resourceVersion` (of others'
/// objects with its `uid`), so that the API server refuses what would hit another one. Fields of other managers are taken
/// over only where the plan said that their value goes.
fn send(
    client: &mut Client<'_>,
    desired: &DesiredObject,
    action: Action,
    planned: &[Difference],
) -> Result<(), ChangeError> {
    let path = path(desired.kind, desired.namespace(), desired.name())?;
    let found = client.find(&HttpRequest::get(&path))?;
    let differs = differences(desired, found.as_ref());
    let is_own = matches!(desired.owner, Owner::Kubastion(_));
    if found.is_some() && differs.is_empty() {
        return Ok(());
    }
    let unplanned: Vec<&Difference> = match (action, &found) {
        (Action::Create, None) => Vec::new(),
        (Action::Change, None) if is_own || desired.kind == ObjectKind::Nodes => {
            return Err(ChangeError::NotAsPlanned("it was deleted".into()));
        }
        (Action::Create, Some(_)) => differs.iter().collect(),
        (Action::Change, _) => differs.iter().filter(|d| !planned.contains(d)).collect(),
    };
    if !unplanned.is_empty() {
        return Err(ChangeError::NotAsPlanned(words(unplanned)));
    }
    let mut body = desired.body.clone();
    if let Some(found) = &found {
        let (field, at) = match is_own {
            true => ("resourceVersion", "/metadata/resourceVersion"),
            // Others write to theirs all the time: a kubelet to its node.
            false => ("uid", "/metadata/uid"),
        };
        body["metadata"][field] = json!(text(found, at));
    }
    // Also where something is only missing: it may be in a list that somebody else owns as a whole.
    let takes = is_own || differs.iter().any(|d| d.is.is_some());
    let conflicts = match action {
        Action::Change if takes => Conflicts::Force,
        _ => Conflicts::Refuse,
    };
    let sent = client.apply(&path, &body, conflicts)?;
    let mut left = differences(desired, Some(&sent));
    if is_own && action == Action::Change && !left.is_empty() {
        // Server-side apply leaves the fields of other managers, and an object of kubastion's has none.
        let empty = Value::Null;
        let (is, wanted) = (sent.get("spec"), desired.body.get("spec"));
        let patch = merge_patch(is.unwrap_or(&empty), wanted.unwrap_or(&empty));
        let version = text(&sent, "/metadata/resourceVersion");
        let body = json!({"metadata": {"resourceVersion": version}, "spec": patch});
        left = differences(desired, Some(&client.patch(&path, &body)?));
    }
    if left.is_empty() { Ok(()) } else { Err(ChangeError::StillDiffers(words(&left))) }
}

fn only_anonymous(binding: &Value) -> bool {
    list(binding, "/subjects").iter().all(|s| ANONYMOUS.contains(&text(s, "/name")))
}

/// Takes the anonymous subjects out of a binding. Whoever came since the plan was made stays.
fn drop_anonymous(client: &mut Client<'_>, namespace: &str, name: &str) -> Result<(), ChangeError> {
    let kind = if namespace.is_empty() {
        ObjectKind::ClusterRoleBindings
    } else {
        ObjectKind::RoleBindings
    };
    let path = path(kind, namespace, name)?;
    let Some(binding) = client.find(&HttpRequest::get(&path))? else { return Ok(()) };
    let subjects: Vec<&Value> = list(&binding, "/subjects")
        .iter()
        .filter(|s| !ANONYMOUS.contains(&text(s, "/name")))
        .collect();
    let body = json!({
        "metadata": {
            // A concurrent change is never overwritten silently.
            "resourceVersion": text(&binding, "/metadata/resourceVersion"),
            // Without the annotation, the API server puts the subjects of its own bindings back when it
            // starts (RBAC documentation, "Auto-reconciliation").
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"},
        },
        "subjects": subjects,
    });
    client.patch(&path, &body)?;
    Ok(())
}

/// kubeadm's own way of writing them, on the node of the connection: releases differ in what they write.
fn upload_configuration(client: &mut Client<'_>) -> Result<(), ChangeError> {
    const WITHIN: Duration = Duration::from_secs(180);
    let script = format!("{MEMBER_SCRIPT}\n{UPLOAD_SCRIPT}");
    let request = Request {
        script: &script,
        input: &mut std::io::empty(),
        deadline: WITHIN,
        max_output: 64 * 1024,
        stays: false,
    };
    let output = client.through.run(request, &mut |_| {}).map_err(ChangeError::Node)?;
    match output.status {
        0 => Ok(()),
        _ => Err(ChangeError::Kubeadm(plain(String::from_utf8_lossy(&output.stdout).trim()))),
    }
}
