//! Progress on standard error: bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::{Event, Sink};
use crate::inventory::NodeName;
use crate::plain::{counted, plain};

/// Draws events. One line a node on a terminal; elsewhere a line when a node begins, waits or ends.
pub struct Monitor {
    view: View,
}

/// What a bar is about.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum BarOf {
    Node(NodeName),
    Transfer(String),
}

enum View {
    Bars { all: MultiProgress, bars: Mutex<BTreeMap<BarOf, ProgressBar>> },
    Lines,
    Json,
}

impl Monitor {
    /// Bars if standard error is a terminal, else lines.
    pub fn for_people() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let view = if std::io::stderr().is_terminal() && !dumb {
            View::Bars { all: MultiProgress::new(), bars: Mutex::default() }
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
        if let View::Bars { bars, .. } = &self.view
            && bars.lock().is_ok_and(|b| !b.is_empty())
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
                    // A reset learns its steps on the node.
                    Event::Begin { node, what, steps: 0 } => format!("{node}: {what}"),
                    Event::Begin { node, what, steps } => {
                        format!("{node}: {what} ({})", counted(*steps, "step"))
                    }
                    Event::Step { .. } | Event::Transfer { .. } => return,
                    Event::Waiting { node, what } => format!("{node}: waiting for {what}"),
                    Event::End { node, how, good } => format!("{node}: {}", ending(how, *good)),
                    Event::TransferEnd { what, how, good } => {
                        format!("{what}: {}", ending(how, *good))
                    }
                    Event::Object { what, problem } => object(what, problem.as_deref()),
                };
                let _ = writeln!(std::io::stderr().lock(), "{}", plain(&line));
            }
            View::Bars { all, bars } => {
                let mut bars = bars.lock().expect("no thread panics while holding it");
                draw(all, &mut bars, &event);
            }
        }
    }
}

fn ending(how: &str, good: bool) -> String {
    if good { how.to_owned() } else { format!("FAILED: {how}") }
}

fn object(what: &str, problem: Option<&str>) -> String {
    match problem {
        None => format!("cluster: {what}"),
        Some(why) => format!("cluster: FAILED: {what}: {why}"),
    }
}

fn draw(all: &MultiProgress, bars: &mut BTreeMap<BarOf, ProgressBar>, event: &Event) {
    if let Event::Object { what, problem } = event {
        // Nobody to tell if standard error is closed.
        let _ = all.println(plain(&object(what, problem.as_deref())));
        return;
    }
    let (subject, template) = match event {
        Event::Object { .. } => return,
        Event::Begin { node, .. }
        | Event::Step { node, .. }
        | Event::Waiting { node, .. }
        | Event::End { node, .. } => {
            let template = "{prefix:14} {bar:20} {pos:>3}/{len:<3} {wide_msg}";
            (BarOf::Node(node.clone()), template)
        }
        Event::Transfer { what, .. } | Event::TransferEnd { what, .. } => {
            let template = "{prefix:24} {bar:20} {bytes:>10}/{total_bytes:<10} {wide_msg}";
            (BarOf::Transfer(what.clone()), template)
        }
    };
    let bar = bars.entry(subject).or_insert_with_key(|subject| {
        let bar = all.add(ProgressBar::new(0));
        // A template without user input cannot be malformed; the default is good enough if it is.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_prefix(match subject {
            BarOf::Node(node) => node.to_string(),
            BarOf::Transfer(what) => what.clone(),
        });
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    });
    match event {
        Event::Begin { what, steps, .. } => {
            bar.reset();
            bar.set_length(*steps as u64);
            bar.set_message(plain(what));
        }
        Event::Step { number, what, .. } => {
            bar.set_position(*number as u64);
            bar.set_message(plain(what));
        }
        Event::Object { .. } => {}
        Event::Waiting { what, .. } => bar.set_message(plain(&format!("waiting for {what}"))),
        Event::Transfer { done_bytes, total_bytes, .. } => {
            bar.set_length(total_bytes.unwrap_or(*done_bytes));
            bar.set_position(*done_bytes);
        }
        Event::End { how, good, .. } | Event::TransferEnd { how, good, .. } => {
            bar.abandon_with_message(plain(&ending(how, *good)));
        }
    }
}
