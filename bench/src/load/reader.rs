//! A consumer that does nothing with what it gets: fetches one partition from its start to its
//! end over TCP, one request after the other, and counts bytes. It must never ask for less than a
//! real consumer in a hurry would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millpond_wire::frame::{FrameDecoder, decode_response, encode_request};
use millpond_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use millpond_wire::messages::{FetchRequest, Request, Response};
use millpond_wire::record::LogBatch;
use millpond_wire::{ApiKey, ErrorCode, limits};

use crate::error::{BenchError, Context, Outcome};

const FETCH_VERSION: i16 = 12;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const SOCKET_READ_BYTES: usize = 256 * 1024;

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Bytes of batches as they came.
    pub(crate) batch_bytes: u64,
    /// Records in them.
    pub(crate) records: u64,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// Reads a partition from its first record to its high watermark.
pub(crate) fn read_partition(broker: SocketAddr, topic: &str, partition: i32) -> Outcome<Reading> {
    let mut socket = TcpStream::connect(broker).context("connecting")?;
    socket.set_nodelay(true).context("a socket's option")?;
    socket.set_read_timeout(Some(ANSWER_WITHIN)).context("a socket's option")?;
    let started = Instant::now();
    let mut reading = Reading::default();
    let mut offset = 0;
    loop {
        let answer = fetch(&mut socket, topic, partition, offset)?;
        for batch in &answer.batches {
            reading.batch_bytes += batch.size_bytes() as u64;
            reading.records += u64::from(batch.header().records_count.unsigned_abs());
            offset = batch.next_offset();
        }
        if offset >= answer.high_watermark {
            reading.seconds = started.elapsed().as_secs_f64();
            return Ok(reading);
        }
        if answer.batches.is_empty() {
            let why = format!("nothing at offset {offset} of {}", answer.high_watermark);
            return Err(BenchError::new("reading history", why));
        }
    }
}

struct Answer {
    batches: Vec<LogBatch>,
    high_watermark: i64,
}

fn fetch(socket: &mut TcpStream, topic: &str, partition: i32, offset: i64) -> Outcome<Answer> {
    let bytes_max = i32::try_from(limits::FETCH_BYTES_MAX).context("a size")?;
    let request = Request::Fetch(FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: bytes_max,
        topics: vec![FetchTopic {
            topic: topic.to_owned(),
            partitions: vec![FetchPartition {
                partition,
                current_leader_epoch: -1,
                fetch_offset: offset,
                partition_max_bytes: bytes_max,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    let chunks = encode_request(FETCH_VERSION, 0, Some("millpond-bench"), &request);
    let frame: Vec<u8> = chunks.context("encoding a fetch request")?.concat();
    socket.write_all(&frame).context("sending")?;
    let response = receive(socket)?;
    let decoded = decode_response(ApiKey::Fetch, FETCH_VERSION, response);
    let (_, Response::Fetch(fetched)) = decoded.context("reading the answer to a fetch")? else {
        return Err(BenchError::new("a fetch", "answered by something else"));
    };
    let mut parts = fetched.responses.into_iter().flat_map(|topic| topic.partitions);
    let part = parts.next().context("a partition in the answer")?;
    if part.error_code != ErrorCode::None.code() {
        let code = ErrorCode::from_code(part.error_code);
        return Err(BenchError::new("a fetch", format!("refused: {code:?}")));
    }
    let whole = part.records.map(|records| records.to_bytes()).unwrap_or_default();
    let batches = LogBatch::split(whole, limits::BATCHES_PER_SPLIT_MAX);
    let batches = batches.context("batches of the answer")?;
    Ok(Answer { batches, high_watermark: part.high_watermark })
}

fn receive(socket: &mut TcpStream) -> Outcome<Bytes> {
    let mut decoder = FrameDecoder::for_responses();
    let mut buffer = vec![0; SOCKET_READ_BYTES];
    loop {
        if let Some(response) = decoder.next_frame().context("receiving")? {
            return Ok(response);
        }
        let read = socket.read(&mut buffer).context("receiving")?;
        if read == 0 {
            return Err(BenchError::new("receiving", "the broker closed the connection"));
        }
        decoder.extend(buffer.get(..read).unwrap_or_default());
    }
}
