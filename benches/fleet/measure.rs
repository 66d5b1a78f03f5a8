//! A process with all its descendants: how long it takes, how much of the processors and of memory.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a run took.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Cost {
    /// From start to end.
    pub wall_s: f64,
    /// User and system time of the process and all its descendants.
    pub cpu_s: f64,
    /// The most memory at a time, each shared page once (the sum of the processes' PSS).
    pub memory_mb: f64,
}

/// Descendants whose parent ends are ours from now on, so that nothing they use is lost.
pub fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
}

/// Runs a command to its end, which must be a good one, and `after`, which ends what it left running.
/// `other` is a child whose descendants are not counted. Returns what was printed too.
pub fn run(command: &mut Command, other: u32, after: impl FnOnce()) -> (Cost, String) {
    let cpu_before = cpu_of_ended_children();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| peak(&done, other));
        let begun = Instant::now();
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        let wall_s = begun.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let memory_mb = sampler.join().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{command:?}\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        after();
        reap();
        (Cost { wall_s, cpu_s: cpu_of_ended_children() - cpu_before, memory_mb }, said)
    })
}

/// Waits for adopted children that are ending.
fn reap() {
    use rustix::process::{WaitOptions, waitpid};
    let until = Instant::now() + Duration::from_secs(5);
    let mut quiet = 0;
    while quiet < 5 && Instant::now() < until {
        match waitpid(None, WaitOptions::NOHANG) {
            Ok(Some(_)) => quiet = 0,
            _ => {
                quiet += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// proc_pid_stat(5), fields from the third on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = &text[text.rfind(')')? + 2..];
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// Seconds of user and system time of all descendants that were waited for.
fn cpu_of_ended_children() -> f64 {
    let fields = stat(std::process::id()).unwrap();
    // cutime and cstime, in ticks of 10 ms (sysconf(_SC_CLK_TCK) is 100 on Linux).
    fields[13..15].iter().map(|f| f.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Megabytes at the peak, looked at often in the first second and then less: looking costs time too.
fn peak(done: &AtomicBool, other: u32) -> f64 {
    let begun = Instant::now();
    let mut peak = 0.0f64;
    while !done.load(Ordering::Relaxed) {
        peak = peak.max(descendants(other).into_iter().filter_map(pss_mb).sum());
        let early = begun.elapsed() < Duration::from_secs(1);
        std::thread::sleep(Duration::from_millis(if early { 40 } else { 250 }));
    }
    peak
}

fn pss_mb(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|l| l.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kb| kb / 1000.0)
}

/// All descendants of this process, without those of one child.
fn descendants(other: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut queue = vec![std::process::id()];
    while let Some(pid) = queue.pop() {
        let children = children(pid).into_iter().filter(|c| *c != other);
        for child in children {
            found.push(child);
            queue.push(child);
        }
    }
    found
}

/// Children of every thread of a process; none if it has ended.
fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|w| w.parse().ok()).collect::<Vec<_>>())
        .collect()
}
