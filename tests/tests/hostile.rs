//! Bad input on real sockets: lies about lengths and counts, garbage, TLS on the plain port, half
//! frames, slow and silent peers, floods. Whoever sends it gets an error or a closed connection;
//! the broker stays up, its memory stays bounded, and a good client beside it notices nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millpond_tests::bomb::bomb;
use millpond_tests::broker::{Broker, Setup};
use millpond_tests::dice::Dice;
use millpond_tests::kafka::{CallError, Kafka};
use millpond_wire::ErrorCode;
use millpond_wire::frame::encode_request;
use millpond_wire::messages::api_versions_request::ApiVersionsRequest;
use millpond_wire::messages::metadata_request::MetadataRequest;
use millpond_wire::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millpond_wire::record::{BatchBuilder, Codec};

const MIB: u64 = 1 << 20;

/// More than any attack here may cost in memory, much less than what the attackers claim.
const GROWTH_BYTES_MAX: u64 = 64 * MIB;

/// Short deadlines, so that the tests do not wait for a minute.
const IMPATIENT: &str = "
[limits]
connections_max = 120
connections_per_ip_max = 120
first_request_ms = 1500
request_ms = 1500
write_ms = 1500
";

/// A broker under attack, with a good client that works beside it all the time.
struct Scene {
    broker: Broker,
    resident_before: u64,
    stop: Arc<AtomicBool>,
    witness: Option<JoinHandle<Result<i64, CallError>>>,
}

impl Scene {
    fn open() -> Scene {
        let broker = Setup::default().config(IMPATIENT).start();
        let mut client = Kafka::connect(broker.kafka(), Duration::from_secs(10)).unwrap();
        client.create_topic("witness", 1).unwrap();
        client.produce("witness", 0, &[b"first"]).unwrap();
        let resident_before = broker.resident_bytes();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let witness = std::thread::spawn(move || {
            let mut count = 1;
            while !stopped.load(Ordering::Relaxed) {
                assert_eq!(client.produce("witness", 0, &[b"more"])?, count);
                count += 1;
            }
            Ok(count)
        });
        Scene { broker, resident_before, stop, witness: Some(witness) }
    }

    /// A connection for evil.
    #[track_caller]
    fn attacker(&self) -> TcpStream {
        let stream = TcpStream::connect(self.broker.kafka()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The end of every test: nobody else noticed.
    #[track_caller]
    fn close(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let witness = self.witness.take().map(JoinHandle::join);
        let count = match witness {
            Some(Ok(Ok(count))) => count,
            other => panic!("the good client was disturbed: {other:?}"),
        };
        self.broker.expect_alive();
        let grown = self.broker.resident_bytes().saturating_sub(self.resident_before);
        assert!(grown < GROWTH_BYTES_MAX, "memory grew by {} MiB", grown / MIB);
        let mut fresh = Kafka::connect(self.broker.kafka(), Duration::from_secs(10)).unwrap();
        let kept = fresh.read("witness", 0, 0).unwrap();
        assert_eq!(kept.len() as i64, count, "what the good client wrote is all there");
    }
}

/// Send bytes; the peer may close while we do.
fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).ok();
}

/// Wait for the broker to close; what it answered before. Panics if it keeps the connection open.
#[track_caller]
fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
}

/// A frame with a true length around these bytes.
fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

/// Valid requests, as frames.
fn good_requests() -> Vec<Vec<u8>> {
    let mut builder = BatchBuilder::new(Codec::Lz4, None);
    for n in 0..20_u8 {
        builder.push(1_700_000_000_000, Some(&[n]), Some(b"value"), &[]).unwrap();
    }
    let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
    let topic = TopicProduceData {
        name: "elsewhere".into(),
        partition_data: vec![data],
        ..Default::default()
    };
    let topic_data = vec![topic];
    let produce = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() };
    let requests = [
        (3, ApiVersionsRequest::default().into()),
        (12, MetadataRequest::default().into()),
        (9, produce.clone().into()),
        (7, produce.into()),
    ];
    let encode = |(version, request)| encode_request(version, 1, Some("evil"), &request);
    requests.into_iter().map(|request| encode(request).unwrap().concat()).collect()
}

#[test]
fn a_tls_hello_on_the_plain_port_is_closed_and_named_in_the_log() {
    let scene = Scene::open();
    let mut stream = scene.attacker();
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    send(&mut stream, &hello);
    send(&mut stream, &[7; 506]);
    read_to_close(&mut stream);
    let said = scene.broker.log().wait_for("TLS", Duration::from_secs(5));
    assert!(said.is_some(), "the log does not say that somebody spoke TLS");
    scene.close();
}

#[test]
fn a_frame_length_that_lies_closes_the_connection_and_takes_no_memory() {
    let scene = Scene::open();
    for length in [i32::MAX, i32::MIN, -1, 0, 3, 200 << 20] {
        let mut stream = scene.attacker();
        send(&mut stream, &length.to_be_bytes());
        send(&mut stream, &[0; 64]);
        read_to_close(&mut stream);
    }
    scene.close();
}

#[test]
fn garbage_is_closed() {
    let seed = Dice::seed_from_environment();
    eprintln!("MILLPOND_SEED={seed} cargo test -p millpond-tests --test hostile garbage");
    let mut dice = Dice::new(seed);
    let scene = Scene::open();
    for _ in 0..100 {
        let mut stream = scene.attacker();
        let size = dice.within(4, 2000) as usize;
        send(&mut stream, &dice.bytes(size));
        stream.shutdown(std::net::Shutdown::Write).ok();
        read_to_close(&mut stream);
    }
    // Garbage in a frame whose length and API key are true.
    for _ in 0..200 {
        let mut body = dice.within(0, 40).to_be_bytes()[6..].to_vec();
        let size = dice.within(0, 300) as usize;
        body.extend(dice.bytes(size));
        let mut stream = scene.attacker();
        send(&mut stream, &framed(&body));
        stream.shutdown(std::net::Shutdown::Write).ok();
        read_to_close(&mut stream);
    }
    scene.close();
}

#[test]
fn a_request_cut_short_anywhere_is_answered_with_an_error_or_closed() {
    let scene = Scene::open();
    for frame in good_requests() {
        for cut in 4..frame.len() - 1 {
            let mut stream = scene.attacker();
            send(&mut stream, &framed(&frame[4..cut]));
            stream.shutdown(std::net::Shutdown::Write).ok();
            read_to_close(&mut stream);
        }
    }
    scene.close();
}

#[test]
fn a_request_with_one_byte_changed_harms_nobody() {
    let seed = Dice::seed_from_environment();
    eprintln!("MILLPOND_SEED={seed} cargo test -p millpond-tests --test hostile one_byte");
    let mut dice = Dice::new(seed);
    let scene = Scene::open();
    for frame in good_requests() {
        for at in 4..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 1 << dice.within(0, 8);
            let mut stream = scene.attacker();
            send(&mut stream, &changed);
            stream.shutdown(std::net::Shutdown::Write).ok();
            read_to_close(&mut stream);
        }
    }
    scene.close();
}

#[test]
fn a_count_that_lies_takes_no_memory() {
    let scene = Scene::open();
    // Metadata 12: header with client id and tags, then a compact array of 2^31 topics.
    let header = [0, 3, 0, 12, 0, 0, 0, 1, 0, 1, b'x', 0];
    let counts: [&[u8]; 3] =
        [&[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0xff, 0xff, 0x7f], &[0xff; 9]];
    for count in counts {
        let mut stream = scene.attacker();
        send(&mut stream, &framed(&[&header[..], count].concat()));
        stream.shutdown(std::net::Shutdown::Write).ok();
        read_to_close(&mut stream);
    }
    // Produce 7: one topic that claims two thousand million partitions.
    let header = [0, 0, 0, 7, 0, 0, 0, 1, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff, 0, 0, 3, 0xe8];
    let body = [&header[..], &[0, 0, 0, 1, 0, 1, b't', 0x7f, 0xff, 0xff, 0xff]].concat();
    let mut stream = scene.attacker();
    send(&mut stream, &framed(&body));
    stream.shutdown(std::net::Shutdown::Write).ok();
    read_to_close(&mut stream);
    scene.close();
}

#[test]
fn half_frames_are_closed_when_their_time_is_over() {
    let scene = Scene::open();
    let mut streams: Vec<TcpStream> = (0..60).map(|_| scene.attacker()).collect();
    for (stream, frame) in streams.iter_mut().zip(good_requests().iter().cycle()) {
        send(stream, &frame[..frame.len() / 2]);
    }
    for mut stream in streams {
        read_to_close(&mut stream);
    }
    scene.close();
}

#[test]
fn a_silent_connection_is_closed_when_its_time_is_over() {
    let scene = Scene::open();
    let mut streams: Vec<TcpStream> = (0..60).map(|_| scene.attacker()).collect();
    for stream in &mut streams {
        assert!(read_to_close(stream).is_empty());
    }
    scene.close();
}

#[test]
fn a_request_that_comes_byte_by_byte_in_time_is_answered() {
    let scene = Scene::open();
    let mut stream = scene.attacker();
    for byte in &good_requests()[0] {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    assert!(i32::from_be_bytes(length) > 100, "an ApiVersions response");
    scene.close();
}

#[test]
fn a_client_that_drips_bytes_is_closed_though_it_never_falls_silent() {
    let scene = Scene::open();
    let mut stream = scene.attacker();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let frame = framed(&[0; 4000]);
    let begun = Instant::now();
    let mut dripped = frame.iter().cycle();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(20), "it drips for ever");
        let gone = stream.write_all(&[*dripped.next().unwrap_or(&0)]).is_err();
        // The pause between two bytes is the wait for the broker's close.
        match stream.read(&mut [0; 16]) {
            Ok(0) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock && !gone => {}
            Err(_) => break,
            Ok(_) => panic!("an answer to half a frame"),
        }
    }
    scene.close();
}

#[test]
fn more_connections_than_allowed_are_refused_and_the_others_live() {
    let scene = Scene::open();
    // Each says something valid first, so that it is allowed to stay.
    let hello = &good_requests()[0];
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..300 {
        let mut stream = scene.attacker();
        send(&mut stream, hello);
        match stream.read(&mut [0; 4]) {
            Ok(4) => kept.push(stream),
            _ => refused += 1,
        }
    }
    assert!(kept.len() <= 120, "{} connections were let in", kept.len());
    assert!(kept.len() >= 100, "only {} connections were let in", kept.len());
    assert!(refused >= 180, "{refused} were refused");
    drop(kept);
    // The broker sees the closes one by one: a new client gets in as soon as it has seen some.
    let give_up = Instant::now() + Duration::from_secs(15);
    loop {
        let mut stream = scene.attacker();
        send(&mut stream, hello);
        if matches!(stream.read(&mut [0; 4]), Ok(4)) {
            break;
        }
        assert!(Instant::now() < give_up, "nobody is let in after all have left");
    }
    scene.close();
}

#[test]
fn a_flood_of_requests_whose_answers_nobody_reads_is_bounded() {
    let scene = Scene::open();
    let frame = &good_requests()[1];
    let block = frame.repeat(64 * 1024 / frame.len());
    let mut streams: Vec<TcpStream> = (0..8).map(|_| scene.attacker()).collect();
    for stream in &mut streams {
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        for _ in 0..256 {
            // The broker stops reading: at some point nothing more goes out.
            if stream.write_all(&block).is_err() {
                break;
            }
        }
    }
    let grown = scene.broker.resident_bytes().saturating_sub(scene.resident_before);
    assert!(grown < GROWTH_BYTES_MAX, "memory grew by {} MiB", grown / MIB);
    drop(streams);
    scene.close();
}

#[test]
fn a_damaged_batch_is_refused_as_corrupt_and_nothing_of_it_is_kept() {
    let scene = Scene::open();
    let mut client = Kafka::connect(scene.broker.kafka(), Duration::from_secs(10)).unwrap();
    client.create_topic("clean", 1).unwrap();
    let mut builder = BatchBuilder::new(Codec::None, None);
    for _ in 0..5 {
        builder.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[]).unwrap();
    }
    let good = builder.build().unwrap();
    // From the attributes on, everything is under the CRC.
    for at in 21..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x40;
        match client.produce_bytes("clean", 0, Bytes::from(bad)) {
            Err(CallError::Code(ErrorCode::CorruptMessage)) => {}
            other => panic!("byte {at} changed: {other:?}"),
        }
    }
    assert_eq!(client.list_offset("clean", 0, -1).unwrap(), 0);
    assert_eq!(client.produce_bytes("clean", 0, good).unwrap(), 0);
    scene.close();
}

#[test]
fn a_decompression_bomb_costs_no_memory_wherever_it_is_looked_into() {
    let scene = Scene::open();
    let mut client = Kafka::connect(scene.broker.kafka(), Duration::from_secs(30)).unwrap();
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
        let topic = format!("bomb-{codec:?}");
        client.create_topic(&topic, 1).unwrap();
        // Refused, or kept unopened; then asked for a time that only its inside would tell.
        if client.produce_bytes(&topic, 0, bomb(codec)).is_ok() {
            client.list_offset(&topic, 0, 1_700_000_000_000).ok();
            client.list_offset(&topic, 0, 1).ok();
            assert!(!client.fetch_bytes(&topic, 0, 0).unwrap().is_empty());
        }
    }
    scene.close();
}

#[test]
fn garbage_on_the_quic_port_harms_nobody() {
    let mut dice = Dice::new(7);
    let scene = Scene::open();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3000 {
        let size = dice.within(1, 1400) as usize;
        let mut datagram = dice.bytes(size);
        // Half of them look like the first packet of QUIC version 1.
        if dice.within(0, 2) == 0 && size > 5 {
            datagram[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
        }
        socket.send_to(&datagram, scene.broker.kafka()).ok();
    }
    scene.close();
}
