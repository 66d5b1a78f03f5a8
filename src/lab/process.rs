//! Processes of this machine, identified so that a reused id is never mistaken for the old one.

use std::path::Path;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::error::Error;

/// A process: its id, when it started and during which boot of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks after boot, field 22 of proc_pid_stat(5).
    pub started_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id` when it was started.
    pub host_boot_id: String,
}

impl Process {
    /// A process that is running now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self { pid, started_ticks: stat.started_ticks, host_boot_id: host_boot_id().ok()? })
    }

    /// Whether the same process still runs.
    pub(super) fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|s| {
            s.started_ticks == self.started_ticks
                && s.state != 'Z'
                && host_boot_id().is_ok_and(|id| id == self.host_boot_id)
        })
    }
}

/// The few fields of `/proc/PID/stat` that a lab needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    started_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name is in parentheses and may itself hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The id of this machine's boot.
pub(super) fn host_boot_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.trim().to_owned())
}

/// Sends SIGKILL. That the process is gone already is not an error.
pub(super) fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

/// Sends SIGTERM. That the process is gone already is not an error.
pub(super) fn terminate(pid: i32) {
    signal(pid, Signal::TERM);
}

fn signal(pid: i32, signal: Signal) {
    // Zero and negative numbers address groups of processes.
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The children of a process, ascending.
pub(super) fn children(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<i32> =
        pids.filter(|&pid| Stat::read(pid).is_some_and(|s| s.parent == parent)).collect();
    found.sort_unstable();
    found
}

/// Whether a process is the first of a pid namespace below this one (`NSpid` ends with 1).
pub(super) fn is_init_of_namespace(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix("NSpid:")).is_some_and(|ids| {
        let ids: Vec<&str> = ids.split_whitespace().collect();
        ids.len() > 1 && ids.last() == Some(&"1")
    })
}

/// When a process started, as wall-clock time.
pub(super) fn started_at(pid: i32) -> Option<OffsetDateTime> {
    let ticks = Stat::read(pid)?.started_ticks;
    let stat = std::fs::read_to_string(Path::new("/proc/stat")).ok()?;
    let boot: i64 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    // USER_HZ is 100 on every architecture that Debian 12 and 13 support.
    OffsetDateTime::from_unix_timestamp(boot + i64::try_from(ticks / 100).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 2";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat, Stat { state: 'S', parent: 7, started_ticks: 9876 });
    }

    #[test]
    fn a_reused_process_id_is_not_the_old_process() {
        let me = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!Process { started_ticks: me.started_ticks + 1, ..me.clone() }.is_alive());
        assert!(!Process { host_boot_id: "another".into(), ..me }.is_alive());
    }
}
