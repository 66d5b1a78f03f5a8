//! A cgroup subtree per node.
//!
//! On cgroup v1 and hybrid hosts a node must not share a hierarchy with another one: kubelets that
//! do delete each other's pods. So each hierarchy gets `kubastion-lab/ID/NODE`, systemd-nspawn
//! starts inside, and its cgroup namespace makes that the node's root. On cgroup v2 the same holds
//! for the one hierarchy there is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::Error;
use super::process;

/// Directory in each hierarchy that holds all labs.
const LABS: &str = "kubastion-lab";

/// The mount points of all cgroup hierarchies of this machine, below `/sys/fs/cgroup`.
pub(super) fn hierarchies() -> Result<Vec<PathBuf>, Error> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(parse_hierarchies(&text))
}

/// proc_pid_mountinfo(5): the mount point is field 5, the type the first field behind ` - `.
fn parse_hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let kind = right.split(' ').next()?;
            let point = left.split(' ').nth(4)?;
            (matches!(kind, "cgroup" | "cgroup2") && point.starts_with("/sys/fs/cgroup"))
                .then(|| PathBuf::from(point))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn lab_dir(hierarchy: &Path, id: &str) -> PathBuf {
    hierarchy.join(LABS).join(id)
}

/// Makes the directories above the nodes' and returns the node's directory in each hierarchy.
pub(super) fn prepare(id: &str, node: &str) -> Result<Vec<PathBuf>, Error> {
    let mut dirs = Vec::new();
    for hierarchy in hierarchies()? {
        enable_controllers(&hierarchy);
        let mut dir = hierarchy.clone();
        for part in [LABS, id] {
            dir.push(part);
            std::fs::create_dir_all(&dir).map_err(Error::io("make", &dir))?;
            inherit_cpuset(&dir)?;
            enable_controllers(&dir);
        }
        dirs.push(dir.join(node));
    }
    Ok(dirs)
}

/// A v1 cpuset starts empty and then accepts no process: copies its parent's, and lets every group
/// made below do the same (cgroup.clone_children).
fn inherit_cpuset(dir: &Path) -> Result<(), Error> {
    if !dir.join("cpuset.mems").exists() || !dir.join("cgroup.clone_children").exists() {
        return Ok(());
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = dir.parent().unwrap_or(dir).join(file);
        let value = std::fs::read_to_string(&parent).map_err(Error::io("read", &parent))?;
        let path = dir.join(file);
        std::fs::write(&path, value).map_err(Error::io("write", &path))?;
    }
    let path = dir.join("cgroup.clone_children");
    std::fs::write(&path, "1").map_err(Error::io("write", &path))
}

/// On v2, hands every available controller to the groups below. What cannot be handed down (a
/// controller bound to v1, a parent that holds processes) is left out: the node then sees fewer
/// controllers, which is a fact about this machine.
fn enable_controllers(dir: &Path) {
    let Ok(available) = std::fs::read_to_string(dir.join("cgroup.controllers")) else { return };
    for controller in available.split_whitespace() {
        let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// The ids of all processes of a node, or of all nodes of a lab, in any hierarchy.
pub(super) fn processes(id: &str, node: Option<&str>) -> Result<Vec<i32>, Error> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies()? {
        let mut dir = lab_dir(&hierarchy, id);
        dir.extend(node);
        collect_processes(&dir, &mut pids);
    }
    pids.sort_unstable();
    pids.dedup();
    // Zero stands for a process that this pid namespace cannot see.
    pids.retain(|&pid| pid > 0);
    Ok(pids)
}

fn collect_processes(dir: &Path, pids: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    }
    for child in children(dir) {
        collect_processes(&child, pids);
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Kills every process of a node and waits until none is left; returns those that are.
pub(super) fn kill_all(id: &str, node: &str, deadline: Duration) -> Result<Vec<i32>, Error> {
    let end = Instant::now() + deadline;
    loop {
        let pids = processes(id, Some(node))?;
        if pids.is_empty() || Instant::now() >= end {
            return Ok(pids);
        }
        for &pid in &pids {
            process::kill(pid);
        }
        // A frozen process dies only when it is thawed.
        freeze(id, node, Freeze::Off)?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a node's processes stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freeze {
    On,
    Off,
}

/// Freezes or thaws a node with the v1 freezer or with v2's cgroup.freeze; does nothing if the
/// node has no cgroup.
pub(super) fn freeze(id: &str, node: &str, state: Freeze) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let dir = lab_dir(&hierarchy, id).join(node);
        let (v1, v2) = (dir.join("freezer.state"), dir.join("cgroup.freeze"));
        let (path, text) = match state {
            Freeze::On if v1.exists() => (v1, "FROZEN"),
            Freeze::Off if v1.exists() => (v1, "THAWED"),
            Freeze::On if v2.exists() => (v2, "1"),
            Freeze::Off if v2.exists() => (v2, "0"),
            _ => continue,
        };
        match std::fs::write(&path, text) {
            Ok(()) => {}
            // The node ended in between.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("write", path)(e)),
        }
    }
    Ok(())
}

/// Removes a lab's cgroups, and the common parent if it was the last lab. A group that still has a
/// process stays; the caller has reported that process.
pub(super) fn remove(id: &str) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        remove_tree(&lab_dir(&hierarchy, id));
        let _ = std::fs::remove_dir(hierarchy.join(LABS));
    }
    Ok(())
}

fn remove_tree(dir: &Path) {
    for child in children(dir) {
        remove_tree(&child);
    }
    // The kernel frees a group shortly after its last process, so one refusal proves nothing.
    for _ in 0..50 {
        match std::fs::remove_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_has_many_hierarchies_and_a_unified_one() {
        let text = "\
30 29 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:3 - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
40 30 0:29 / /mnt/elsewhere rw - cgroup2 cgroup2 rw";
        let found = parse_hierarchies(text);
        let names: Vec<_> = found.iter().map(|p| p.display().to_string()).collect();
        assert_eq!(
            names,
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
        );
        let v2 = "24 23 0:22 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(parse_hierarchies(v2), [PathBuf::from("/sys/fs/cgroup")]);
    }
}
