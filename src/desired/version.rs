//! Versions of programs on a node.

use std::fmt;

/// Major, minor and patch release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// Out of a package's version, `[epoch:]upstream[-revision]`.
    pub fn of_package(text: &str) -> Option<Self> {
        let text = text.split_once(':').map_or(text, |(_, rest)| rest);
        Self::leading(text.trim_start_matches('v'))
    }

    /// The first word of a text that is a version, as in `etcd Version: 3.5.30`.
    pub fn in_text(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|w| Self::leading(w.strip_prefix('v').unwrap_or(w)))
    }

    /// Three numbers at the beginning of a text.
    fn leading(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse::<u16>().ok()
        });
        let mut next = || numbers.next().flatten();
        Some(Self(next()?, next()?, next().unwrap_or(0)))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn package_versions_of_both_families_are_read() {
        let cases = [
            ("3.4.23-4+b4", Version(3, 4, 23)),
            ("1.6.20~ds1-1+deb12u3", Version(1, 6, 20)),
            ("1:2.1.9-1.el9", Version(2, 1, 9)),
            ("1.7-3", Version(1, 7, 0)),
            ("v2.0.0", Version(2, 0, 0)),
        ];
        for (text, version) in cases {
            assert_eq!(Version::of_package(text), Some(version), "{text}");
        }
        assert_eq!(Version::of_package("unknown"), None);
        let said = "containerd github.com/containerd/containerd/v2 v2.1.9 0a1b2c";
        assert_eq!(Version::in_text(said), Some(Version(2, 1, 9)));
    }
}
