//! What a node costs on the wire: connections, programs and round trips, counted by a proxy before its sshd.
//! Latency is paid for each of them, so that none may come in unnoticed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kubastion::desired::Item;
use kubastion::inventory::{Files, Node, SshTarget};
use kubastion::transport::{Dialer, Output, Request, Rounds, Stream, Transport, TransportError};
use kubastion::workflow::observe;

use crate::apply::{file, guarded};
use crate::support::fleet::{Lent, borrow};
use crate::support::proxy::{Proxy, Traffic};

/// Long enough that what is sent together arrives together.
const RTT: Duration = Duration::from_millis(20);

/// Round trips of a login: TCP 1, versions and key exchange 2, service 1, public key 2.
const LOGIN: u64 = 6;
/// Of a program: its channel, its start, and its input with the answer.
const EXEC: u64 = 3;
/// Of the next one, where the shell has stayed.
const NEXT: u64 = 1;

/// A lent node that is reached through a proxy.
struct Measured {
    node: Lent,
    proxy: Proxy,
}

/// What some work took.
#[derive(Debug)]
struct Taken {
    wire: Traffic,
    execs: u64,
}

/// Counts the programs that run over all its connections, in new shells or such as stayed.
struct Counting<'d> {
    dialer: &'d dyn Dialer,
    execs: Arc<AtomicU64>,
}

impl Dialer for Counting<'_> {
    fn connect(&self, target: &SshTarget) -> Result<Box<dyn Transport>, TransportError> {
        let inner = self.dialer.connect(target)?;
        Ok(Box::new(Counted { inner, execs: Arc::clone(&self.execs) }))
    }
}

struct Counted {
    inner: Box<dyn Transport>,
    execs: Arc<AtomicU64>,
}

impl Transport for Counted {
    fn run(
        &mut self,
        request: Request<'_>,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Output, TransportError> {
        self.execs.fetch_add(1, Ordering::Relaxed);
        self.inner.run(request, on_line)
    }

    fn dial(
        &mut self,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<Box<dyn Stream + '_>, TransportError> {
        self.execs.fetch_add(1, Ordering::Relaxed);
        self.inner.dial(host, port, timeout)
    }

    fn host_key(&self) -> &str {
        self.inner.host_key()
    }

    fn rounds(&self) -> Rounds {
        self.inner.rounds()
    }
}

impl Measured {
    fn borrow(test: &str) -> Option<Self> {
        let mut node = borrow(test, "w1")?;
        let sshd = SocketAddr::new(node.node().internal_ip(), 22);
        let proxy = Proxy::start(&[((Ipv4Addr::LOCALHOST, 0).into(), sshd)], RTT);
        let front = proxy.fronts()[0];
        let name = node.name.clone();
        let own = node.inventory.nodes.iter_mut().find(|n| n.name == name).unwrap();
        own.ssh.host = Some(front.ip().to_string().parse().unwrap());
        own.ssh.port = Some(front.port());
        Some(Self { node, proxy })
    }

    /// The least that some work takes, of three times: on a busy machine an answer comes in two parts, which
    /// can look like one round trip more.
    fn least(&self, mut work: impl FnMut(usize, &dyn Dialer)) -> Taken {
        let runs = (0..3).map(|i| {
            let execs = Arc::new(AtomicU64::new(0));
            let dialer = Counting { dialer: &self.node.dialer, execs: Arc::clone(&execs) };
            self.proxy.take();
            work(i, &dialer);
            Taken { wire: self.proxy.take(), execs: execs.load(Ordering::Relaxed) }
        });
        runs.min_by_key(|t| t.wire.round_trips).unwrap()
    }

    fn look(&self, dialer: &dyn Dialer) -> observe::Fleet {
        let nodes: [&Node; 1] = [self.node.node()];
        let fleet = observe::read_nodes(&self.node.inventory, &Files::default(), &nodes, dialer);
        assert!(fleet.facts.failed.is_empty(), "{:?}", fleet.facts.failed);
        fleet
    }

    /// Looks, and applies a plan for some items over the same connection, as `kubastion apply` does.
    fn apply(&self, items: Vec<Item>, dialer: &dyn Dialer) {
        let (plan, desired) = self.node.plan(items);
        // A test plans over a connection of its own, which is not what is measured.
        self.proxy.take();
        let session = self.look(dialer).sessions.remove(&self.node.name).unwrap();
        let outcomes = self.node.apply_over(session, &plan, &desired, dialer);
        assert!(!outcomes.is_empty());
        assert!(outcomes.iter().all(|o| o.1.is_good()), "{outcomes:?}");
    }
}

#[test]
fn looking_at_a_node_is_one_connection_and_one_exec() {
    let Some(node) = Measured::borrow("looking_at_a_node") else { return };
    let taken = node.least(|_, dialer| drop(node.look(dialer)));
    assert_eq!((taken.wire.connections, taken.execs), (1, 1), "{taken:?}");
    assert!(taken.wire.round_trips <= LOGIN + EXEC, "{taken:?}");
    assert!(taken.wire.up < 45_000 && taken.wire.down < 60_000, "{taken:?}");
}

#[test]
fn an_apply_of_files_is_one_round_trip_more() {
    let Some(node) = Measured::borrow("an_apply_of_files") else { return };
    let taken = node.least(|run, dialer| {
        let content = |n: usize| format!("file {n} of run {run}\n").repeat(200);
        let items = (0..40).map(|n| {
            file(&format!("/etc/kubastion-test/d{}/f{n}.conf", n % 8), &content(n), 0o600)
        });
        node.apply(items.collect(), dialer);
    });
    assert_eq!((taken.wire.connections, taken.execs), (1, 2), "{taken:?}");
    assert!(taken.wire.round_trips <= LOGIN + EXEC + NEXT, "{taken:?}");
}

#[test]
fn a_guarded_apply_is_one_connection_more() {
    let Some(node) = Measured::borrow("a_guarded_apply") else { return };
    let taken = node.least(|run, dialer| {
        node.apply(guarded(run), dialer);
    });
    assert_eq!(taken.wire.connections, 2, "{taken:?}");
    // The fourth is another node's, over a connection of its own: whether it reached this one before.
    assert_eq!(taken.execs, 4, "{taken:?}");
    assert!(taken.wire.round_trips <= 2 * LOGIN + 2 * EXEC + NEXT, "{taken:?}");
}
