//! Files and directories that root runs or reads on every node, which only root may replace.

/// Directories and small files: a plan takes the right to write them from others.
pub const GUARDED: [&str; 33] = [
    "/etc/apt/apt.conf.d",
    "/etc/apt/sources.list.d",
    "/etc/audit/rules.d",
    "/etc/cron.d",
    "/etc/crontab",
    "/etc/default",
    "/etc/environment",
    "/etc/group",
    "/etc/hosts",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/modules-load.d",
    "/etc/nsswitch.conf",
    "/etc/pam.d",
    "/etc/passwd",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/security",
    "/etc/shadow",
    "/etc/ssh/sshd_config",
    "/etc/ssh/sshd_config.d",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/sysctl.d",
    "/etc/systemd/system",
    "/root/.bashrc",
    "/root/.profile",
    "/root/.ssh/authorized_keys",
    "/usr/lib/systemd/system",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/var/lib/kubastion",
];

/// Programs, which are judged alone: reading them for each plan would cost more than all the rest.
pub const PROGRAMS: [&str; 4] = ["/bin/bash", "/bin/sh", "/usr/sbin/nft", "/usr/sbin/sshd"];

/// Where units of systemd look for programs, in this order
/// (<https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html>, `ExecSearchPath`; `/snap/bin` on Ubuntu).
pub const PROGRAM_DIRECTORIES: [&str; 7] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin"];

/// Directories that come before those of packages.
pub const LOCAL_DIRECTORIES: [&str; 2] = ["/usr/local/sbin", "/usr/local/bin"];

/// Programs that daemons start by their names: one of the same name in a [local directory](LOCAL_DIRECTORIES)
/// would run in its place, also where no package has one. Of what packages have, every name counts.
pub const STARTED_BY_NAME: [&str; 57] = [
    "containerd-shim-runc-v2",
    "crun",
    "runc",
    // Of kubelets, container runtimes and CNI plugins.
    "apparmor_parser",
    "blkid",
    "btrfs",
    "conntrack",
    "criu",
    "cryptsetup",
    "ctd-decoder",
    "dmsetup",
    "ebtables",
    "ethtool",
    "fsck",
    "fusermount",
    "getsubids",
    "ip",
    "ip6tables",
    "ip6tables-restore",
    "ip6tables-save",
    "ipset",
    "iptables",
    "iptables-restore",
    "iptables-save",
    "iscsiadm",
    "losetup",
    "lvm",
    "mkfs",
    "mkfs.btrfs",
    "mkfs.ext2",
    "mkfs.ext3",
    "mkfs.ext4",
    "mkfs.xfs",
    "modprobe",
    "mount",
    "mount.ceph",
    "mount.cifs",
    "mount.glusterfs",
    "mount.nfs",
    "multipath",
    "newgidmap",
    "newuidmap",
    "nft",
    "nsenter",
    "resize2fs",
    "systemctl",
    "systemd-run",
    "umount",
    "umount.nfs",
    "xfs_growfs",
    "xfs_io",
    "xfs_repair",
    "zfs",
    // In place of gzip, where they are there.
    "igzip",
    "unpigz",
    // Of sshd and of people.
    "sh",
    "sudo",
];

/// Distributions let their log daemon's group write here, and nothing below is run.
pub const LOGS: &str = "/var/log";
