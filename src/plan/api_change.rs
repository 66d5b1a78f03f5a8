//! One change of an object of the cluster's API, as a plan holds it.

use crate::controls::IdList;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::desired::cluster_cas::CaPlace;
use crate::desired::differences::Difference;
use crate::facts::cluster::{name, namespace, text};
use crate::inventory::NodeName;
use crate::plain::plain_line;

/// One change of an object. Each names all it does: apply decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ApiChange {
    /// Delete a join token: nodes join with their own certificates.
    DeleteToken {
        /// Name of the Secret in kube-system.
        name: String,
    },
    /// Delete a binding that lets the holder of a bootstrap token become a node.
    DeleteBootstrapBinding {
        /// Its name.
        name: String,
    },
    /// Delete the binding that lets the holder of a bootstrap token read the keys of control planes.
    DeleteCertificatesBinding {
        /// Its name, in kube-system.
        name: String,
    },
    /// Delete a binding that grants a role to anonymous users only.
    DeleteRoleBinding {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Take the anonymous subjects out of a binding, and keep Kubernetes from putting them back into one of
    /// its own.
    KeepSubjects {
        /// Namespace of a RoleBinding; empty for a ClusterRoleBinding.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        namespace: String,
        /// Its name.
        name: String,
        /// Names of the groups and users that stay.
        keep: Vec<String>,
    },
    /// Sign a kubelet's request for a serving certificate that says what the inventory says.
    Approve {
        /// Name of the CertificateSigningRequest.
        name: String,
        /// The node that asked.
        node: NodeName,
    },
    /// Write kubeadm's ConfigMaps and kube-proxy's anew, from the files on a control plane: kubeadm-config, kubelet-config and
    /// kube-proxy in kube-system.
    UploadConfiguration,
    /// Write exactly the CAs that the key store trusts into a ConfigMap of the cluster.
    SetCas {
        /// Which one.
        place: CaPlace,
        /// SHA-256 of the certificates that it lacks.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        adds: Vec<String>,
        /// SHA-256 of those that are not among them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        drops: Vec<String>,
    },
    /// Make an object of a manifest of the bundle, or change what differs in it, by server-side apply. What is sent is in the
    /// bundle: it may hold secrets.
    Bundled {
        /// Which of the two.
        action: Action,
        /// The manifest.
        file: String,
        /// `apiVersion` of the object.
        api_version: String,
        /// Its kind.
        kind: String,
        /// Its namespace; empty for one that names none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        namespace: String,
        /// Its name.
        name: String,
        /// Lower-case hexadecimal SHA-256 of what is sent, as JSON.
        sha256: String,
        /// What is changed; apply changes nothing else. Empty for an object that is made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differs: Vec<Difference>,
    },
    /// Make an object that should exist, or change what differs in it, by server-side apply.
    Apply {
        /// Which of the two.
        action: Action,
        /// What is sent.
        object: Value,
        /// What is changed; apply changes nothing else. Empty for an object that is made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differs: Vec<Difference>,
        /// The name of another object of its namespace: if that could not be sent in the same run, this is not either.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Controls that want it.
        #[serde(default, skip_serializing_if = "IdList::is_empty")]
        controls: IdList,
    },
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The object is created.
    Create,
    /// Fields of the object change.
    Change,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Create => "create",
            Action::Change => "change",
        })
    }
}

impl fmt::Display for ApiChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApiChange::DeleteToken { name } => {
                write!(f, "delete join token {}", plain_line(name))
            }
            ApiChange::DeleteBootstrapBinding { name } => {
                let name = plain_line(name);
                write!(
                    f,
                    "delete ClusterRoleBinding {name}, which lets holders of bootstrap tokens become nodes"
                )
            }
            ApiChange::DeleteCertificatesBinding { name } => write!(
                f,
                "delete RoleBinding kube-system/{}, which lets holders of bootstrap tokens read control planes' keys",
                plain_line(name)
            ),
            ApiChange::DeleteRoleBinding { namespace, name } => {
                let (namespace, name) = (plain_line(namespace), plain_line(name));
                write!(f, "delete RoleBinding {namespace}/{name}, which names anonymous users")
            }
            ApiChange::KeepSubjects { namespace, name, keep } => {
                let verb = match keep.is_empty() {
                    true => "remove all subjects from".to_owned(),
                    false => format!("keep only {} in", plain_line(&keep.join(", "))),
                };
                let name = plain_line(name);
                match namespace.as_str() {
                    "" => write!(f, "{verb} ClusterRoleBinding {name}"),
                    space => write!(f, "{verb} RoleBinding {}/{name}", plain_line(space)),
                }
            }
            ApiChange::Approve { name, node } => {
                write!(f, "approve {}, a serving certificate for {node}", plain_line(name))
            }
            ApiChange::UploadConfiguration => f.write_str(
                "update kubeadm's ConfigMaps in kube-system and kube-proxy's from its files on the control planes \
                 (restarts kube-proxy if its own changes)",
            ),
            ApiChange::SetCas { place, adds, drops } => {
                let of = |what: &str, all: &[String]| {
                    let short: Vec<&str> = all.iter().map(|s| s.get(..16).unwrap_or(s)).collect();
                    (!short.is_empty()).then(|| plain_line(&format!("{what} {}", short.join(", "))))
                };
                let what = of("adding", adds).into_iter().chain(of("removing", drops));
                let what = what.collect::<Vec<_>>().join(", ");
                write!(f, "write the CAs of the key store into {place}, {what} (SHA-256)")
            }
            ApiChange::Bundled { action, file, kind, namespace, name, differs, .. } => {
                let space = if namespace.is_empty() { "" } else { "/" };
                let what = plain_line(&format!("{kind} {namespace}{space}{name} ({file})"));
                write!(f, "{action} {what}")?;
                write_differences(f, differs)
            }
            ApiChange::Apply { action, object, differs, .. } => {
                write!(f, "{action} {}", called(object))?;
                write_differences(f, differs)
            }
        }
    }
}

fn write_differences(f: &mut fmt::Formatter<'_>, differs: &[Difference]) -> fmt::Result {
    for (i, difference) in differs.iter().take(SHOWN).enumerate() {
        write!(f, "{} {difference}", if i == 0 { ":" } else { ";" })?;
    }
    match differs.len().checked_sub(SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => write!(f, "; and {more} more"),
    }
}

/// How many differences one line names; the plan's JSON and `--verbose` have all of them.
const SHOWN: usize = 3;

/// Kind, namespace and name of an object.
pub(crate) fn called(object: &Value) -> String {
    let (word, name) = (text(object, "/kind"), name(object));
    plain_line(&match namespace(object) {
        "" => format!("{word} {name}"),
        space => format!("{word} {space}/{name}"),
    })
}

impl ApiChange {
    /// Whether a plan holds it: word for word, or, of what nobody can name before, by its kind. Of an object, less may be left
    /// to change than the plan shows, and nothing else.
    pub fn is_in(
        &self,
        plan: &[ApiChange],
        starts: bool,
        configured: impl Fn(&NodeName) -> bool,
    ) -> bool {
        plan.iter().any(|planned| self == planned || self.is_part_of(planned))
            || match self {
                ApiChange::DeleteToken { .. } => starts,
                // The kubelet of a node that the plan makes part of the cluster, or starts again, asks when it starts.
                ApiChange::Approve { node, .. } => configured(node),
                _ => false,
            }
    }

    fn is_part_of(&self, planned: &ApiChange) -> bool {
        use ApiChange::{Apply, Bundled, SetCas};
        if let (Bundled { differs: due, .. }, Bundled { differs: shown, .. }) = (self, planned) {
            let mut same = self.clone();
            if let Bundled { differs, .. } = &mut same {
                differs.clone_from(shown);
            }
            return same == *planned && due.iter().all(|one| shown.contains(one));
        }
        if let (SetCas { place, adds, drops }, SetCas { place: shown, adds: into, drops: out }) =
            (self, planned)
        {
            // Meanwhile, an API server may have added its own.
            return place == shown
                && adds.iter().all(|one| into.contains(one))
                && drops.iter().all(|one| out.contains(one));
        }
        let (Apply { action, object, differs, .. }, Apply { action: a, object: o, differs: d, .. }) =
            (self, planned)
        else {
            return false;
        };
        (action, object) == (a, o) && differs.iter().all(|one| d.contains(one))
    }

    /// Namespace and name of the object that it sends.
    pub fn object(&self) -> Option<(&str, &str)> {
        match self {
            ApiChange::Apply { object, .. } => Some((namespace(object), name(object))),
            _ => None,
        }
    }

    /// Namespace and name of the object that has to be there before.
    pub fn after(&self) -> Option<(&str, &str)> {
        match self {
            ApiChange::Apply { object, after: Some(first), .. } => Some((namespace(object), first)),
            _ => None,
        }
    }

    /// Whether it is about a `Node`.
    pub fn is_about_a_node(&self) -> bool {
        matches!(self, ApiChange::Apply { object, .. } if text(object, "/kind") == "Node")
    }
}
