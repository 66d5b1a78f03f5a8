//! Ids of controls, as plans name them for every step: some hundred thousand of them for a thousand nodes, and so no copies.

use serde::{Deserialize, Deserializer, Serialize};

use super::find;

/// Ids of controls in their order, each once. Written as a list of strings; of a list that is read, ids that the catalogue
/// has no more are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct IdList(Vec<&'static str>);

impl IdList {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn ids(&self) -> &[&'static str] {
        &self.0
    }
}

impl Extend<&'static str> for IdList {
    fn extend<I: IntoIterator<Item = &'static str>>(&mut self, ids: I) {
        for id in ids {
            if let Err(at) = self.0.binary_search(&id) {
                self.0.insert(at, id);
            }
        }
    }
}

impl FromIterator<&'static str> for IdList {
    fn from_iter<I: IntoIterator<Item = &'static str>>(ids: I) -> Self {
        let mut all: Vec<&'static str> = ids.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        all.shrink_to_fit();
        Self(all)
    }
}

impl<'de> Deserialize<'de> for IdList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Vec::<String>::deserialize(deserializer)?;
        Ok(written.iter().filter_map(|id| Some(find(id)?.id)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_once_and_known() {
        let mut list: IdList =
            ["host-sysctls", "host-auditd", "host-sysctls"].into_iter().collect();
        list.extend(["files-cni", "host-auditd"]);
        assert_eq!(list.ids(), ["files-cni", "host-auditd", "host-sysctls"]);
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(text, r#"["files-cni","host-auditd","host-sysctls"]"#);
        let read: IdList = serde_json::from_str(&text.replace("files-cni", "gone")).unwrap();
        assert_eq!(read.ids(), ["host-auditd", "host-sysctls"]);
    }
}
