//! Every object of a resource is written again, some at a time over each of several connections.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::execution::Execution;
use crate::api::rewrite::{self, Named};
use crate::api::{ApiAccess, ApiError, Client};
use crate::error::chain;
use crate::event::with_reminders;
use crate::inventory::{Node, NodeName};
use crate::plain::counted;
use crate::transport::{Transport, fleet};

/// Connections at once, over all control planes.
const WORKERS: usize = 4;
/// How often a list is begun anew because etcd does not have it any more (`--etcd-compaction-interval`, five minutes).
const BEGINS: usize = 20;
/// How long API servers that do not answer are waited for.
const PATIENCE: Duration = Duration::from_secs(90);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_secs(2);
/// Objects that are named of those that could not be written.
const NAMED: usize = 5;

/// Writes all of them again.
///
/// # Errors
/// Why some or all of them were not.
pub(super) fn carry_out(c: &Execution<'_>, resource: &str) -> Result<(), String> {
    let access = c.api.ok_or("the key store has no administrator certificate")?;
    let first = access.servers.first().map(|(name, _)| name).ok_or("there is no control plane")?;
    with_reminders(c.sink, first, |reminder| {
        let mut said = |done: usize, all: usize| {
            reminder.waits_for(&format!("`{resource}` to be rewritten ({done} of {all})"));
        };
        Rewriting { c, access, resource }.carry_out(&mut said)
    })
}

struct Rewriting<'a> {
    c: &'a Execution<'a>,
    access: &'a ApiAccess,
    resource: &'a str,
}

/// A control plane whose API server answers, and the connection to it.
struct Worker {
    session: Box<dyn Transport>,
    address: IpAddr,
}

impl Rewriting<'_> {
    fn carry_out(&self, said: &mut dyn FnMut(usize, usize)) -> Result<(), String> {
        let mut workers = self.workers()?;
        let mut failed: Vec<(Named, ApiError)> = Vec::new();
        let mut begun = 0;
        'anew: while begun < BEGINS {
            begun += 1;
            let path =
                self.ask(&mut workers, |client| rewrite::list_path(client, self.resource))?;
            let Some(path) = path else { return Ok(()) };
            failed.clear();
            let (mut from, mut done) = (None, 0);
            loop {
                let page = self
                    .asking(&mut workers, |client| rewrite::page(client, &path, from.as_deref()));
                let page = match page {
                    Err(e) if e.status() == Some(410) => continue 'anew,
                    // No such resource.
                    Err(e) if e.is_not_found() => return Ok(()),
                    other => other.map_err(|e| chain(&e))?,
                };
                let all = done + page.objects.len() + page.more;
                said(done, all);
                done += page.objects.len();
                failed.extend(self.write(&mut workers, &path, page.objects)?);
                from = page.next;
                if from.is_none() {
                    return report(&failed, done);
                }
            }
        }
        Err("the list changes faster than it can be read".into())
    }

    /// Connections of their own, spread over the control planes that answer.
    fn workers(&self) -> Result<Vec<Worker>, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut last = String::from("there is no control plane");
            let mut open: Vec<Worker> = Vec::new();
            let nodes = &self.c.inventory.nodes;
            let server = |(name, address): &(NodeName, IpAddr)| {
                Some((nodes.iter().find(|n| n.name == *name)?, *address))
            };
            let servers: Vec<(&Node, IpAddr)> =
                self.access.servers.iter().filter_map(server).collect();
            let mut able: Vec<(&Node, IpAddr)> = Vec::new();
            for (node, address) in servers {
                match self.worker(node, address) {
                    Ok(worker) => {
                        open.push(worker);
                        able.push((node, address));
                    }
                    Err(why) => last = format!("{}: {why}", node.name),
                }
            }
            for (node, address) in able.iter().cycle().take(WORKERS.saturating_sub(open.len())) {
                open.extend(self.worker(node, *address));
            }
            if !open.is_empty() {
                return Ok(open);
            }
            if Instant::now() >= deadline {
                return Err(last);
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn worker(&self, node: &Node, address: IpAddr) -> Result<Worker, String> {
        let dialed = self.c.dialer.connect(&self.c.inventory.ssh.for_node(node));
        let mut session = dialed.map_err(|e| chain(&e))?;
        let mut client = Client::new(session.as_mut(), address, self.access);
        rewrite::list_path(&mut client, self.resource).map_err(|e| chain(&e))?;
        Ok(Worker { session, address })
    }

    /// Asks one of them, and another one where it does not answer.
    fn asking<R>(
        &self,
        workers: &mut Vec<Worker>,
        question: impl Fn(&mut Client<'_>) -> Result<R, ApiError>,
    ) -> Result<R, ApiError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut last = ApiError::NoAnswer("no API server answers".into());
            for worker in workers.iter_mut() {
                let mut client = Client::new(worker.session.as_mut(), worker.address, self.access);
                match question(&mut client) {
                    Err(e) if is_passing(&e) => last = e,
                    other => return other,
                }
            }
            if Instant::now() >= deadline {
                return Err(last);
            }
            std::thread::sleep(AGAIN);
            if let Ok(again) = self.workers() {
                *workers = again;
            }
        }
    }

    fn ask<R>(
        &self,
        workers: &mut Vec<Worker>,
        question: impl Fn(&mut Client<'_>) -> Result<R, ApiError>,
    ) -> Result<R, String> {
        self.asking(workers, question).map_err(|e| chain(&e))
    }

    /// Writes the objects of a page, and returns those that could not be.
    fn write(
        &self,
        workers: &mut Vec<Worker>,
        path: &str,
        objects: Vec<Named>,
    ) -> Result<Vec<(Named, ApiError)>, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut left = objects;
        let mut failed = Vec::new();
        loop {
            let each = left.len().div_ceil(workers.len().max(1)).max(1);
            let chunks = left.chunks(each).map(<[Named]>::to_vec);
            let work: Vec<(&mut Worker, Vec<Named>)> = workers.iter_mut().zip(chunks).collect();
            let results = fleet::each(work, WORKERS, |(worker, chunk)| {
                let mut client = Client::new(worker.session.as_mut(), worker.address, self.access);
                let written = rewrite::rewrite_all(&mut client, path, &chunk);
                (chunk, written)
            });
            let mut again = Vec::new();
            let mut last = String::new();
            for (chunk, written) in results {
                match written {
                    Ok(not) => {
                        for (object, e) in not {
                            match is_passing(&e) {
                                true => {
                                    last = chain(&e);
                                    again.push(object);
                                }
                                false => failed.push((object, e)),
                            }
                        }
                    }
                    // Those of them that were written are found changed, and left alone.
                    Err(e) => {
                        last = chain(&e);
                        again.extend(chunk);
                    }
                }
            }
            if again.is_empty() {
                return Ok(failed);
            }
            if Instant::now() >= deadline {
                return Err(last);
            }
            std::thread::sleep(AGAIN);
            *workers = self.workers()?;
            left = again;
        }
    }
}

/// Whether the same may be answered a moment later: the server was started again, or has too much to do.
fn is_passing(e: &ApiError) -> bool {
    e.is_no_answer() || matches!(e.status(), Some(429 | 500 | 502 | 503 | 504))
}

fn report(failed: &[(Named, ApiError)], all: usize) -> Result<(), String> {
    if failed.is_empty() {
        return Ok(());
    }
    let some = failed.iter().take(NAMED).map(|(o, e)| format!("{}: {}", o.words(), chain(e)));
    let some: Vec<String> = some.collect();
    let count = counted(failed.len(), "object");
    Err(format!("{count} of {all} could not be rewritten: {}", some.join("; ")))
}
