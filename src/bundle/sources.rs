//! Where releases are published, how their checksums are, and which versions go together.
//!
//! The checksums come from the same hosts over the same TLS: they find a damaged or exchanged file,
//! not a project whose release host was taken over.

use super::model::Architecture;
use crate::inventory::KubernetesVersion;
use crate::kubernetes::Release;

/// A file that a project publishes.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Component that it belongs to; its version goes into the URLs.
    pub component: &'static str,
    /// URL with `{version}` (`v3.6.8`), `{number}` (`3.6.8`) and `{arch}`.
    pub url: &'static str,
    /// URL of the SHA-256, with the same placeholders.
    pub checksum_url: &'static str,
    /// How it is written there.
    pub checksum: ChecksumForm,
    /// What is taken out of the file.
    pub content: Content,
}

/// How a published SHA-256 is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumForm {
    /// The digits alone.
    Bare,
    /// Lines of `sha256sum`: digits, white space, perhaps `*`, and the file name. Other lines, such
    /// as those of a PGP signature around it, are skipped.
    Lines,
}

/// What is taken out of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It is a program.
    Program(&'static str),
    /// It is a tar.gz with programs: path in it (with placeholders) and name.
    Programs(&'static [(&'static str, &'static str)]),
    /// It is a tar.gz of CNI plugins, all of which are taken.
    Plugins,
}

/// Everything that is fetched as a file. Images come from registries.
pub const SOURCES: &[Source] = &[
    kubernetes("kubeadm"),
    kubernetes("kubectl"),
    kubernetes("kubelet"),
    // https://github.com/etcd-io/etcd/releases: one SHA256SUMS for all files of a release.
    Source {
        component: "etcd",
        url: "https://github.com/etcd-io/etcd/releases/download/{version}/etcd-{version}-linux-{arch}.tar.gz",
        checksum_url: "https://github.com/etcd-io/etcd/releases/download/{version}/SHA256SUMS",
        checksum: ChecksumForm::Lines,
        content: Content::Programs(&[
            ("etcd-{version}-linux-{arch}/etcd", "etcd"),
            ("etcd-{version}-linux-{arch}/etcdctl", "etcdctl"),
            ("etcd-{version}-linux-{arch}/etcdutl", "etcdutl"),
        ]),
    },
    // https://github.com/containerd/containerd/releases: the static build needs no C library of a
    // certain age on the node.
    Source {
        component: "containerd",
        url: "https://github.com/containerd/containerd/releases/download/{version}/containerd-static-{number}-linux-{arch}.tar.gz",
        checksum_url: "https://github.com/containerd/containerd/releases/download/{version}/containerd-static-{number}-linux-{arch}.tar.gz.sha256sum",
        checksum: ChecksumForm::Lines,
        content: Content::Programs(&[
            ("bin/containerd", "containerd"),
            ("bin/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
            ("bin/ctr", "ctr"),
        ]),
    },
    // https://github.com/opencontainers/runc/releases: the sums stand in a PGP-signed text.
    Source {
        component: "runc",
        url: "https://github.com/opencontainers/runc/releases/download/{version}/runc.{arch}",
        checksum_url: "https://github.com/opencontainers/runc/releases/download/{version}/runc.sha256sum",
        checksum: ChecksumForm::Lines,
        content: Content::Program("runc"),
    },
    // https://github.com/containernetworking/plugins/releases
    Source {
        component: "cni-plugins",
        url: "https://github.com/containernetworking/plugins/releases/download/{version}/cni-plugins-linux-{arch}-{version}.tgz",
        checksum_url: "https://github.com/containernetworking/plugins/releases/download/{version}/cni-plugins-linux-{arch}-{version}.tgz.sha256",
        checksum: ChecksumForm::Lines,
        content: Content::Plugins,
    },
];

/// <https://kubernetes.io/docs/tasks/tools/install-kubectl-linux/>: binaries and their `.sha256`.
const fn kubernetes(program: &'static str) -> Source {
    let (url, checksum_url) = match program.as_bytes() {
        b"kubeadm" => (
            "https://dl.k8s.io/release/{version}/bin/linux/{arch}/kubeadm",
            "https://dl.k8s.io/release/{version}/bin/linux/{arch}/kubeadm.sha256",
        ),
        b"kubectl" => (
            "https://dl.k8s.io/release/{version}/bin/linux/{arch}/kubectl",
            "https://dl.k8s.io/release/{version}/bin/linux/{arch}/kubectl.sha256",
        ),
        _ => (
            "https://dl.k8s.io/release/{version}/bin/linux/{arch}/kubelet",
            "https://dl.k8s.io/release/{version}/bin/linux/{arch}/kubelet.sha256",
        ),
    };
    Source {
        component: "kubernetes",
        url,
        checksum_url,
        checksum: ChecksumForm::Bare,
        content: Content::Program(program),
    }
}

/// Fills the placeholders of a URL or path.
pub fn fill(template: &str, version: &str, architecture: Architecture) -> String {
    template
        .replace("{version}", version)
        .replace("{number}", version.trim_start_matches('v'))
        .replace("{arch}", architecture.as_str())
}

impl ChecksumForm {
    /// The SHA-256 of a file in a published text, as lower-case digits. `None` if it is not there.
    pub fn find(self, text: &str, file_name: &str) -> Option<String> {
        let digits = |word: &str| {
            let hex = word.len() == 64 && word.bytes().all(|c| c.is_ascii_hexdigit());
            hex.then(|| word.to_ascii_lowercase())
        };
        match self {
            ChecksumForm::Bare => digits(text.trim()),
            ChecksumForm::Lines => text.lines().find_map(|line| {
                let (sum, name) = line.split_once(char::is_whitespace)?;
                let name = name.trim().trim_start_matches('*').trim_start_matches("./");
                (name == file_name).then(|| digits(sum))?
            }),
        }
    }
}

/// What is the same for every minor release. etcd runs outside of kubeadm, which asks for 3.5.24 or
/// newer then (MinExternalEtcdVersion); 3.6 is the release that kubeadm 1.34 to 1.36 deploy.
const COMMON: &[(&str, &str)] =
    &[("cni-plugins", "v1.9.1"), ("containerd", "v2.2.7"), ("etcd", "v3.6.13"), ("runc", "v1.3.6")];

/// The versions of all components for a Kubernetes release, unless something else is asked for.
pub fn default_versions(kubernetes: KubernetesVersion) -> Vec<(&'static str, String)> {
    let release = Release::of(kubernetes.minor);
    let mut all: Vec<(&str, String)> =
        COMMON.iter().map(|(name, version)| (*name, (*version).to_owned())).collect();
    all.push(("coredns", release.coredns.to_owned()));
    all.push(("kubernetes", format!("v{kubernetes}")));
    all.push(("pause", release.pause.to_owned()));
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::component::{COMPONENTS, ComponentRow};
    use super::*;

    #[test]
    fn every_program_has_one_source_and_every_minor_its_versions() {
        let mut programs = Vec::new();
        for source in SOURCES {
            assert!(
                source.url.starts_with("https://") && source.checksum_url.starts_with("https://")
            );
            match source.content {
                Content::Program(name) => programs.push((source.component, name)),
                Content::Programs(all) => {
                    programs.extend(all.iter().map(|(_, name)| (source.component, *name)));
                }
                Content::Plugins => assert_eq!(source.component, "cni-plugins"),
            }
        }
        for (component, program) in &programs {
            assert_eq!(ComponentRow::of_binary(program).unwrap().0.name, *component);
        }
        let known: BTreeSet<&str> =
            COMPONENTS.iter().flat_map(|c| c.binaries.iter().map(|(n, _)| *n)).collect();
        assert_eq!(programs.iter().map(|(_, p)| *p).collect::<BTreeSet<_>>(), known);
        assert_eq!(programs.len(), known.len());
        for minor in KubernetesVersion::SUPPORTED_MINORS {
            let versions = default_versions(KubernetesVersion { minor, patch: 0 });
            let names: Vec<&str> = versions.iter().map(|(n, _)| *n).collect();
            let known: Vec<&str> = COMPONENTS.iter().map(|c| c.name).collect();
            assert_eq!(names, known);
            for (name, version) in versions {
                assert!(ComponentRow::find(name).unwrap().style.accepts(&version), "{name}");
            }
        }
    }

    #[test]
    fn checksums_are_found_in_every_published_form() {
        let sum = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";
        let lower = sum.to_ascii_lowercase();
        assert_eq!(ChecksumForm::Bare.find(&format!("{sum}\n"), "x"), Some(lower.clone()));
        assert_eq!(ChecksumForm::Bare.find("<html>not found</html>", "x"), None);
        assert_eq!(ChecksumForm::Bare.find(&sum[1..], "x"), None);
        let lines = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{}  runc.amd64.asc\n{sum} *runc.amd64\n{}  runc.arm64\n-----BEGIN PGP SIGNATURE-----\n",
            "0".repeat(64),
            "1".repeat(64)
        );
        assert_eq!(ChecksumForm::Lines.find(&lines, "runc.amd64"), Some(lower));
        assert_eq!(ChecksumForm::Lines.find(&lines, "runc"), None);
        assert_eq!(ChecksumForm::Lines.find("runc.amd64", "runc.amd64"), None);
    }

    #[test]
    fn placeholders_are_all_filled() {
        for source in SOURCES {
            for template in [source.url, source.checksum_url] {
                let url = fill(template, "v1.2.3", Architecture::Arm64);
                assert!(!url.contains(['{', '}']), "{url}");
                assert!(url.contains("1.2.3"), "{url}");
            }
        }
        let etcd = fill(SOURCES[3].url, "v3.6.8", Architecture::Amd64);
        assert!(etcd.ends_with("/v3.6.8/etcd-v3.6.8-linux-amd64.tar.gz"), "{etcd}");
    }
}
