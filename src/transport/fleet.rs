//! Many nodes at once: a bounded pool of threads with a sliding window.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Nodes that are worked on at the same time, unless the work says otherwise.
pub const WINDOW: usize = 32;

/// Lets this process have as many files open as its administrator allows. Every node that was looked at
/// keeps its connection until the end of the run, and the usual limit is 1,024 (getrlimit(2)).
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it cannot be raised, small fleets work all the same.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Runs `work` for every item on at most `window` threads and returns the results in the order of
/// the items. One slow or failing item holds up nobody else.
///
/// # Panics
/// If `work` panics, after the other threads have ended.
pub fn each<I: Send, R: Send>(
    items: Vec<I>,
    window: usize,
    work: impl Fn(I) -> R + Sync,
) -> Vec<R> {
    let total = items.len();
    let queue: Mutex<VecDeque<(usize, I)>> = Mutex::new(items.into_iter().enumerate().collect());
    let results: Mutex<Vec<Option<R>>> = Mutex::new((0..total).map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..window.clamp(1, total.max(1)) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread panics while holding it").pop_front();
                    let Some((index, item)) = next else { break };
                    let result = work(item);
                    results.lock().expect("no thread panics while holding it")[index] =
                        Some(result);
                }
            });
        }
    });
    let results = results.into_inner().expect("all threads have ended");
    results.into_iter().map(|r| r.expect("every item was worked on")).collect()
}

#[cfg(test)]
mod tests {
    use super::each;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn order_is_kept_and_the_window_is_never_exceeded() {
        let (now, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let out = each((0..100).collect(), 7, |i| {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            i * 2
        });
        assert_eq!(out, (0..100).map(|i| i * 2).collect::<Vec<_>>());
        assert!(peak.load(Ordering::SeqCst) <= 7);
    }
}
