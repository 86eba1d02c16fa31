//! The ring against real sockets and files, and against another ring.

use std::ffi::CStr;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
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
fn a_watch_tells_of_the_end_and_leaves_the_bytes_before_it() {
    let mut ring = ring();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for is_reset in [false, true] {
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ring.watch_for_hangup(ours.as_fd(), SLOT);
        theirs.write_all(b"last words").unwrap();
        ring.enter(Wait::AtMost(Duration::from_millis(20))).unwrap();
        assert!(ring.next_completion().is_none(), "bytes are not the end");
        if is_reset {
            socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(theirs);
        let ended = next(&mut ring);
        assert!(matches!(ended, Completion::HungUp { slot: SLOT, result: Ok(()) }), "{ended:?}");
        assert!(ring.next_completion().is_none(), "it is told once");
        ring.receive(ours.as_fd(), SLOT);
        assert_eq!(received(&mut ring), Ok(b"last words".to_vec()));
        let end = if is_reset { Ended::Failed(Errno::CONNRESET) } else { Ended::Fin };
        assert_eq!(received(&mut ring), Err(end));
    }
}

#[test]
fn a_watch_for_the_end_can_be_cancelled_alone_and_with_its_socket() {
    let mut ring = ring();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let cancels: [fn(&mut Ring, &UnixStream); 2] =
        [|ring, _| ring.cancel_watch_for_hangup(SLOT), |ring, ours| ring.cancel_all(ours.as_fd())];
    for cancel in cancels {
        ring.watch_for_hangup(ours.as_fd(), SLOT);
        ring.enter(Wait::No).unwrap();
        cancel(&mut ring, &ours);
        let ended = next(&mut ring);
        assert!(matches!(ended, Completion::HungUp { slot: SLOT, result: Err(Errno::CANCELED) }), "{ended:?}");
        cancel(&mut ring, &ours); // What is over already is not reported.
        ring.enter(Wait::No).unwrap();
        assert!(ring.next_completion().is_none());
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

/// A directory that is gone when the test is.
struct Folder {
    path: std::path::PathBuf,
    directory: SharedFile,
}

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("willowmq-ring-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let directory = Rc::new(OwnedFd::from(std::fs::File::open(&path).unwrap()));
        Self { path, directory }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

const TOKEN: u32 = 11;

fn done(ring: &mut Ring) -> FileDone {
    match next(ring) {
        Completion::File { token: TOKEN, done } => done,
        other => panic!("{other:?}"),
    }
}

fn opened(ring: &mut Ring, folder: &Folder, name: &CStr, opening: Opening) -> Result<SharedFile, Errno> {
    ring.open_file(TOKEN, &folder.directory, name.to_owned(), opening);
    match done(ring) {
        FileDone::Opened(result) => result.map(Rc::new),
        other => panic!("{other:?}"),
    }
}

fn written(ring: &mut Ring, file: &SharedFile, at: u64, bytes: &[u8], sync: bool) -> Result<(), Errno> {
    let buffer = bytes.to_vec();
    let address = buffer.as_ptr();
    ring.write_file(TOKEN, file, at, buffer, sync);
    match done(ring) {
        FileDone::Written(result, buffer) => {
            assert_eq!((buffer.as_ptr(), &*buffer), (address, bytes));
            result
        }
        other => panic!("{other:?}"),
    }
}

fn read(ring: &mut Ring, file: &SharedFile, at: u64, length: usize) -> Result<Vec<u8>, Errno> {
    ring.read_file(TOKEN, file, at, length);
    match done(ring) {
        FileDone::Read(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_kernel_offers_what_files_need() {
    assert!(ring().has_files());
}

#[test]
fn what_is_written_is_read_back_and_a_read_ends_with_the_file() {
    let (mut ring, folder) = (ring(), Folder::new("write"));
    let file = opened(&mut ring, &folder, c"new", Opening::New).unwrap();
    assert_eq!(written(&mut ring, &file, 0, b"hello ", true), Ok(()));
    assert_eq!(written(&mut ring, &file, 6, b"world", false), Ok(()));
    assert_eq!(read(&mut ring, &file, 4, 4).unwrap(), b"o wo");
    assert_eq!(read(&mut ring, &file, 6, 100).unwrap(), b"world");
    assert_eq!(read(&mut ring, &file, 11, 1).unwrap(), b"");
    ring.sync_file(TOKEN, &file);
    assert!(matches!(done(&mut ring), FileDone::Synced(Ok(()))));
    ring.sync_directory(TOKEN, &folder.directory);
    assert!(matches!(done(&mut ring), FileDone::Synced(Ok(()))));
    let again = opened(&mut ring, &folder, c"new", Opening::Existing).unwrap();
    assert_eq!(read(&mut ring, &again, 0, 11).unwrap(), b"hello world");
    assert_eq!(std::fs::read(folder.path.join("new")).unwrap(), b"hello world");
}

#[test]
fn a_new_file_must_not_exist_and_an_existing_one_must() {
    let (mut ring, folder) = (ring(), Folder::new("open"));
    assert_eq!(opened(&mut ring, &folder, c"file", Opening::Existing).err(), Some(Errno::NOENT));
    assert!(opened(&mut ring, &folder, c"file", Opening::New).is_ok());
    assert_eq!(opened(&mut ring, &folder, c"file", Opening::New).err(), Some(Errno::EXIST));
}

#[test]
fn a_long_write_is_made_in_pieces_and_synced_at_its_end() {
    let (mut ring, folder) = (ring(), Folder::new("long"));
    let file = opened(&mut ring, &folder, c"long", Opening::New).unwrap();
    let bytes: Vec<u8> = (0..(5 << 20) + 3).map(|i: usize| (i / 7) as u8).collect();
    for sync in [false, true] {
        assert_eq!(written(&mut ring, &file, 10, &bytes, sync), Ok(()));
        assert!(std::fs::read(folder.path.join("long")).unwrap()[10..] == bytes);
    }
    assert!(read(&mut ring, &file, 10, bytes.len()).unwrap() == bytes);
}

#[test]
fn a_full_device_is_told_with_and_without_a_sync_behind_the_write() {
    let mut ring = ring();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let full = Rc::new(OwnedFd::from(full));
    for sync in [false, true, true] {
        assert_eq!(written(&mut ring, &full, 0, b"lost", sync), Err(Errno::NOSPC));
    }
    let (path, folder) = (c"still works", Folder::new("full"));
    let file = opened(&mut ring, &folder, path, Opening::New).unwrap();
    assert_eq!(written(&mut ring, &file, 0, b"kept", true), Ok(()));
}

#[test]
fn a_write_cut_short_goes_on_and_its_sync_with_it() {
    let mut ring = ring();
    // A pipe takes what fits; the rest, and the sync that a pipe does not have, come when its reader has made room.
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let writer = Rc::new(OwnedFd::from(writer));
    let bytes: Vec<u8> = (0..300_000).map(|i| (i / 3) as u8).collect();
    ring.write_file(TOKEN, &writer, 0, bytes.clone(), true);
    let drain = std::thread::spawn(move || {
        let mut all = vec![0; 300_000];
        reader.read_exact(&mut all).unwrap();
        all
    });
    assert!(matches!(done(&mut ring), FileDone::Written(Err(Errno::INVAL), _)), "a pipe cannot be synced");
    assert!(drain.join().unwrap() == bytes);
}

#[test]
fn preallocated_space_reads_as_zeros() {
    let (mut ring, folder) = (ring(), Folder::new("preallocate"));
    let file = opened(&mut ring, &folder, c"file", Opening::New).unwrap();
    ring.preallocate_file(TOKEN, &file, 8192);
    match done(&mut ring) {
        FileDone::Preallocated(Ok(())) => {
            assert_eq!(written(&mut ring, &file, 0, b"header", true), Ok(()));
            assert_eq!(read(&mut ring, &file, 4, 9000).unwrap().len(), 8188);
        }
        FileDone::Preallocated(Err(Errno::OPNOTSUPP)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_removed_file_is_gone_and_can_be_read_while_it_is_open() {
    let (mut ring, folder) = (ring(), Folder::new("remove"));
    let file = opened(&mut ring, &folder, c"file", Opening::New).unwrap();
    assert_eq!(written(&mut ring, &file, 0, b"last words", false), Ok(()));
    ring.remove_file(TOKEN, &folder.directory, c"file".to_owned());
    assert!(matches!(done(&mut ring), FileDone::Removed(Ok(()))));
    assert!(!folder.path.join("file").exists());
    ring.read_file(TOKEN, &file, 0, 10);
    ring.close_file(file); // The read has a share of its own.
    assert!(matches!(done(&mut ring), FileDone::Read(Ok(bytes)) if bytes == b"last words"));
    ring.remove_file(TOKEN, &folder.directory, c"file".to_owned());
    assert!(matches!(done(&mut ring), FileDone::Removed(Err(Errno::NOENT))));
}

#[test]
fn file_operations_find_room_in_a_full_queue() {
    let (mut ring, folder) = (ring(), Folder::new("queue"));
    let file = opened(&mut ring, &folder, c"file", Opening::New).unwrap();
    let writes = SUBMISSIONS + 5;
    for index in 0..writes {
        ring.write_file(TOKEN, &file, u64::from(index), vec![index as u8], index % 64 == 0);
    }
    for _ in 0..writes {
        assert!(matches!(done(&mut ring), FileDone::Written(Ok(()), _)));
    }
    let bytes = read(&mut ring, &file, 0, writes as usize).unwrap();
    assert!(bytes.iter().enumerate().all(|(index, &byte)| byte == index as u8));
}

#[test]
fn dropping_a_ring_that_writes_ends_the_write() {
    let (mut ring, folder) = (ring(), Folder::new("drop"));
    let file = opened(&mut ring, &folder, c"file", Opening::New).unwrap();
    ring.write_file(TOKEN, &file, 0, vec![7; 8 << 20], true);
    ring.enter(Wait::No).unwrap();
    drop(ring);
    assert_eq!(Rc::strong_count(&file), 1, "nothing is in flight on it");
}
