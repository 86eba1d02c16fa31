//! The toy broker's sockets: one thread, over epoll.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use socket2::SockRef;
use willowmq::codec::{Packet, decode, packet_length};
use willowmq_loadgen::engine::raise_descriptors;

use crate::broker::{Broker, ConnectionId};
use crate::entrance::{Entrance, Layers};
use crate::faults::Faults;

/// How often wills and Keep Alives are looked at; how long the broker may take to stop.
const TICK: Duration = Duration::from_millis(10);
/// Stands for the listener where connections have their numbers.
const LISTENER: ConnectionId = 0;
/// No client sends a larger packet.
const PACKET_BYTES_MAX: usize = 1 << 20;

/// A toy broker that runs until it is dropped.
pub(crate) struct Toy {
    pub(crate) address: SocketAddr,
    is_stopped: Arc<AtomicBool>,
    life: Arc<Life>,
    thread: Option<JoinHandle<()>>,
}

/// What has happened so far, for tests that wait for it.
#[derive(Default)]
struct Life {
    accepted: AtomicU64,
    ended: AtomicU64,
    is_deaf: AtomicBool,
}

impl Toy {
    /// Starts a broker with these faults.
    pub(crate) fn start(faults: Faults) -> Self {
        Self::start_behind(Entrance::default(), faults)
    }

    /// Starts a broker with these faults behind `entrance`.
    pub(crate) fn start_behind(entrance: Entrance, faults: Faults) -> Self {
        raise_descriptors().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let life = Arc::new(Life::default());
        let lived = Arc::clone(&life);
        let thread =
            std::thread::spawn(move || Server::new(listener, entrance, faults, lived).unwrap().run(&stop).unwrap());
        Self { address, is_stopped, life, thread: Some(thread) }
    }

    /// Waits until so many connections have been accepted, and so many have ended.
    pub(crate) fn await_connections(&self, accepted: u64, ended: u64) {
        self.await_that(|life| {
            life.accepted.load(Ordering::Relaxed) >= accepted && life.ended.load(Ordering::Relaxed) >= ended
        });
    }

    /// Waits until it has stalled.
    pub(crate) fn await_stall(&self) {
        self.await_that(|life| life.is_deaf.load(Ordering::Relaxed));
    }

    fn await_that(&self, is_so: impl Fn(&Life) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so(&self.life) {
            assert!(Instant::now() < deadline, "what is waited for does not happen");
            std::thread::park_timeout(TICK);
        }
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it is dropped once").join();
        if !std::thread::panicking() {
            ended.expect("the toy broker has no bugs of its own");
        }
    }
}

struct Connection {
    socket: TcpStream,
    layers: Layers,
    input: Vec<u8>,
    /// What the socket has not taken yet.
    output: Vec<u8>,
}

struct Server {
    listener: TcpListener,
    entrance: Entrance,
    epoll: OwnedFd,
    connections: BTreeMap<ConnectionId, Connection>,
    last_id: ConnectionId,
    broker: Broker,
    life: Arc<Life>,
}

impl Server {
    fn new(listener: TcpListener, entrance: Entrance, faults: Faults, life: Arc<Life>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let broker = Broker::new(faults);
        Ok(Self { listener, entrance, epoll, connections: BTreeMap::new(), last_id: LISTENER, broker, life })
    }

    fn run(&mut self, is_stopped: &AtomicBool) -> io::Result<()> {
        let mut next_tick = Instant::now();
        while !is_stopped.load(Ordering::Relaxed) && !self.broker.is_dead {
            if self.broker.is_stalled {
                self.life.is_deaf.store(true, Ordering::Relaxed);
                std::thread::park_timeout(TICK);
                continue;
            }
            self.turn()?;
            if Instant::now() >= next_tick {
                self.broker.on_time(Instant::now());
                next_tick = Instant::now() + TICK;
            }
            self.flush();
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let is_blocked = self.connections.values().any(|connection| !connection.output.is_empty());
        let timeout = if is_blocked { Duration::from_millis(1) } else { TICK };
        let timeout = rustix::time::Timespec::try_from(timeout).expect("it is short");
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                connection => self.read(connection),
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            self.last_id += 1;
            self.life.accepted.fetch_add(1, Ordering::Relaxed);
            epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(self.last_id), epoll::EventFlags::IN)?;
            let (layers, input, output) = (self.entrance.enter(), Vec::new(), Vec::new());
            self.connections.insert(self.last_id, Connection { socket, layers, input, output });
        }
        Ok(())
    }

    fn read(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut bytes = [0; 16 << 10];
        match connection.socket.read(&mut bytes) {
            Ok(count @ 1..) => {
                let goes_on = connection.layers.receive(&bytes[..count], &mut connection.input);
                self.handle_packets(id);
                if !goes_on {
                    self.flush();
                    self.close(id, false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => {
                self.connections.remove(&id);
                self.broker.on_closed(id, Instant::now());
                self.life.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Hands over the packets that are complete, up to one that is refused.
    fn handle_packets(&mut self, id: ConnectionId) {
        while let Some(connection) = self.connections.get_mut(&id) {
            let Ok(length) = packet_length(&connection.input, PACKET_BYTES_MAX) else { return self.close(id, false) };
            let Some(length) = length.filter(|length| *length <= connection.input.len()) else { return };
            let packet: Vec<u8> = connection.input.drain(..length).collect();
            let Ok(packet) = decode(&packet, self.broker.version(id)) else { return self.close(id, false) };
            if !self.broker.knows(id) && !matches!(packet, Packet::Connect(_)) {
                return self.close(id, false); // [MQTT-3.1.0-1]
            }
            self.broker.on_packet(id, &packet, Instant::now());
            self.close_those_asked_for();
        }
    }

    fn close_those_asked_for(&mut self) {
        for (id, is_reset) in std::mem::take(&mut self.broker.closes) {
            self.flush();
            self.close(id, is_reset);
        }
    }

    fn close(&mut self, id: ConnectionId, is_reset: bool) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if is_reset {
            let _ = SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO));
        }
        self.broker.on_closed(id, Instant::now());
        self.life.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes what the kernel takes.
    fn flush(&mut self) {
        let mut over = Vec::new();
        for (id, bytes) in std::mem::take(&mut self.broker.out) {
            let Some(connection) = self.connections.get_mut(&id) else { continue }; // It is gone.
            if !connection.layers.send(&bytes) {
                over.push(id);
            }
        }
        let piece = self.entrance.piece.unwrap_or(usize::MAX);
        self.connections.values_mut().for_each(|connection| connection.flush(piece));
        over.into_iter().for_each(|id| self.close(id, false));
        if !self.broker.closes.is_empty() {
            self.close_those_asked_for();
        }
    }
}

impl Connection {
    /// Writes what the kernel takes, `piece` bytes at a time.
    fn flush(&mut self, piece: usize) {
        self.output.extend(self.layers.take_outgoing());
        while !self.output.is_empty() {
            match self.socket.write(&self.output[..self.output.len().min(piece)]) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.output.clear(), // Reading tells.
            }
        }
    }
}
