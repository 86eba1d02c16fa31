//! The ring against real sockets, and against another ring.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::*;

const SLOT: u32 = 7;
const PATIENCE: Duration = Duration::from_secs(10);

fn ring() -> Ring {
    Ring::new(8).expect("this kernel offers io_uring")
}

/// Submits and waits until the ring reports something.
fn next(ring: &mut Ring) -> Completion {
    let start = Instant::now();
    loop {
        if let Some(completion) = ring.next_completion() {
            return completion;
        }
        assert!(start.elapsed() < PATIENCE, "nothing completed");
        ring.enter(Wait::AtMost(PATIENCE)).unwrap();
    }
}

fn received(ring: &mut Ring) -> Result<Vec<u8>, Ended> {
    match next(ring) {
        Completion::Received { slot: SLOT, result, .. } => result.map(|chunk| {
            let bytes = ring.bytes(&chunk).to_vec();
            ring.recycle(chunk);
            bytes
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_receive_delivers_everything_until_the_peer_ends() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ring.receive(ours.as_fd(), SLOT);
    for round in 0..100u8 {
        theirs.write_all(&[round; 10]).unwrap();
        assert_eq!(received(&mut ring), Ok(vec![round; 10]));
    }
    drop(theirs);
    assert_eq!(received(&mut ring), Err(Ended::Fin));
}

#[test]
fn a_receive_that_is_cancelled_delivers_first_what_had_arrived() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ring.receive(ours.as_fd(), SLOT);
    ring.enter(Wait::No).unwrap();
    theirs.write_all(b"before").unwrap();
    ring.cancel_receive(SLOT);
    let mut bytes = Vec::new();
    let end = loop {
        match received(&mut ring) {
            Ok(more) => bytes.extend(more),
            Err(end) => break end,
        }
    };
    assert_eq!(end, Ended::Cancelled);
    // What the cancelled receive left in the socket is there for the next one.
    theirs.write_all(b" and after").unwrap();
    ring.receive(ours.as_fd(), SLOT);
    while bytes.len() < b"before and after".len() {
        bytes.extend(received(&mut ring).unwrap());
    }
    assert_eq!(bytes, b"before and after");
}

#[test]
fn without_free_buffers_a_receive_ends_and_loses_nothing() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sent: Vec<u8> = (0..20 * buffers::BUFFER_BYTES).map(|i| i as u8).collect();
    theirs.write_all(&sent).unwrap();
    ring.receive(ours.as_fd(), SLOT);
    let (mut held, mut bytes) = (Vec::new(), Vec::new());
    while bytes.len() < sent.len() {
        match next(&mut ring) {
            Completion::Received { result: Ok(chunk), .. } => {
                bytes.extend_from_slice(ring.bytes(&chunk));
                held.push(chunk);
            }
            Completion::Received { result: Err(Ended::NoBuffers), armed, .. } => {
                assert!(!armed);
                assert_eq!(held.len(), 8);
                held.drain(..).for_each(|chunk| ring.recycle(chunk));
                ring.receive(ours.as_fd(), SLOT);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bytes, sent);
}

#[test]
fn a_long_output_reaches_a_slow_reader_whole_and_its_buffer_comes_back() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let output: Vec<u8> = (0..3 * SEND_BYTES_MAX + 5).map(|i| (i / 3) as u8).collect();
    let address = output.as_ptr();
    let expected = output.clone();
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; expected.len()];
        for piece in bytes.chunks_mut(100_000) {
            std::thread::sleep(Duration::from_millis(2));
            theirs.read_exact(piece).unwrap();
        }
        assert!(bytes == expected);
    });
    ring.send(ours.as_fd(), SLOT, output);
    let mut progress = 0;
    let buffer = loop {
        match next(&mut ring) {
            Completion::Progress { slot: SLOT } => progress += 1,
            Completion::Sent { slot: SLOT, buffer, result: Ok(()) } => break buffer,
            other => panic!("{other:?}"),
        }
    };
    reader.join().unwrap();
    assert!(progress >= 3);
    assert_eq!(buffer.as_ptr(), address);
}

#[test]
fn a_send_to_nobody_fails_without_a_signal() {
    let mut ring = ring();
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    ring.send(ours.as_fd(), SLOT, b"lost".to_vec());
    let sent = next(&mut ring);
    assert!(matches!(sent, Completion::Sent { result: Err(Errno::PIPE), .. }), "{sent:?}");
}

#[test]
fn cancelling_a_socket_ends_its_receive_and_its_send() {
    let mut ring = ring();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    ring.receive(ours.as_fd(), SLOT);
    ring.send(ours.as_fd(), SLOT, vec![1; 16 << 20]);
    ring.enter(Wait::No).unwrap();
    ring.cancel_all(ours.as_fd());
    let (mut receive_ended, mut send_ended) = (false, false);
    while !(receive_ended && send_ended) {
        match next(&mut ring) {
            Completion::Received { result: Err(Ended::Cancelled), .. } => receive_ended = true,
            Completion::Sent { result: Err(_), .. } => send_ended = true,
            Completion::Progress { .. } => ring.cancel_all(ours.as_fd()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_accept_takes_many_connections() {
    let mut ring = ring();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    ring.accept(listener.as_fd(), 3);
    ring.enter(Wait::No).unwrap();
    let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
    for _ in &clients {
        let accepted = next(&mut ring);
        assert!(matches!(accepted, Completion::Accepted { slot: 3, result: Ok(_), armed: true }), "{accepted:?}");
    }
    ring.cancel_accept(3);
    let ended = next(&mut ring);
    assert!(matches!(ended, Completion::Accepted { result: Err(Errno::CANCELED), .. }), "{ended:?}");
}

#[test]
fn an_eventfd_wakes_a_parked_ring() {
    let mut ring = ring();
    let bell = eventfd().unwrap();
    ring.watch(bell.as_fd());
    for _ in 0..3 {
        let other = bell.try_clone().unwrap();
        let ringer = std::thread::spawn(move || signal(other));
        assert!(matches!(next(&mut ring), Completion::Woken { armed: true }));
        reset(&bell);
        ringer.join().unwrap();
    }
}

#[test]
fn a_ring_wakes_another_that_is_parked() {
    let (tell, told) = std::sync::mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        let mut ring = ring();
        tell.send(ring.as_raw_fd()).unwrap();
        let start = Instant::now();
        ring.enter(Wait::AtMost(PATIENCE)).unwrap();
        assert!(ring.next_completion().is_none(), "a wake-up carries nothing");
        start.elapsed()
    });
    let mut ring = ring();
    let other = told.recv().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    ring.wake(other, 1);
    ring.enter(Wait::No).unwrap();
    assert!(sleeper.join().unwrap() < PATIENCE);
}

#[test]
fn waking_what_is_not_a_ring_is_reported() {
    let mut ring = ring();
    let bell = eventfd().unwrap();
    ring.wake(bell.as_raw_fd(), 5);
    assert!(matches!(next(&mut ring), Completion::WakeFailed { peer: 5 }));
}

#[test]
fn a_wait_ends_in_time() {
    let mut ring = ring();
    let start = Instant::now();
    ring.enter(Wait::AtMost(Duration::from_millis(30))).unwrap();
    assert!(ring.next_completion().is_none());
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn more_operations_than_the_queue_holds_are_all_carried_out() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let sends = 3 * SUBMISSIONS;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    for _ in 0..sends {
        ring.send(ours.as_fd(), SLOT, vec![0]);
    }
    for _ in 0..sends {
        assert!(matches!(next(&mut ring), Completion::Sent { result: Ok(()), .. }));
    }
    drop(ours);
    assert_eq!(reader.join().unwrap(), sends as usize);
}

#[test]
fn dropping_a_busy_ring_ends_what_is_in_flight() {
    let mut ring = ring();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ring.receive(ours.as_fd(), SLOT);
    ring.send(ours.as_fd(), SLOT, vec![1; 16 << 20]);
    ring.enter(Wait::No).unwrap();
    let start = Instant::now();
    drop(ring);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    drop(ours);
    let mut sent = Vec::new();
    theirs.read_to_end(&mut sent).unwrap();
    assert!(sent.iter().all(|&byte| byte == 1));
}
