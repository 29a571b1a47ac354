//! Telemetry in QUIC datagrams (RFC 9221): what a device sends without waiting for an answer, packed
//! as in [`millpond_wire::record::Telemetry`]. Records are committed like those of a produce request,
//! what came meanwhile together; the device learns nothing of it, the counters do. Never keeps more
//! than its room, of which the oldest goes first; never holds the budget of requests while it waits for
//! a device; and never takes a datagram twice.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use millpond_engine::Peer;
use millpond_wire::limits::{
    DEFAULT_CLIENT_REQUEST_MS, TELEMETRY_COMMIT_BYTES_MAX, TELEMETRY_COMMIT_PARTITIONS_MAX,
    TELEMETRY_DATAGRAM_BYTES, TELEMETRY_GROWTH, TELEMETRY_WAITING_BYTES_ALL_MAX,
    TELEMETRY_WAITING_BYTES_LEAST, TELEMETRY_WAITING_BYTES_MAX,
};
use millpond_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use millpond_wire::messages::{ProduceRequest, ProduceResponse, Request, Response};
use millpond_wire::record::{Arrival, Arrivals, BatchBuilder, Codec, Telemetry};
use millpond_wire::{ErrorCode, Uuid};
use quinn::Connection;
use tokio::sync::oneshot;

use super::gateway::{Call, EngineGone, Gateway};
use super::{Who, Wiring};
use crate::serve::EngineHandle;

/// The first version that names topics by their id.
const PRODUCE_VERSION: i16 = 13;
/// As the quotas and the log name this kind of client.
const CLIENT_ID: &str = "telemetry";

/// Serves the datagrams of a connection, from the first one on, until it ends or the node stops.
pub(crate) async fn serve_telemetry(
    connection: Connection,
    first: Bytes,
    who: Who,
    user: Option<Arc<str>>,
    gateway: EngineHandle,
    wiring: Arc<Wiring>,
) {
    let mut stop = wiring.stop.clone();
    let mut intake = Intake { who, user, wiring: &wiring, arrivals: Arrivals::default() };
    let mut waiting = Waiting::new(&wiring.telemetry_waiting_bytes);
    waiting.push(&first);
    while !*stop.borrow() {
        if waiting.datagrams.is_empty() {
            let next = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => None,
                datagram = connection.read_datagram() => datagram.ok(),
            };
            let Some(next) = next else { break };
            waiting.push(&next);
        }
        if intake.serve(&connection, &mut waiting, &gateway).await.is_err() {
            break;
        }
    }
    wiring.counters.telemetry.missing.fetch_add(intake.arrivals.missing_at_the_end(), Relaxed);
    gateway.close(who.session).await;
}

/// Datagrams that came and are not committed yet: copies, since each would keep the packet alive that it
/// came in.
struct Waiting<'a> {
    datagrams: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Of all connections.
    all_bytes: &'a AtomicUsize,
}

impl<'a> Waiting<'a> {
    fn new(all_bytes: &'a AtomicUsize) -> Self {
        Self { datagrams: VecDeque::new(), bytes: 0, all_bytes }
    }

    /// Keeps the newest, for as much as there is room for.
    fn push(&mut self, datagram: &[u8]) {
        let cost = cost(datagram);
        self.bytes += cost;
        let all_bytes = self.all_bytes.fetch_add(cost, Relaxed) + cost;
        self.datagrams.push_back(datagram.into());
        // Whoever sends little keeps its room, however many others send much.
        let room = match all_bytes > TELEMETRY_WAITING_BYTES_ALL_MAX {
            true => TELEMETRY_WAITING_BYTES_LEAST,
            false => TELEMETRY_WAITING_BYTES_MAX,
        };
        while self.bytes > room && self.datagrams.len() > 1 {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<Box<[u8]>> {
        let oldest = self.datagrams.pop_front()?;
        self.bytes -= cost(&oldest);
        self.all_bytes.fetch_sub(cost(&oldest), Relaxed);
        Some(oldest)
    }

    /// Waits for something, and takes up what comes meanwhile.
    async fn during<T>(&mut self, connection: &Connection, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                datagram = connection.read_datagram(), if is_open => match datagram {
                    Ok(datagram) => self.push(&datagram),
                    Err(_) => is_open = false,
                },
            }
            // A flood is always ready: others have their turn.
            tokio::task::coop::consume_budget().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

/// What a datagram takes while it waits.
fn cost(datagram: &[u8]) -> usize {
    datagram.len() + TELEMETRY_DATAGRAM_BYTES
}

/// What comes on one connection.
struct Intake<'a> {
    who: Who,
    /// Who it is by its certificate.
    user: Option<Arc<str>>,
    wiring: &'a Wiring,
    arrivals: Arrivals,
}

/// Records of one commit, by partition.
#[derive(Default)]
struct Gathered {
    batches: BTreeMap<(Uuid, i32), BatchBuilder>,
    bytes: usize,
    records: u64,
}

impl Intake<'_> {
    /// Commits what waits, or as much of it as goes together.
    async fn serve(
        &mut self,
        connection: &Connection,
        waiting: &mut Waiting<'_>,
        gateway: &EngineHandle,
    ) -> Result<(), EngineGone> {
        let most = waiting.bytes.min(TELEMETRY_COMMIT_BYTES_MAX) * TELEMETRY_GROWTH;
        let mut taken = waiting.during(connection, self.wiring.budget.take(most)).await;
        let mut gathered = Gathered::default();
        while !gathered.is_full()
            && let Some(datagram) = waiting.pop()
        {
            self.take(&datagram, &mut gathered);
        }
        taken.keep(gathered.size_bytes());
        let throttle_ms = waiting.during(connection, self.commit(gathered, gateway)).await?;
        // Who waits, for a quota or for the next datagram, holds nothing of what others need.
        drop(taken);
        waiting.during(connection, self.wait_out(throttle_ms)).await;
        Ok(())
    }

    /// Takes a datagram, whole or not at all.
    fn take(&mut self, datagram: &[u8], into: &mut Gathered) {
        let counters = &self.wiring.counters.telemetry;
        let telemetry = match Telemetry::parse(datagram) {
            Ok(telemetry) => telemetry,
            Err(error) => {
                counters.malformed.fetch_add(1, Relaxed);
                let what = format_args!("a telemetry datagram was not taken: {error}");
                return self.wiring.complaints.warn(self.who, what);
            }
        };
        match self.arrivals.take(telemetry.number()) {
            Arrival::New { missing } => {
                counters.datagrams.fetch_add(1, Relaxed);
                counters.missing.fetch_add(missing, Relaxed);
            }
            Arrival::Old => {
                counters.repeated.fetch_add(1, Relaxed);
                return;
            }
        }
        for record in telemetry.records() {
            let at = (record.topic_id, record.partition);
            let batch =
                into.batches.entry(at).or_insert_with(|| BatchBuilder::new(Codec::None, None));
            // It came in one datagram, so it is far below what a batch can hold.
            match batch.push(record.timestamp_ms, record.key, record.value, &[]) {
                Ok(()) => into.records += 1,
                Err(_) => drop(counters.refused.fetch_add(1, Relaxed)),
            }
        }
        into.bytes += datagram.len();
    }

    /// Waits until the records are as durable as their topics want; how long the next ones have to wait,
    /// in milliseconds.
    async fn commit(&self, gathered: Gathered, gateway: &EngineHandle) -> Result<i32, EngineGone> {
        if gathered.records == 0 {
            return Ok(0);
        }
        let records = gathered.records;
        let counts = gathered.counts();
        let (reply, answer) = oneshot::channel();
        let peer = Peer {
            session: self.who.session,
            listener: self.who.listener,
            client_id: Some(CLIENT_ID.into()),
            host: self.who.host(),
            user: self.user.clone(),
        };
        let request = Request::Produce(gathered.into_request());
        gateway
            .submit(Call { peer, request, version: PRODUCE_VERSION, reply, early: None })
            .await?;
        let answer = answer.await.map_err(|_| EngineGone)?;
        let Some(Response::Produce(response)) = answer else { return Ok(0) };
        let refused = self.refused(&response, &counts);
        let counters = &self.wiring.counters.telemetry;
        counters.refused.fetch_add(refused, Relaxed);
        counters.stored.fetch_add(records - refused, Relaxed);
        Ok(response.throttle_time_ms)
    }

    /// How many records were refused; the log says why.
    fn refused(&self, response: &ProduceResponse, counts: &BTreeMap<(Uuid, i32), u64>) -> u64 {
        let mut refused = 0;
        for topic in &response.responses {
            for partition in &topic.partition_responses {
                let error = ErrorCode::from_code(partition.error_code);
                if error == Some(ErrorCode::None) {
                    continue;
                }
                let at = (topic.topic_id, partition.index);
                refused += counts.get(&at).copied().unwrap_or_default();
                let (topic, index) = (topic.topic_id, partition.index);
                let why = format_args!(
                    "telemetry for partition {index} of topic {topic} was refused: {error:?}"
                );
                self.wiring.complaints.warn(self.who, why);
            }
        }
        refused
    }

    /// A quota is over: what comes meanwhile waits, and then the oldest of it goes.
    async fn wait_out(&self, throttle_time_ms: i32) {
        let Ok(ms @ 1..) = u64::try_from(throttle_time_ms) else { return };
        let mut stop = self.wiring.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = tokio::time::sleep(Duration::from_millis(ms)) => {}
        }
    }
}

impl Gathered {
    fn is_full(&self) -> bool {
        self.bytes >= TELEMETRY_COMMIT_BYTES_MAX
            || self.batches.len() >= TELEMETRY_COMMIT_PARTITIONS_MAX
    }

    fn size_bytes(&self) -> usize {
        self.batches.values().map(BatchBuilder::size_bytes).sum()
    }

    fn counts(&self) -> BTreeMap<(Uuid, i32), u64> {
        self.batches.iter().map(|(at, batch)| (*at, batch.len() as u64)).collect()
    }

    fn into_request(self) -> ProduceRequest {
        let mut topic_data: Vec<TopicProduceData> = Vec::new();
        for ((topic_id, index), mut batch) in self.batches {
            // Nothing is compressed, so nothing can fail; and a batch without records is no batch.
            let Ok(records) = batch.build() else { continue };
            if topic_data.last().is_none_or(|topic| topic.topic_id != topic_id) {
                topic_data.push(TopicProduceData { topic_id, ..Default::default() });
            }
            if let Some(topic) = topic_data.last_mut() {
                let data = PartitionProduceData { index, records: Some(records) };
                topic.partition_data.push(data);
            }
        }
        let timeout_ms = i32::try_from(DEFAULT_CLIENT_REQUEST_MS).unwrap_or(i32::MAX);
        ProduceRequest { acks: -1, timeout_ms, topic_data, ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(waiting: &Waiting<'_>) -> Vec<u8> {
        waiting.datagrams.iter().map(|datagram| datagram[0]).collect()
    }

    #[test]
    fn the_newest_stay_and_what_went_is_not_counted_any_more() {
        let all = AtomicUsize::new(0);
        let mut waiting = Waiting::new(&all);
        let half = |n| vec![n; TELEMETRY_WAITING_BYTES_MAX / 2 - TELEMETRY_DATAGRAM_BYTES];
        for n in 1..=3 {
            waiting.push(&half(n));
        }
        assert_eq!(numbers(&waiting), [2, 3]);
        assert_eq!(all.load(Relaxed), TELEMETRY_WAITING_BYTES_MAX);
        assert_eq!(waiting.pop().map(|datagram| datagram[0]), Some(2));
        drop(waiting);
        assert_eq!(all.load(Relaxed), 0);
    }

    #[test]
    fn where_all_send_too_much_each_keeps_a_little_and_the_newest_in_any_case() {
        let all = AtomicUsize::new(TELEMETRY_WAITING_BYTES_ALL_MAX);
        let mut waiting = Waiting::new(&all);
        for n in 0..200 {
            waiting.push(&[n; 1_000]);
        }
        assert!(waiting.bytes <= TELEMETRY_WAITING_BYTES_LEAST);
        assert_eq!(numbers(&waiting).last(), Some(&199));
        waiting.push(&[7; 2 * TELEMETRY_WAITING_BYTES_LEAST]);
        assert_eq!(numbers(&waiting), [7]);
    }
}
