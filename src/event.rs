//! What happens during a run, as data: the executor sends events, one monitor draws them.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::inventory::NodeName;

/// Something that happened on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A part of the work begins.
    Begin {
        /// The node.
        node: NodeName,
        /// What, as in `host: 14 steps`.
        what: String,
        /// Number of steps, if known.
        steps: usize,
    },
    /// A step begins.
    Step {
        /// The node.
        node: NodeName,
        /// Counted from 1.
        number: usize,
        /// What the step does.
        what: String,
    },
    /// The node waits for something.
    Waiting {
        /// The node.
        node: NodeName,
        /// For what.
        what: String,
    },
    /// An object of the cluster's API was changed, or could not be.
    Object {
        /// The change.
        what: String,
        /// Why it was not made.
        #[serde(skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// Bytes are read, written or fetched on the operator's side.
    Transfer {
        /// Which, as in `kubelet`.
        what: String,
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes in all, if known.
        total_bytes: Option<u64>,
    },
    /// A transfer is over.
    TransferEnd {
        /// Which.
        what: String,
        /// How it ended, in a few words.
        how: String,
        /// Whether that is as wanted.
        good: bool,
    },
    /// The node's part is over.
    End {
        /// The node.
        node: NodeName,
        /// How it ended, in a few words.
        how: String,
        /// Whether that is as wanted.
        good: bool,
    },
}

/// Where events go.
pub trait Sink: Sync {
    /// Takes one event. Must not block for long: nodes wait for it.
    fn send(&self, event: Event);
}

/// How often it is said again what is waited for.
pub const AGAIN: Duration = Duration::from_secs(15);

/// Hears what is waited for.
pub struct Reminder {
    /// What, and whether it is said at once.
    tell: Sender<(String, bool)>,
}

impl Reminder {
    /// Says what is waited for, unless it is the same as before, and reminds of it.
    pub fn waits_for(&self, what: &str) {
        self.tell(what.to_owned(), true);
    }

    /// Reminds of what was said otherwise.
    pub fn is_at(&self, what: String) {
        self.tell(what, false);
    }

    fn tell(&self, what: String, at_once: bool) {
        // The other end lives as long as this one.
        let _ = self.tell.send((what, at_once));
    }
}

/// Does work in which a node, or what it is asked for, may be silent for long: what is waited for is said again every
/// [`AGAIN`], with how long that has been.
pub fn with_reminders<R>(sink: &dyn Sink, node: &NodeName, work: impl FnOnce(&Reminder) -> R) -> R {
    remind_every(AGAIN, sink, node, work)
}

fn remind_every<R>(
    pause: Duration,
    sink: &dyn Sink,
    node: &NodeName,
    work: impl FnOnce(&Reminder) -> R,
) -> R {
    let say = |what: String| sink.send(Event::Waiting { node: node.clone(), what });
    let (tell, hear) = mpsc::channel::<(String, bool)>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut waiting: Option<(String, Instant)> = None;
            let mut next = Instant::now() + pause;
            loop {
                let heard = hear.recv_timeout(next.saturating_duration_since(Instant::now()));
                match (heard, &waiting) {
                    // The same again is no news, and does not put off the reminder.
                    (Ok((what, _)), Some((before, _))) if what == *before => continue,
                    (Ok((what, at_once)), _) => {
                        if at_once {
                            say(what.clone());
                        }
                        waiting = Some((what, Instant::now()));
                    }
                    (Err(RecvTimeoutError::Timeout), Some((what, since))) => {
                        say(format!("{what} (for {} s)", since.elapsed().as_secs()));
                    }
                    (Err(RecvTimeoutError::Timeout), None) => {}
                    // The work is over.
                    (Err(RecvTimeoutError::Disconnected), _) => return,
                }
                next = Instant::now() + pause;
            }
        });
        // Dropped also where the work panics, so that nobody waits for the thread for ever.
        let reminder = Reminder { tell };
        work(&reminder)
    })
}

/// Drops every event.
pub struct Silent;

impl Sink for Silent {
    fn send(&self, _: Event) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Heard(Mutex<Vec<String>>);

    impl Sink for Heard {
        fn send(&self, event: Event) {
            match event {
                Event::Waiting { node, what } => {
                    self.0.lock().unwrap().push(format!("{node}: {what}"));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_waited_for_is_said_when_it_changes_and_again_after_a_while() {
        let heard = Heard(Mutex::default());
        let node: NodeName = "n".parse().unwrap();
        let said = || heard.0.lock().unwrap().len();
        let pause = Duration::from_millis(50);
        let result = remind_every(pause, &heard, &node, |reminder| {
            std::thread::sleep(pause * 3);
            assert_eq!(said(), 0, "nothing is waited for yet");
            reminder.is_at("step 1".into());
            while said() < 1 {
                std::thread::sleep(pause);
            }
            reminder.waits_for("a");
            while said() < 4 {
                std::thread::sleep(pause / 5);
                reminder.waits_for("a");
            }
            reminder.waits_for("b");
            7
        });
        assert_eq!(result, 7);
        let all = heard.0.into_inner().unwrap();
        assert!(all[0].starts_with("n: step 1 (for "), "{all:?}");
        let again = all.iter().filter(|line| line.starts_with("n: a (for ")).count();
        assert!(again > 0, "{all:?}");
        assert_eq!(all.last().unwrap(), "n: b");
        assert_eq!(all.iter().filter(|line| *line == "n: a").count(), 1, "{all:?}");
    }
}
