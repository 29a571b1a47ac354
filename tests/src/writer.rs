//! Writers for the crash images: each fills a topic of its own, one batch at a time with producer
//! sequences, and keeps a ledger of what it sent and what it was promised. A writer may delete its
//! topic and make it again, over and over. Never judges anything itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use millpond_wire::ErrorCode;
use millpond_wire::record::{BatchBuilder, Codec, Header};

use crate::dice::Dice;
use crate::history::{History, RecordId};
use crate::kafka::{CallError, Found, Kafka, now_ms};
use crate::load::{Progress, key_of, record_of};

/// Batches that a ledger remembers as bytes.
const SENT_KEPT: usize = 64;

/// Keys of a topic that is compacted.
const KEYS: u32 = 64;

/// The header that repeats a record's timestamp.
const TIME: &str = "time";

/// How long a writer waits for others between two batches, at most.
const PACE: Duration = Duration::from_millis(50);

/// What a topic's settings allow to be gone. Whatever it is, nothing else may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: every record stays.
    All,
    /// What lies below the log start, which retention moves.
    FromLogStart,
    /// Records whose key came again later.
    NewestPerKey,
}

/// What a writer does. Each topic has one partition.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The topic, which is the writer's alone.
    pub topic: &'static str,
    /// The settings that it is created with.
    pub settings: &'static [(&'static str, &'static str)],
    /// What they let go.
    pub kept: Kept,
    /// Records of a batch.
    pub records: Range<u64>,
    /// Bytes of a value, at least 8.
    pub value_bytes: Range<u64>,
    /// How its batches are compressed.
    pub codec: Codec,
    /// How many acknowledgements to others it waits for between two batches.
    pub pace: u64,
    /// The topic is deleted after so many batches, and made again.
    pub deleted_after: Option<Range<u64>>,
    /// After each batch one time in so many, all records but some of the last are deleted.
    pub trimmed_every: Option<u64>,
}

/// Whether the topic is there, as far as its writer knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It was never made, or its deletion was acknowledged.
    #[default]
    Absent,
    /// Its creation was asked for.
    Creating,
    /// Its creation was acknowledged.
    Present,
    /// Its deletion was asked for.
    Deleting,
}

/// A batch as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The life of the topic that it was sent in.
    pub generation: u32,
    /// Id and epoch of the producer, which are new in each generation.
    pub producer: (i64, i16),
    /// The sequence of its first record, which is also the record's own number.
    pub first: u32,
    /// Its records.
    pub count: u32,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What a writer knows.
#[derive(Clone, Default)]
pub struct Ledger {
    /// Its records; the producer of each is the generation.
    pub history: History,
    /// How often the topic was made.
    pub generation: u32,
    /// Whether the topic is there.
    pub presence: Presence,
    /// Where the log starts by deletions of records: acknowledged, and asked for.
    pub trimmed: (i64, i64),
    /// The newest batches, the oldest first.
    pub sent: VecDeque<Sent>,
}

impl Plan {
    /// The key of a record.
    pub fn key(&self, record: RecordId) -> Vec<u8> {
        match self.kept {
            Kept::NewestPerKey => (record.sequence % KEYS).to_be_bytes().to_vec(),
            Kept::All | Kept::FromLogStart => key_of(record).to_vec(),
        }
    }

    /// The value of a record: its name, then text that only it has.
    pub fn value(&self, record: RecordId) -> Vec<u8> {
        let mut dice = Dice::new(u64::from_be_bytes(key_of(record)));
        let size = dice.within(self.value_bytes.start, self.value_bytes.end) as usize;
        let mut value = key_of(record).to_vec();
        while value.len() < size {
            let bits = dice.bits();
            // Small ones are text, as telemetry is; large ones are as dense as pictures.
            match size {
                0..1024 => value.extend_from_slice(format!("{bits:016x}").as_bytes()),
                _ => value.extend_from_slice(&bits.to_be_bytes()),
            }
        }
        value.truncate(size);
        value
    }

    /// The record that was found, if it is one of ours in every part.
    pub fn name_of(&self, found: &Found) -> Option<RecordId> {
        let value = found.value.as_deref()?;
        let record = record_of(value.get(..8)?)?;
        let is_equal = *value == *self.value(record)
            && found.key.as_deref()? == self.key(record)
            && found.header(TIME)? == found.timestamp_ms.to_string();
        is_equal.then_some(record)
    }

    /// The batch of `count` records from `first` on.
    pub fn batch(&self, generation: u32, producer: (i64, i16), first: u32, count: u32) -> Sent {
        let (id, epoch) = producer;
        let mut builder =
            BatchBuilder::new(self.codec, None).with_producer(id, epoch, first as i32);
        for sequence in first..first + count {
            let record = RecordId { producer: generation, sequence };
            let (key, value) = (self.key(record), self.value(record));
            // Not quite in order, as devices' clocks are not.
            let timestamp = now_ms() - i64::from(sequence % 7);
            let text = timestamp.to_string();
            let header = Header { key: TIME.as_bytes(), value: Some(text.as_bytes()) };
            if let Err(error) = builder.push(timestamp, Some(&key), Some(&value), &[header]) {
                panic!("{}: {error}", self.topic);
            }
        }
        match builder.build() {
            Ok(bytes) => Sent { generation, producer, first, count, bytes },
            Err(error) => panic!("{}: {error}", self.topic),
        }
    }
}

impl Ledger {
    /// The remembered batch of this generation that holds a record, and the one after it.
    pub fn sent_with(&self, record: RecordId) -> Option<(&Sent, Option<&Sent>)> {
        let mut rest = self.sent.iter().filter(|sent| sent.generation == record.producer);
        let holds = |sent: &&Sent| (sent.first..sent.first + sent.count).contains(&record.sequence);
        rest.find(holds).map(|sent| (sent, rest.next()))
    }

    fn sending(&mut self, sent: &Sent) {
        for _ in 0..sent.count {
            self.history.sending(0, sent.generation);
        }
        if self.sent.len() == SENT_KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(sent.clone());
    }

    fn acknowledged(&mut self, sent: &Sent, base_offset: i64) {
        for index in 0..sent.count {
            let record = RecordId { producer: sent.generation, sequence: sent.first + index };
            self.history.acknowledged(0, record, Some(base_offset + i64::from(index)));
        }
    }
}

/// A writer at work.
pub struct Writer {
    /// What it does.
    pub plan: Plan,
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts one.
    pub fn start(plan: Plan, address: SocketAddr, progress: &Arc<Progress>, dice: Dice) -> Writer {
        let (ledger, stop) = (Arc::<Mutex<Ledger>>::default(), Arc::<AtomicBool>::default());
        let mut pen = Pen {
            plan: plan.clone(),
            ledger: ledger.clone(),
            stop: stop.clone(),
            progress: progress.clone(),
            dice,
            address,
            kafka: None,
        };
        let thread = Some(std::thread::spawn(move || while pen.live_once().is_some() {}));
        Writer { plan, ledger, stop, thread }
    }

    /// What it knows.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Let it end what it is at.
    pub fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            panic!("the writer of {} panicked", self.plan.topic);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The writer's side of its thread. Its methods answer `None` when it is told to stop.
struct Pen {
    plan: Plan,
    ledger: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    dice: Dice,
    address: SocketAddr,
    kafka: Option<Kafka>,
}

impl Pen {
    /// One life of the topic.
    fn live_once(&mut self) -> Option<()> {
        let Plan { topic, settings, .. } = self.plan;
        let generation = {
            let mut ledger = lock(&self.ledger);
            ledger.presence = Presence::Creating;
            ledger.generation += 1;
            ledger.generation
        };
        // Whoever asks twice may find it done.
        self.insist(Some(ErrorCode::TopicAlreadyExists), |kafka| {
            kafka.create_topic_with(topic, 1, settings)
        })?;
        lock(&self.ledger).presence = Presence::Present;
        let producer = self.insist(None, Kafka::new_producer_id)??;
        let batches = self.plan.deleted_after.clone();
        let batches = batches.map_or(u64::MAX, |range| self.dice.within(range.start, range.end));
        let mut next = 0;
        for _ in 0..batches {
            next = self.write(generation, producer, next)?;
        }
        lock(&self.ledger).presence = Presence::Deleting;
        self.insist(Some(ErrorCode::UnknownTopicOrPartition), |kafka| kafka.delete_topic(topic))?;
        lock(&self.ledger).presence = Presence::Absent;
        Some(())
    }

    /// One batch, until it is acknowledged; the next sequence.
    fn write(&mut self, generation: u32, producer: (i64, i16), first: u32) -> Option<u32> {
        let Range { start, end } = self.plan.records;
        let count = self.dice.within(start, end) as u32;
        let sent = self.plan.batch(generation, producer, first, count);
        lock(&self.ledger).sending(&sent);
        let topic = self.plan.topic;
        let base_offset =
            self.insist(None, |kafka| kafka.produce_bytes(topic, 0, sent.bytes.clone()))??;
        lock(&self.ledger).acknowledged(&sent, base_offset);
        if self.plan.trimmed_every.is_some_and(|every| self.dice.within(0, every) == 0) {
            let kept = self.dice.within(0, 200) as i64;
            self.trim(base_offset - kept)?;
        }
        self.progress.count();
        self.progress.wait_for(self.plan.pace, PACE);
        Some(first + count)
    }

    /// Delete the records below `offset`, or none if that was done before.
    fn trim(&mut self, offset: i64) -> Option<()> {
        {
            let mut ledger = lock(&self.ledger);
            if offset <= ledger.trimmed.0 {
                return Some(());
            }
            ledger.trimmed.1 = offset;
        }
        let topic = self.plan.topic;
        let start = self.insist(None, |kafka| kafka.delete_records(topic, 0, offset))??;
        lock(&self.ledger).trimmed.0 = start;
        Some(())
    }

    /// Try until it is done, over as many connections as it takes. `Some(None)`: the broker
    /// answered `done`, which tells that an earlier try did it.
    fn insist<T>(
        &mut self,
        done: Option<ErrorCode>,
        mut call: impl FnMut(&mut Kafka) -> Result<T, CallError>,
    ) -> Option<Option<T>> {
        while !self.stop.load(Ordering::Relaxed) {
            if self.kafka.is_none() {
                self.kafka = Kafka::connect(self.address, Duration::from_secs(10)).ok();
            }
            match self.kafka.as_mut().map(&mut call) {
                Some(Ok(answer)) => return Some(Some(answer)),
                Some(Err(CallError::Code(code))) if Some(code) == done => return Some(None),
                // An answer with an error leaves the connection as it was.
                Some(Err(CallError::Code(_))) => {}
                Some(Err(_)) | None => self.kafka = None,
            }
            self.progress.wait_for(1, PACE);
        }
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            topic: "t",
            settings: &[],
            kept: Kept::NewestPerKey,
            records: 1..2,
            value_bytes: 8..100,
            codec: Codec::None,
            pace: 0,
            deleted_after: None,
            trimmed_every: None,
        }
    }

    #[test]
    fn a_record_has_its_own_value_whenever_it_is_asked_for() {
        let (one, other) =
            (RecordId { producer: 1, sequence: 5 }, RecordId { producer: 1, sequence: 6 });
        assert_eq!(plan().value(one), plan().value(one));
        assert_ne!(plan().value(one)[8..], plan().value(other)[8..]);
        assert!(plan().value(one).starts_with(&key_of(one)));
    }

    #[test]
    fn a_batch_is_found_by_its_records_in_its_own_generation() {
        let mut ledger = Ledger::default();
        for (generation, first) in [(1, 0), (1, 2), (2, 0)] {
            ledger.sending(&plan().batch(generation, (7, 0), first, 2));
        }
        let found = |producer, sequence| ledger.sent_with(RecordId { producer, sequence });
        let (sent, next) = found(1, 1).unwrap();
        assert_eq!((sent.first, next.map(|next| next.first)), (0, Some(2)));
        let (sent, next) = found(1, 3).unwrap();
        assert_eq!((sent.first, next.is_none()), (2, true));
        assert!(found(2, 2).is_none());
    }
}
