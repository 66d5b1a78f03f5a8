//! Digests of what a node answered, part by part: they are taken of the bytes as they came, before anything is read
//! out of them.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::digest::Digest;

/// A part of what a node is asked: of `collect.sh` or of `live.sh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Everything that `collect.sh` answered.
    Everything,
    /// What kind of machine it is, and whether its kernel audits.
    Machine,
    /// Versions of programs that no package brought.
    Versions,
    /// Active swap areas.
    Swaps,
    /// Values in /proc/sys.
    Settings,
    /// Installed packages.
    Packages,
    /// States of units.
    Units,
    /// Listening sockets.
    Listeners,
    /// Effective settings of sshd.
    Sshd,
    /// What sshd's files set for some connections.
    SshdMatches,
    /// nftables, and what was recorded of our table.
    Nft,
    /// Command lines of daemons.
    Processes,
    /// Security modules.
    SecurityModules,
    /// Synchronization of the clock.
    Time,
    /// Loaded audit rules.
    AuditRules,
    /// Directory trees.
    Trees,
    /// State of paths.
    Stat,
    /// Processes of daemons with their programs, parents and environment.
    LiveProcesses,
    /// Files as the node sees them, and as daemons in mount namespaces of their own do.
    FilesInside,
    /// Sockets with their owners.
    LiveSockets,
    /// Units as systemd has read them.
    LiveUnits,
    /// Mounts that came or went, and from when to when the journal tells.
    Mounts,
    /// What is no regular file among files.
    Irregular,
    /// Variables that systemd gives to everything.
    Manager,
    /// Which files no package brought.
    Owned,
    /// Which files of packages were changed.
    Verified,
    /// Programs that run as their owner.
    SetId,
    /// File capabilities.
    Capabilities,
    /// Keys that everybody can read.
    Keys,
    /// Who may write paths.
    Paths,
    /// What others put beside our files.
    LiveTrees,
    /// Access control lists.
    Acls,
    /// Kernel settings of each interface.
    Interfaces,
    /// Programs that shadow others.
    Shadows,
    /// Libraries in the order in which programs get them.
    Libraries,
    /// Files of sysctl.d(5).
    SysctlFiles,
    /// Our table in the kernel.
    Rules,
    /// What our rules file makes of an empty kernel.
    FileRules,
    /// Rules of other tables.
    ForeignRules,
    /// Rules of the older iptables.
    LegacyRules,
    /// Containers that belong to no pod.
    Containers,
    /// apt's settings.
    Apt,
    /// Options of apt's sources.
    AptSources,
    /// Packages that are held.
    Held,
    /// Package sources.
    PackageSources,
    /// Accounts.
    Accounts,
    /// Kubeconfigs in home directories.
    Kubeconfigs,
    /// What wants a reboot.
    Reboot,
}

/// Which program answers a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `collect.sh`.
    Collect,
    /// `live.sh`.
    Live,
}

impl Part {
    /// Every part with the program that answers it, the names of its sections or records there, and what is run on the node
    /// for it. A command that has a path, a key or a unit as its argument is named without it.
    pub const ALL: &'static [(Part, Program, &'static [&'static str], &'static str)] = {
        use Program::{Collect, Live};
        &[
            (Part::Everything, Collect, &[], "collect.sh, the whole answer"),
            (
                Part::Machine,
                Collect,
                &["node"],
                "cat /run/systemd/container; stat /sys/fs/cgroup/cgroup.controllers; auditctl -s",
            ),
            (
                Part::Versions,
                Collect,
                &["versions"],
                "/usr/local/{sbin,bin}/{containerd,etcd,kubelet} --version",
            ),
            (Part::Swaps, Collect, &["swaps"], "cat /proc/swaps"),
            (Part::Settings, Collect, &["read"], "grep -s '' /proc/sys"),
            (Part::Packages, Collect, &["packages"], "dpkg-query -W or rpm -q"),
            (
                Part::Units,
                Collect,
                &["units"],
                "systemctl list-units --all --plain, and the links below /etc/systemd/system",
            ),
            (Part::Listeners, Collect, &["listeners"], "ss -Hlntu"),
            (Part::Sshd, Collect, &["sshd"], "sshd -T"),
            (
                Part::SshdMatches,
                Collect,
                &["matches"],
                "awk on /etc/ssh/sshd_config and what it includes, for Match lines",
            ),
            (
                Part::Nft,
                Collect,
                &["nft"],
                "nft list tables; nft list chains; nft -s list table inet kubastion | awk | sha256sum; \
                 cat /var/lib/kubastion/firewall.loaded",
            ),
            (
                Part::Processes,
                Collect,
                &["processes"],
                "grep -xF on /proc/[0-9]*/comm; cat /proc/PID/cmdline; stat -c %U /proc/PID",
            ),
            (
                Part::SecurityModules,
                Collect,
                &["extras"],
                "cat /sys/kernel/security/lsm /sys/module/apparmor/parameters/enabled \
                 /sys/fs/selinux/enforce",
            ),
            (
                Part::Time,
                Collect,
                &["extras"],
                "timedatectl show -p NTPSynchronized; chronyc -n -c tracking",
            ),
            (Part::AuditRules, Collect, &["extras"], "auditctl -l"),
            (Part::Trees, Collect, &["trees"], "find -xdev -printf '%y %m %u %g %s %p'"),
            (Part::Stat, Collect, &["stat"], "stat -c '%f %U %G %s %n'"),
            (
                Part::LiveProcesses,
                Live,
                &["process"],
                "cat /proc/PID/stat /proc/PID/cmdline /proc/PID/environ /proc/PID/maps; \
                 readlink /proc/PID/exe /proc/PID/ns/net",
            ),
            (
                Part::FilesInside,
                Live,
                &["files", "inside"],
                "sha256sum of files below /etc/kubernetes, /etc/etcd and /etc/containerd, \
                 also below /proc/PID/root",
            ),
            (Part::LiveSockets, Live, &["sockets"], "ss -Hlntup"),
            (
                Part::LiveUnits,
                Live,
                &["unit"],
                "systemctl show -p LoadState -p ActiveState -p FragmentPath -p DropInPaths \
                 -p NeedDaemonReload -p MainPID -p StateChangeTimestampMonotonic",
            ),
            (
                Part::Mounts,
                Live,
                &["mounts", "journal"],
                "journalctl -q -b -o json --output-fields=UNIT _PID=1, for mount units, and for its first and \
                 last entry; systemctl show -p LogLevel -p LogTarget",
            ),
            (
                Part::Irregular,
                Live,
                &["irregular"],
                "find -xtype p -o -xtype b -o -xtype c -o -xtype s, on /etc and directories of \
                 configuration",
            ),
            (
                Part::Manager,
                Live,
                &["manager", "manager-file"],
                "systemctl show-environment; grep Environment on /etc/systemd/system.conf and its \
                 drop-ins",
            ),
            (
                Part::Owned,
                Live,
                &["modules", "owned"],
                "grep -xF on /var/lib/dpkg/info/*.list or rpm -qf, for what /proc/PID/maps, \
                 /etc/nsswitch.conf and openssl.cnf name",
            ),
            (Part::Verified, Live, &["verified"], "dpkg --verify or rpm -V"),
            (Part::SetId, Live, &["setid"], "find -xdev -type f -perm /6000"),
            (
                Part::Capabilities,
                Live,
                &["capable", "capables"],
                "find -xdev -type f -perm /111 -print0 | tar --xattrs -cvvf /dev/null",
            ),
            (
                Part::Keys,
                Live,
                &["keys"],
                "find -perm -o=r and grep on /root, /home, /opt, /etc, /srv, /tmp, /var/tmp and /mnt, \
                 for private keys",
            ),
            (
                Part::Paths,
                Live,
                &["paths"],
                "find -maxdepth 0 -printf '%y %m %U %u %C@ %p\\0%l\\0'",
            ),
            (
                Part::LiveTrees,
                Live,
                &["trees"],
                "find -maxdepth 4 -printf '%y %m %U %u %C@ %p\\0%l\\0' on /etc/systemd/system, \
                 what systemd reads before it, /etc/ssh, /etc/containerd, /etc/kubernetes and /etc/etcd",
            ),
            (Part::Acls, Live, &["acls"], "ls -ldbn, for lines with a plus"),
            (Part::Interfaces, Live, &["interfaces"], "grep -s '' /proc/sys/net/*/conf/*"),
            (
                Part::Shadows,
                Live,
                &["shadows"],
                "test -e on names of /usr/local/sbin and /usr/local/bin in /usr/sbin, /usr/bin, \
                 /sbin and /bin",
            ),
            (Part::Libraries, Live, &["libraries"], "ldconfig -p"),
            (
                Part::SysctlFiles,
                Live,
                &["sysctl"],
                "head -c 65537 /usr/lib/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf \
                 /run/sysctl.d/*.conf /etc/sysctl.d/*.conf",
            ),
            (Part::Rules, Live, &["rules"], "nft -j list table inet kubastion"),
            (
                Part::FileRules,
                Live,
                &["file-rules"],
                "unshare -n sh -c 'nft -f /etc/kubastion/firewall.nft && \
                 nft -j list table inet kubastion'",
            ),
            (
                Part::ForeignRules,
                Live,
                &["foreign"],
                "nft -j list chain, for those of other tables",
            ),
            (Part::LegacyRules, Live, &["legacy"], "iptables-save; ip6tables-save"),
            (Part::Containers, Live, &["containers"], "ctr containers ls -q, in each namespace"),
            (
                Part::Apt,
                Live,
                &["apt"],
                "apt-config dump --format '%F=%v%n', of what is about updates",
            ),
            (
                Part::AptSources,
                Live,
                &["apt-source"],
                "cat /etc/apt/sources.list /etc/apt/sources.list.d/*",
            ),
            (Part::Held, Live, &["held"], "apt-mark showhold"),
            (Part::PackageSources, Live, &["sources"], "apt-cache policy"),
            (Part::Accounts, Live, &["accounts"], "sed on /etc/passwd, /etc/shadow and /etc/group"),
            (
                Part::Kubeconfigs,
                Live,
                &["kubeconfig"],
                "find and grep on home directories, for client-certificate",
            ),
            (
                Part::Reboot,
                Live,
                &["reboot"],
                "test -e /run/reboot-required; sort -u /run/reboot-required.pkgs",
            ),
        ]
    };

    fn row(self) -> &'static (Part, Program, &'static [&'static str], &'static str) {
        Self::ALL.iter().find(|row| row.0 == self).expect("a test walks all parts")
    }

    /// The program that answers it.
    pub fn program(self) -> Program {
        self.row().1
    }

    /// What is run on the node for it.
    pub fn command(self) -> &'static str {
        self.row().3
    }
}

/// What one program answered, as digests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// When the answer was there, by this machine's clock; `None` of one that did not come from a node.
    pub read: Option<OffsetDateTime>,
    /// Of the whole answer.
    whole: Option<Digest>,
    /// By the name of a section or record.
    named: BTreeMap<&'static str, Digest>,
    /// Of files in /proc/sys, by dotted key.
    settings: BTreeMap<String, Digest>,
}

impl Answers {
    /// Of a whole answer, its named parts, and the files of /proc/sys among them by dotted key.
    pub(super) fn new(
        whole: &[u8],
        named: BTreeMap<&'static str, Digest>,
        settings: BTreeMap<String, Digest>,
    ) -> Self {
        Self { read: None, whole: Some(Digest::of(whole)), named, settings }
    }

    /// Of a part; `None` if the node gave no answer to it.
    pub fn of(&self, part: Part) -> Option<Digest> {
        match part.row().2 {
            [] => self.whole,
            [one] => self.named.get(one).copied(),
            several => {
                let all: Option<Vec<&Digest>> =
                    several.iter().map(|name| self.named.get(name)).collect();
                let texts: Vec<String> = all?.into_iter().map(|d| format!("{d}\n")).collect();
                Some(Digest::of_pieces(texts.iter().map(String::as_bytes)))
            }
        }
    }

    /// Of a kernel setting's file below /proc/sys, by its dotted key.
    pub fn setting(&self, key: &str) -> Option<Digest> {
        self.settings.get(key).copied()
    }

    /// An answer to everything, for tests of what comes after it.
    #[cfg(test)]
    pub(crate) fn played(settings: impl IntoIterator<Item = String>) -> Self {
        let names = Part::ALL.iter().flat_map(|row| row.2);
        let named = names.map(|name| (*name, Digest::of(name))).collect();
        let settings = settings.into_iter().map(|key| {
            let digest = Digest::of(&key);
            (key, digest)
        });
        let mut answers = Self::new(b"played", named, settings.collect());
        answers.read = Some(time::macros::datetime!(2026-02-01 11:59:58 UTC));
        answers
    }

    /// Without a part, for tests of what comes of that.
    #[cfg(test)]
    pub(crate) fn forget(&mut self, part: Part) {
        match part.row().2 {
            [] => self.whole = None,
            names => names.iter().for_each(|name| {
                self.named.remove(name);
            }),
        }
        if part == Part::Settings {
            self.settings.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::live::RECORDS;
    use crate::facts::parse::SECTIONS;

    #[test]
    fn every_part_is_one_that_its_program_answers() {
        for (at, (part, program, names, command)) in Part::ALL.iter().enumerate() {
            assert_eq!(Part::ALL.iter().position(|row| row.0 == *part), Some(at), "{part:?}");
            let known: Vec<&str> = match program {
                Program::Collect => SECTIONS.to_vec(),
                Program::Live => RECORDS.iter().map(|r| r.0).collect(),
            };
            assert!(names.iter().all(|n| known.contains(n)), "{part:?}");
            assert!(!command.contains("  ") && !command.is_empty(), "{part:?}: {command}");
        }
    }

    #[test]
    fn of_what_was_not_answered_there_is_no_digest() {
        let mut answers = Answers::played([]);
        assert!(Part::ALL.iter().all(|row| answers.of(row.0).is_some()));
        for &(part, ..) in Part::ALL {
            answers.forget(part);
            assert_eq!(answers.of(part), None, "{part:?}");
        }
        assert_eq!(Answers::default().of(Part::Everything), None);
    }
}
