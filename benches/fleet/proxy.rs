//! A proxy in user space that adds latency and counts, for a kernel without netem. One thread, and no
//! more than a copy for each side of a connection.
//!
//! What arrives is passed on half a round-trip time later, in order; a connection is opened a whole one
//! after it was accepted, which is what a TCP handshake takes. Bandwidth is not limited.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll, eventfd};

/// What passed since the last question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections accepted.
    pub connections: u64,
    /// Payload bytes from clients.
    pub up: u64,
    /// Payload bytes to clients.
    pub down: u64,
    /// Round trips, over all connections: the longest chain of an answer that was sent after a question
    /// that was sent after an answer, and one for TCP itself. What is sent without waiting costs none.
    pub round_trips: u64,
}

/// A running proxy; it ends when it is dropped.
pub struct Proxy {
    fronts: Vec<SocketAddr>,
    seen: Arc<Mutex<Traffic>>,
    stop: Arc<OwnedFd>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    /// Listens on each first address for the second one. `rtt` is added to every round trip.
    pub fn start(ways: &[(SocketAddr, SocketAddr)], rtt: Duration) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let mut listeners = Vec::new();
        for (i, (front, back)) in ways.iter().enumerate() {
            let listener = TcpListener::bind(front).unwrap();
            listener.set_nonblocking(true).unwrap();
            watch(&epoll, &listener, Source::Listener(i), epoll::EventFlags::IN);
            listeners.push((listener, *back));
        }
        let fronts = listeners.iter().map(|(l, _)| l.local_addr().unwrap()).collect();
        let stop = Arc::new(eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap());
        watch(&epoll, &stop, Source::Stop, epoll::EventFlags::IN);
        let seen = Arc::new(Mutex::new(Traffic::default()));
        let mut engine = Loop {
            epoll,
            listeners,
            half: rtt / 2,
            connections: HashMap::new(),
            next: 0,
            due: VecDeque::new(),
            opening: VecDeque::new(),
            seen: Arc::clone(&seen),
        };
        let thread = std::thread::spawn(move || engine.run());
        Self { fronts, seen, stop, thread: Some(thread) }
    }

    /// Where it listens, in the order of the ways.
    pub fn fronts(&self) -> &[SocketAddr] {
        &self.fronts
    }

    /// What passed since this was asked last.
    pub fn take(&self) -> Traffic {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        rustix::io::write(&*self.stop, &1u64.to_ne_bytes()).unwrap();
        if let Some(thread) = self.thread.take() {
            // A panic of the loop has made the connections of the test fail already.
            let _ = thread.join();
        }
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

#[derive(Clone, Copy)]
enum Source {
    Stop,
    Listener(usize),
    Stream(u64, End),
}

impl Source {
    fn pack(self) -> u64 {
        match self {
            Self::Stop => 0,
            Self::Listener(i) => (i as u64) << 2 | 1,
            Self::Stream(id, End::Client) => id << 2 | 2,
            Self::Stream(id, End::Server) => id << 2 | 3,
        }
    }

    fn unpack(word: u64) -> Self {
        match word & 3 {
            0 => Self::Stop,
            1 => Self::Listener((word >> 2) as usize),
            2 => Self::Stream(word >> 2, End::Client),
            _ => Self::Stream(word >> 2, End::Server),
        }
    }
}

fn watch(epoll: &OwnedFd, fd: impl std::os::fd::AsFd, source: Source, flags: epoll::EventFlags) {
    epoll::add(epoll, fd, epoll::EventData::new_u64(source.pack()), flags).unwrap();
}

/// Bytes on their way; none mean the end of the stream.
struct Chunk {
    due: Instant,
    connection: u64,
    from: End,
    bytes: Vec<u8>,
    /// Round trips that had to be over before these could be sent.
    depth: u64,
}

struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Depth of the last bytes that each end was given.
    at_client: u64,
    at_server: u64,
    /// What is not yet taken by each end, and whether that is all.
    to_client: Outbox,
    to_server: Outbox,
    /// Whether each end has said its last word.
    client_ended: bool,
    server_ended: bool,
}

#[derive(Default)]
struct Outbox {
    bytes: VecDeque<u8>,
    last: bool,
    closed: bool,
}

struct Loop {
    epoll: OwnedFd,
    listeners: Vec<(TcpListener, SocketAddr)>,
    half: Duration,
    connections: HashMap<u64, Connection>,
    next: u64,
    /// In the order in which they are due, since all wait equally long.
    due: VecDeque<Chunk>,
    opening: VecDeque<(Instant, TcpStream, SocketAddr)>,
    seen: Arc<Mutex<Traffic>>,
}

impl Loop {
    fn run(&mut self) {
        loop {
            let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
            let next = [self.due.front().map(|c| c.due), self.opening.front().map(|o| o.0)];
            let wait = next.into_iter().flatten().min().map(|at| {
                let left = at.saturating_duration_since(Instant::now());
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
            });
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                wait.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => panic!("{e}"),
            }
            for event in events {
                // Copies: the kernel's struct is packed.
                let (data, flags) = (event.data, event.flags);
                match Source::unpack(data.u64()) {
                    Source::Stop => return,
                    Source::Listener(i) => self.accept(i),
                    Source::Stream(id, end) => {
                        if flags.contains(epoll::EventFlags::OUT) {
                            self.flush(id, end);
                        }
                        let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP;
                        if flags.intersects(readable | epoll::EventFlags::ERR) {
                            self.read(id, end);
                        }
                    }
                }
            }
            let now = Instant::now();
            while self.opening.front().is_some_and(|o| o.0 <= now) {
                let (_, client, back) = self.opening.pop_front().unwrap();
                self.open(client, back);
            }
            while self.due.front().is_some_and(|c| c.due <= now) {
                let chunk = self.due.pop_front().unwrap();
                self.deliver(chunk);
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        while let Ok((client, _)) = self.listeners[listener].0.accept() {
            let back = self.listeners[listener].1;
            self.opening.push_back((Instant::now() + self.half * 2, client, back));
        }
    }

    fn open(&mut self, client: TcpStream, back: SocketAddr) {
        // Nobody there: the client sees its connection closed.
        let Ok(server) = TcpStream::connect_timeout(&back, Duration::from_secs(5)) else { return };
        self.next += 1;
        let id = self.next;
        for (stream, end) in [(&client, End::Client), (&server, End::Server)] {
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            watch(&self.epoll, stream, Source::Stream(id, end), flags);
        }
        let connection = Connection {
            client,
            server,
            at_client: 0,
            at_server: 0,
            to_client: Outbox::default(),
            to_server: Outbox::default(),
            client_ended: false,
            server_ended: false,
        };
        self.connections.insert(id, connection);
        let mut seen = self.seen.lock().unwrap();
        seen.connections += 1;
        seen.round_trips += 1;
    }

    /// Edge-triggered: all there is.
    fn read(&mut self, id: u64, from: End) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (stream, ended, depth) = match from {
            End::Client => {
                (&mut connection.client, &mut connection.client_ended, connection.at_client + 1)
            }
            End::Server => {
                (&mut connection.server, &mut connection.server_ended, connection.at_server)
            }
        };
        let due = Instant::now() + self.half;
        let mut buffer = [0; 32 * 1024];
        while !*ended {
            let n = match stream.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // A reset: the other end sees the connection closed.
                Err(_) => 0,
            };
            *ended = n == 0;
            let bytes = buffer[..n].to_vec();
            self.due.push_back(Chunk { due, connection: id, from, bytes, depth });
        }
    }

    fn deliver(&mut self, chunk: Chunk) {
        let Some(connection) = self.connections.get_mut(&chunk.connection) else { return };
        let mut seen = self.seen.lock().unwrap();
        let n = chunk.bytes.len() as u64;
        let to = match chunk.from {
            End::Client => {
                seen.up += n;
                // The end of a stream is no question.
                if n > 0 {
                    connection.at_server = connection.at_server.max(chunk.depth);
                }
                connection.to_server.bytes.extend(&chunk.bytes);
                connection.to_server.last |= n == 0;
                End::Server
            }
            End::Server => {
                seen.down += n;
                if n > 0 {
                    seen.round_trips += chunk.depth.saturating_sub(connection.at_client);
                    connection.at_client = connection.at_client.max(chunk.depth);
                }
                connection.to_client.bytes.extend(&chunk.bytes);
                connection.to_client.last |= n == 0;
                End::Client
            }
        };
        drop(seen);
        self.flush(chunk.connection, to);
    }

    fn flush(&mut self, id: u64, to: End) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (stream, outbox) = match to {
            End::Client => (&mut connection.client, &mut connection.to_client),
            End::Server => (&mut connection.server, &mut connection.to_server),
        };
        while !outbox.bytes.is_empty() {
            match stream.write(outbox.bytes.as_slices().0) {
                Ok(n) => drop(outbox.bytes.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => outbox.bytes.clear(),
            }
        }
        if outbox.last && !outbox.closed {
            outbox.closed = true;
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Write);
        }
        if connection.to_client.closed && connection.to_server.closed {
            self.connections.remove(&id);
        }
    }
}
