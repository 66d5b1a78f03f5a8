//! Progress on standard error: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::{Event, Sink};
use crate::inventory::NodeName;

/// Draws events. One line a node on a terminal; elsewhere a line when a node begins, waits or ends.
pub struct Monitor {
    view: View,
}

enum View {
    Bars { all: MultiProgress, nodes: Mutex<BTreeMap<NodeName, ProgressBar>> },
    Lines,
    Json,
}

impl Monitor {
    /// Bars if standard error is a terminal, else lines.
    pub fn for_people() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let view = if std::io::stderr().is_terminal() && !dumb {
            View::Bars { all: MultiProgress::new(), nodes: Mutex::default() }
        } else {
            View::Lines
        };
        Self { view }
    }

    /// One JSON object a line on standard error.
    pub fn for_machines() -> Self {
        Self { view: View::Json }
    }
}

/// Leaves the last bar's line, so that what is printed next begins on one of its own.
impl Drop for Monitor {
    fn drop(&mut self) {
        if let View::Bars { nodes, .. } = &self.view
            && nodes.lock().is_ok_and(|n| !n.is_empty())
        {
            // Nobody to tell if standard error is closed.
            let _ = writeln!(std::io::stderr().lock());
        }
    }
}

impl Sink for Monitor {
    fn send(&self, event: Event) {
        match &self.view {
            View::Json => {
                let line = serde_json::to_string(&event).expect("an event has only strings");
                // Nobody to tell if standard error is closed.
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
            View::Lines => {
                let line = match &event {
                    Event::Begin { node, what, steps } => format!("{node}: {what} ({steps} steps)"),
                    Event::Step { .. } => return,
                    Event::Waiting { node, what } => format!("{node}: waiting for {what}"),
                    Event::End { node, how, good } => {
                        format!("{node}: {}{how}", if *good { "" } else { "FAILED: " })
                    }
                };
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
            View::Bars { all, nodes } => {
                let mut nodes = nodes.lock().expect("no thread panics while holding it");
                draw(all, &mut nodes, &event);
            }
        }
    }
}

fn draw(all: &MultiProgress, nodes: &mut BTreeMap<NodeName, ProgressBar>, event: &Event) {
    let (Event::Begin { node, .. }
    | Event::Step { node, .. }
    | Event::Waiting { node, .. }
    | Event::End { node, .. }) = event;
    let bar = nodes.entry(node.clone()).or_insert_with(|| {
        let bar = all.add(ProgressBar::new(0));
        // A template without user input cannot be malformed; the default is good enough if it is.
        let style =
            ProgressStyle::with_template("{prefix:14} {bar:20} {pos:>3}/{len:<3} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_prefix(node.to_string());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    });
    match event {
        Event::Begin { what, steps, .. } => {
            bar.reset();
            bar.set_length(*steps as u64);
            bar.set_message(what.clone());
        }
        Event::Step { number, what, .. } => {
            bar.set_position(*number as u64);
            bar.set_message(what.clone());
        }
        Event::Waiting { what, .. } => bar.set_message(format!("waiting for {what}")),
        Event::End { how, good, .. } => {
            bar.abandon_with_message(if *good { how.clone() } else { format!("FAILED: {how}") });
        }
    }
}
