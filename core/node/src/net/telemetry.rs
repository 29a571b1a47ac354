//! Telemetry in QUIC datagrams (RFC 9221): what a device sends without waiting for an answer, packed
//! as in [`millpond_wire::record::Telemetry`]. Records are committed like those of a produce request,
//! what came meanwhile together; the device learns nothing of it, the counters do. Never keeps more
//! than was read for one commit, and never takes a datagram twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use millpond_engine::Peer;
use millpond_wire::limits::{
    DEFAULT_CLIENT_REQUEST_MS, TELEMETRY_COMMIT_BYTES_MAX, TELEMETRY_COMMIT_PARTITIONS_MAX,
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
    let mut next = Some(first);
    while let Some(datagram) = next {
        // Before anything is gathered: many connections at once hold no more than the budget allows, and
        // what comes meanwhile pushes out the oldest of its own connection.
        let mut taken = wiring.budget.take(TELEMETRY_COMMIT_BYTES_MAX).await;
        let mut gathered = Gathered::default();
        intake.take(&datagram, &mut gathered);
        while !gathered.is_full()
            && let Some(Ok(more)) = connection.read_datagram().now_or_never()
        {
            intake.take(&more, &mut gathered);
        }
        taken.keep(gathered.bytes);
        if intake.commit(gathered, &gateway).await.is_err() {
            break;
        }
        next = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            datagram = connection.read_datagram() => datagram.ok(),
        };
    }
    wiring.counters.telemetry.missing.fetch_add(intake.arrivals.missing_at_the_end(), Relaxed);
    gateway.close(who.session).await;
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

    /// Waits until the records are as durable as their topics want.
    async fn commit(&self, gathered: Gathered, gateway: &EngineHandle) -> Result<(), EngineGone> {
        if gathered.records == 0 {
            return Ok(());
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
        if let Some(Response::Produce(response)) = answer {
            let refused = self.refused(&response, &counts);
            let counters = &self.wiring.counters.telemetry;
            counters.refused.fetch_add(refused, Relaxed);
            counters.stored.fetch_add(records - refused, Relaxed);
            self.wait_out(response.throttle_time_ms).await;
        }
        Ok(())
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
