//! What etcd holds of a resource, told apart by what values begin with. The values themselves are not kept.

use std::collections::BTreeSet;

/// What every value begins with that an API server has encrypted (k8s.io/apiserver, pkg/server/options/encryptionconfig).
const ENCRYPTED: &str = "k8s:enc:";

/// Stored objects of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// All of them.
    pub objects: usize,
    /// Those in plain text.
    pub plain: usize,
    /// What others begin with that are encrypted, and not with a wanted key.
    pub other: BTreeSet<String>,
}

impl Stored {
    /// Counts one by what its value begins with, of which 256 bytes are enough.
    pub fn count(&mut self, value: &[u8], wanted: &[String]) {
        self.objects += 1;
        if wanted.iter().any(|head| value.starts_with(head.as_bytes())) {
            return;
        }
        if !value.starts_with(ENCRYPTED.as_bytes()) {
            self.plain += 1;
            return;
        }
        // Provider, version and name of the key.
        let parts: Vec<&[u8]> = value.split(|b| *b == b':').take(5).collect();
        let said = parts.join(&b':');
        self.other
            .insert(crate::plain::plain(&String::from_utf8_lossy(&said[..said.len().min(100)])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_by_what_they_begin_with() {
        let wanted = ["k8s:enc:secretbox:v1:k1:".to_owned()];
        let mut stored = Stored::default();
        for value in [
            &b"k8s:enc:secretbox:v1:k1:\x00\xff"[..],
            b"k8s:enc:secretbox:v1:k10:\x00",
            b"k8s\x00\n\x0c\n\x02v1\x12\x06Secret",
            b"{\"kind\":\"Secret\"}",
            b"k8s:enc",
            b"",
            b"k8s:enc:aescbc:v1:k1:\x1b[2J",
        ] {
            stored.count(value, &wanted);
        }
        assert_eq!((stored.objects, stored.plain), (7, 4));
        let other: Vec<&str> = stored.other.iter().map(String::as_str).collect();
        assert_eq!(other, ["k8s:enc:aescbc:v1:k1", "k8s:enc:secretbox:v1:k10"]);
    }
}
