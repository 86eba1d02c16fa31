//! What the two ends of a Network Connection see when it ends: nothing that was answered or said before is lost.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::harness::parse::PUBLISH;
use crate::harness::{Broker, Connect, PATIENCE, Publish, Will, unique, wire};

/// A race is found in some of so many tries.
const TRIES: usize = 30;
/// `receive_buffer` of a client that reads little at a time.
const SMALL: usize = 4096;

/// A connection of a client that wants to see how it ends, with a small receive buffer where one is given.
fn open(address: SocketAddr, receive_buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size).unwrap();
    }
    socket.connect(&address.into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// Connects, and takes the CONNACK.
fn connected(address: SocketAddr, connect: &Connect, receive_buffer: Option<usize>) -> TcpStream {
    let mut stream = open(address, receive_buffer);
    stream.write_all(&connect.encode()).unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut rest = vec![0; usize::from(head[1])];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!((head[0], rest[1]), (0x20, 0), "accepted");
    stream
}

/// All that comes up to an orderly end; an error if the connection is reset.
fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn mqtt_4_3_2_4_puback_reaches_a_client_that_says_goodbye_and_closes_its_half_in_one_breath() {
    let broker = Broker::with_shards(1, "");
    for _ in 0..TRIES {
        let mut stream = connected(broker.address, &Connect::v5(&unique("brief")), None);
        let mut bytes = Publish::new("brief", "x").qos(1).id(7).encode(5);
        bytes.extend(wire::disconnect());
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_to_end(&mut stream).expect("an orderly end");
        assert_eq!(answer.get(..4).map(|head| (head[0], head[3])), Some((0x40, 7)), "{answer:02x?}");
    }
}

#[test]
fn connack_reaches_a_refused_client_that_has_closed_its_half() {
    let broker = Broker::with_shards(1, "");
    for _ in 0..TRIES {
        let mut stream = open(broker.address, None);
        // Clients may not publish to $SYS, so a will there is refused.
        let connect = Connect::v5(&unique("refused")).will(Will::new("$SYS/x", "x"));
        stream.write_all(&connect.encode()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let answer = read_to_end(&mut stream).expect("an orderly end");
        assert_eq!(answer.get(..4).map(|head| (head[0], head[3])), Some((0x20, 0x87)), "{answer:02x?}");
    }
}

#[test]
fn a_slow_reader_gets_every_answer_up_to_the_orderly_end() {
    const MESSAGES: u16 = 30_000;
    let broker = Broker::with_shards(1, "");
    let mut stream = connected(broker.address, &Connect::v5(&unique("slow")), Some(SMALL));
    let mut bytes: Vec<u8> = (1..=MESSAGES).flat_map(|id| Publish::new("slow", "").qos(1).id(id).encode(5)).collect();
    bytes.extend(wire::disconnect());
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = read_to_end(&mut stream).expect("an orderly end");
    let length = usize::from(answer[1]) + 2; // All PUBACKs are of one kind.
    assert_eq!(answer.len(), usize::from(MESSAGES) * length);
}

#[test]
fn mqtt_3_1_2_10_goodbye_of_a_client_that_reads_nothing_discards_its_will() {
    let broker = Broker::with_shards(1, "");
    let mut watcher = broker.client(5);
    watcher.subscribe("choked/#", 0);
    for _ in 0..3 {
        let id = unique("choked");
        let connect = Connect::v5(&id).will(Will::new("choked/will", "alarm"));
        let mut stream = connected(broker.address, &connect, Some(SMALL));
        stream.write_all(&wire::subscribe(5, 1, &[(&id, 1)], &[])).unwrap();
        stream.read_exact(&mut [0; 6]).unwrap(); // SUBACK
        // Its output stands still, and its next packet has it read from no more.
        let mut publisher = broker.client(5);
        (0..1000).for_each(|_| publisher.publish_only(&Publish::new(&id, &"x".repeat(20_000))));
        publisher.ping();
        stream.write_all(&wire::pingreq()).unwrap();
        publisher.ping();
        publisher.ping();
        let mut bytes = Publish::new("choked/last", "word").encode(5);
        bytes.extend(wire::disconnect());
        stream.write_all(&bytes).unwrap();
        publisher.ping(); // By now the broker would have read it, did it read.
        drop(stream);
        let message = watcher.expect(PUBLISH);
        assert_eq!(message.payload, b"word", "what it said before is heard, and its will is not");
    }
    watcher.expect_quiet();
}

#[test]
fn clients_that_come_and_go_leave_room_for_one_that_stays() {
    let broker = Broker::with_shards(1, "[limits]\nconnections_max = 20\n");
    for _ in 0..20 {
        for _ in 0..50 {
            match TcpStream::connect(broker.address) {
                Ok(stream) => drop(stream),
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        broker.connect(Connect::v5(&unique("stays"))).disconnect();
    }
}
