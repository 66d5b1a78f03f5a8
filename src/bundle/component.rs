//! The components that bundles know: what they bring, and how their versions are written.

/// How the version of a component is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionStyle {
    /// `v1.2.3`, as in release tags.
    Tag,
    /// `3.10` or `3.10.2`.
    Plain,
}

impl VersionStyle {
    /// Whether a text is a version of this style. A suffix such as `-rc.1` is part of it.
    pub fn accepts(self, version: &str) -> bool {
        let (prefix, lengths) = match self {
            VersionStyle::Tag => ("v", 3..=3),
            VersionStyle::Plain => ("", 2..=3),
        };
        let Some(rest) = version.strip_prefix(prefix) else { return false };
        let (numbers, suffix) = match rest.split_once('-') {
            Some((numbers, suffix)) => (numbers, Some(suffix)),
            None => (rest, None),
        };
        let number =
            |n: &str| !n.is_empty() && n.len() <= 6 && n.bytes().all(|c| c.is_ascii_digit());
        let plain = |s: &str| {
            !s.is_empty()
                && s.len() <= 32
                && s.bytes().all(|c| c.is_ascii_alphanumeric() || b".-".contains(&c))
        };
        lengths.contains(&numbers.split('.').count())
            && numbers.split('.').all(number)
            && suffix.is_none_or(plain)
    }

    /// What is accepted, as a phrase.
    pub fn allowed(self) -> &'static str {
        match self {
            VersionStyle::Tag => "a version is written as its release tag, as in \"v3.6.8\"",
            VersionStyle::Plain => "a version is two or three numbers in quotes, as in \"3.10.2\"",
        }
    }
}

/// A component that bundles know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentRow {
    /// Name in manifests, `versions.yaml` and on the command line.
    pub name: &'static str,
    /// How its version is written.
    pub style: VersionStyle,
    /// Programs that it brings, and whether a bundle must have them.
    pub binaries: &'static [(&'static str, Need)],
    /// Images that it brings, without tag; the tag is the component's version.
    pub images: &'static [&'static str],
}

/// When something must be in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Always.
    Always,
    /// If any other of the container runtime is: the runtime comes whole or from the distribution.
    WithRuntime,
    /// Never.
    Optional,
}

/// Every component, sorted by name.
pub const COMPONENTS: &[ComponentRow] = &[
    ComponentRow { name: "cni-plugins", style: VersionStyle::Tag, binaries: &[], images: &[] },
    ComponentRow {
        name: "containerd",
        style: VersionStyle::Tag,
        binaries: &[
            ("containerd", Need::WithRuntime),
            ("containerd-shim-runc-v2", Need::WithRuntime),
            ("ctr", Need::WithRuntime),
        ],
        images: &[],
    },
    ComponentRow {
        name: "coredns",
        style: VersionStyle::Tag,
        binaries: &[],
        images: &["registry.k8s.io/coredns/coredns"],
    },
    ComponentRow {
        name: "etcd",
        style: VersionStyle::Tag,
        binaries: &[("etcd", Need::Always), ("etcdctl", Need::Always), ("etcdutl", Need::Optional)],
        images: &[],
    },
    ComponentRow {
        name: "kubernetes",
        style: VersionStyle::Tag,
        binaries: &[
            ("kubeadm", Need::Always),
            ("kubectl", Need::Always),
            ("kubelet", Need::Always),
        ],
        images: &[
            "registry.k8s.io/kube-apiserver",
            "registry.k8s.io/kube-controller-manager",
            "registry.k8s.io/kube-proxy",
            "registry.k8s.io/kube-scheduler",
        ],
    },
    ComponentRow {
        name: "pause",
        style: VersionStyle::Plain,
        binaries: &[],
        images: &["registry.k8s.io/pause"],
    },
    ComponentRow {
        name: "runc",
        style: VersionStyle::Tag,
        binaries: &[("runc", Need::WithRuntime)],
        images: &[],
    },
];

impl ComponentRow {
    /// The component of a name.
    pub fn find(name: &str) -> Option<&'static ComponentRow> {
        COMPONENTS.iter().find(|c| c.name == name)
    }

    /// The component that brings a program, and when the program is needed.
    pub fn of_binary(program: &str) -> Option<(&'static ComponentRow, Need)> {
        COMPONENTS.iter().find_map(|row| {
            let found = row.binaries.iter().find(|(name, _)| *name == program);
            found.map(|(_, need)| (row, *need))
        })
    }

    /// The component that brings an image.
    pub fn of_image(reference: &str) -> Option<&'static ComponentRow> {
        let name = reference.rsplit_once(':').map_or(reference, |(name, _)| name);
        COMPONENTS.iter().find(|row| row.images.contains(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_in_one_way() {
        for good in ["v1.36.2", "v3.6.0-rc.1", "v10.0.0"] {
            assert!(VersionStyle::Tag.accepts(good), "{good}");
        }
        for bad in ["1.36.2", "v1.36", "v1.36.2.1", "v1..2", "v1.2.x", "v1.2.3-", "v1.2.3-a/b", ""]
        {
            assert!(!VersionStyle::Tag.accepts(bad), "{bad}");
        }
        assert!(VersionStyle::Plain.accepts("3.10") && VersionStyle::Plain.accepts("3.10.2"));
        assert!(!VersionStyle::Plain.accepts("v3.10") && !VersionStyle::Plain.accepts("3"));
    }

    #[test]
    fn the_table_of_components_is_sorted_and_without_overlaps() {
        assert!(COMPONENTS.is_sorted_by_key(|c| c.name));
        let mut names: Vec<&str> =
            COMPONENTS.iter().flat_map(|c| c.binaries.iter().map(|(n, _)| *n)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
