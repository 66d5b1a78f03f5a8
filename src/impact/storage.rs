//! What is stored in etcd as it was sent.

use super::model::{Item, Seen};
use crate::checks::Verdict;
use crate::facts::cluster::ObjectKind;

/// Objects that the inventory wants encrypted, where an API server encrypts nothing.
pub(super) fn unencrypted(seen: &Seen<'_>) -> Result<Vec<Item>, String> {
    const CONTROL: &str = "apiserver-encryption-config";
    let mut servers = Vec::new();
    for finding in seen.findings.iter().filter(|f| f.control == CONTROL) {
        let fails = finding.evidence.iter().any(|e| matches!(e.verdict(), Verdict::Fail { .. }));
        servers.extend(finding.node().filter(|_| fails).map(ToString::to_string));
    }
    if servers.is_empty() {
        return Ok(Vec::new());
    }
    let mut items = Vec::new();
    for resource in &seen.inventory.encryption.resources {
        let (kind, count) = match resource.as_str() {
            "secrets" => ("Secret", seen.secrets.clone()?),
            "configmaps" => ("ConfigMap", seen.all(ObjectKind::ConfigMaps)?.len()),
            _ => continue,
        };
        let item = Item { count: Some((count, "object")), ..Item::new(kind, "", "") };
        items.push(item.saying("plain text from", servers.join(", ")));
    }
    Ok(items)
}
