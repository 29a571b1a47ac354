//! How soon what was decided must be on flash: at once, or, for topics that declare a window of
//! loss (`flush.ms`, `flush.messages`, `flush.bytes`), within that window. It keeps account of what
//! such topics answered for and a power cut would still take.
//!
//! Must never let a batch of a topic without a window be answered before it is durable, nor let
//! more of a topic be answered for than its window says. What consumers may read is not decided
//! here: that is what is durable, for all topics alike.
//!
//! After a power cut within the window a log lacks its last records, and its producers go on with
//! the sequences that follow those. Such a gap is taken, once for each producer that was last heard
//! before the start, and counted: refusing it would stop producers that did nothing wrong. What
//! lies in the gap is remembered as absent, so that it is never mistaken for a duplicate.

use crate::admission::SentRange;
use crate::engine::Engine;
use crate::entry::Fact;
use crate::producer::ProducerState;
use crate::topic::Topic;
use crate::topic_config::{FLUSH_BYTES, FLUSH_MESSAGES, FLUSH_MS};
use crate::units::{EntrySeq, PartitionKey};
use millpond_wire::limits;
use millpond_wire::uuid::Uuid;
use std::collections::{BTreeMap, VecDeque};

/// How soon an entry is to be on flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncBy {
    /// Somebody waits for it.
    Now,
    /// Nobody waits: its sync must begin at this monotonic time, in milliseconds, at the latest.
    AtMs(u64),
}

/// What a topic may lose at a power cut: whichever is reached first ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// A sync begins so many milliseconds after the answer; at least 1. While one takes longer than
    /// `LOSS_WINDOW_GRACE_MS`, answers wait for it.
    pub ms: u64,
    /// A batch that makes it so many records is answered after its sync.
    pub records: u64,
    /// The same in bytes of batches.
    pub bytes: u64,
}

impl Topic {
    /// The window of loss that the topic declares; `None`: it is synced before each answer.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        let own = |name: &str| -> Option<u64> {
            let value = self.configs.get(name)?.parse().ok()?;
            (value < i64::MAX as u64).then_some(value)
        };
        let (ms, records, bytes) = (own(FLUSH_MS), own(FLUSH_MESSAGES), own(FLUSH_BYTES));
        if (ms, records, bytes) == (None, None, None) || ms == Some(0) {
            return None;
        }
        Some(Window {
            ms: ms.unwrap_or(limits::DEFAULT_LOSS_WINDOW_MS).min(limits::LOSS_WINDOW_MS_MAX),
            records: records.unwrap_or(u64::MAX),
            bytes: bytes.unwrap_or(u64::MAX),
        })
    }
}

/// Appended and not durable: what a power cut now would take from topics with a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsynced {
    /// Records.
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Since when the oldest of them waits, in milliseconds; 0 when there is none.
    pub oldest_age_ms: u64,
}

/// A count of records and bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    records: u64,
    bytes: u64,
}

/// The account of the node.
#[derive(Debug, Default)]
pub(crate) struct Durability {
    /// The last entry that this start found: producers silent since may have lost batches.
    pub(crate) recovered_upto: EntrySeq,
    draft: DraftSync,
    /// Entries that are not durable, by topic with a window, in order.
    order: VecDeque<(EntrySeq, Uuid)>,
    by_topic: BTreeMap<Uuid, TopicUnsynced>,
    total: Amount,
}

/// One topic's part: entries as (made at, amount), oldest first; never empty.
#[derive(Debug, Default)]
struct TopicUnsynced {
    entries: VecDeque<(u64, Amount)>,
    total: Amount,
}

/// The entry that is being decided.
#[derive(Debug, Default)]
struct DraftSync {
    is_urgent: bool,
    /// The answer to the batch in hand waits for the entry.
    is_awaited: bool,
    sync_at_ms: Option<u64>,
    amounts: BTreeMap<Uuid, Amount>,
}

impl Amount {
    fn add(&mut self, other: Amount) {
        self.records += other.records;
        self.bytes += other.bytes;
    }

    fn take(&mut self, other: Amount) {
        self.records -= other.records;
        self.bytes -= other.bytes;
    }
}

impl Durability {
    /// Whether a batch of the topic may be answered before it is durable, given all that waits.
    fn is_within(&self, topic_id: Uuid, window: Window, now_ms: u64) -> bool {
        let mut amount = self.draft.amounts.get(&topic_id).copied().unwrap_or_default();
        let waiting = self.by_topic.get(&topic_id);
        if let Some(waiting) = waiting {
            amount.add(waiting.total);
        }
        let since_ms = waiting.and_then(|waiting| waiting.entries.front()).map(|first| first.0);
        amount.records < window.records
            && amount.bytes < window.bytes
            // A device that is slow to sync must not stretch the window without end.
            && since_ms.is_none_or(|since_ms| {
                now_ms.saturating_sub(since_ms) <= window.ms + limits::LOSS_WINDOW_GRACE_MS
            })
    }

    fn seal(&mut self, seq: EntrySeq, now_ms: u64) -> SyncBy {
        let draft = std::mem::take(&mut self.draft);
        for (topic_id, amount) in draft.amounts {
            self.order.push_back((seq, topic_id));
            let waiting = self.by_topic.entry(topic_id).or_default();
            waiting.entries.push_back((now_ms, amount));
            waiting.total.add(amount);
            self.total.add(amount);
        }
        match draft.sync_at_ms {
            Some(at_ms) if !draft.is_urgent => SyncBy::AtMs(at_ms),
            _ => SyncBy::Now,
        }
    }

    /// Entries up to `seq` are on flash.
    pub(crate) fn synced(&mut self, seq: EntrySeq) {
        while let Some((first, topic_id)) = self.order.front().copied()
            && first <= seq
        {
            self.order.pop_front();
            let Some(waiting) = self.by_topic.get_mut(&topic_id) else { continue };
            if let Some((_, amount)) = waiting.entries.pop_front() {
                waiting.total.take(amount);
                self.total.take(amount);
            }
            if waiting.entries.is_empty() {
                self.by_topic.remove(&topic_id);
            }
        }
    }
}

impl Engine {
    /// A batch that was sent to `key` is about to be decided.
    pub(crate) fn begin_batch(&mut self, key: PartitionKey) {
        self.durability.draft.is_awaited = !self.is_answered_early(key.topic_id);
    }

    /// The entry that the answer to the batch in hand rests on; 0: it may be given at once.
    pub(crate) fn rests_on(&self) -> EntrySeq {
        if self.durability.draft.is_awaited { self.current_seq() } else { EntrySeq(0) }
    }

    /// Whether batches of a topic are now answered before they are durable.
    pub(crate) fn is_answered_early(&self, topic_id: Uuid) -> bool {
        let window = self.state.catalog.by_id(topic_id).and_then(Topic::window);
        window.is_some_and(|window| self.durability.is_within(topic_id, window, self.now.mono_ms))
    }

    /// A fact is part of the current entry: what does it ask of the sync?
    pub(crate) fn note_sync(&mut self, fact: &Fact) {
        let (key, amount) = match fact {
            Fact::Appended { partition, batch, .. } => {
                let records = batch.next_offset() - batch.base_offset();
                let bytes = batch.size_bytes() as u64;
                (partition, Amount { records: records.unsigned_abs(), bytes })
            }
            Fact::Sent { partition, .. } | Fact::InputsCounted { partition, .. } => {
                (partition, Amount::default())
            }
            _ => return self.durability.draft.is_urgent = true,
        };
        // A transaction holds all that was answered within it, whatever its topics may lose.
        let is_whole =
            matches!(fact, Fact::Appended { batch, .. } if batch.attributes().is_transactional());
        let window = self.state.catalog.by_id(key.topic_id).and_then(Topic::window);
        let Some(window) = window.filter(|_| !is_whole) else {
            self.durability.draft.is_urgent = true;
            self.durability.draft.is_awaited = true;
            return;
        };
        let now_ms = self.now.mono_ms;
        let draft = &mut self.durability.draft;
        let at_ms = now_ms.saturating_add(window.ms);
        draft.sync_at_ms = Some(draft.sync_at_ms.map_or(at_ms, |before| before.min(at_ms)));
        draft.amounts.entry(key.topic_id).or_default().add(amount);
        if !self.durability.is_within(key.topic_id, window, now_ms) {
            self.durability.draft.is_urgent = true;
            self.durability.draft.is_awaited = true;
        }
    }

    /// The current entry is closed.
    pub(crate) fn seal_sync(&mut self, seq: EntrySeq) -> SyncBy {
        self.durability.seal(seq, self.now.mono_ms)
    }

    /// The gap that a batch leaves behind what is known of its producer, if a power cut within the
    /// topic's window explains it: the first sequence that is missing.
    pub(crate) fn gap_after_loss(
        &self,
        key: PartitionKey,
        range: SentRange,
        known: Option<&ProducerState>,
    ) -> Option<i32> {
        let known = known?;
        // Damage to the journal may have taken them as well.
        if !known.is_doubtful {
            if known.touched > self.durability.recovered_upto {
                return None;
            }
            self.state.catalog.by_id(key.topic_id)?.window()?;
        }
        // The first batches of a new epoch may be among what was lost.
        let expected = if range.epoch == known.epoch { known.next_sequence()? } else { 0 };
        let log = self.state.catalog.partition(key)?;
        log.pending.may_leave_gap(range, known.epoch, expected).then_some(expected)
    }

    /// A batch is taken although sequences from `from` on are missing before it.
    pub(crate) fn take_gap(&mut self, key: PartitionKey, range: SentRange, from: i32) {
        self.counters.sequence_gaps_after_loss += 1;
        let gap = SequenceGap { epoch: range.epoch, from, upto: range.base_sequence };
        if let Some(log) = self.state.catalog.partition_mut(key) {
            log.pending.remember_gap(range.producer_id, gap);
        }
    }

    /// What topics with a window have appended and a power cut at `now_mono_ms` would take.
    #[must_use]
    pub fn unsynced(&self, now_mono_ms: u64) -> Unsynced {
        let all = &self.durability;
        let first = all.order.front().and_then(|(_, topic_id)| all.by_topic.get(topic_id));
        unsynced(all.total, first, now_mono_ms)
    }

    /// The same of one topic.
    #[must_use]
    pub fn unsynced_of(&self, topic_id: Uuid, now_mono_ms: u64) -> Unsynced {
        let waiting = self.durability.by_topic.get(&topic_id);
        let total = waiting.map(|waiting| waiting.total).unwrap_or_default();
        unsynced(total, waiting, now_mono_ms)
    }
}

fn unsynced(total: Amount, oldest: Option<&TopicUnsynced>, now_mono_ms: u64) -> Unsynced {
    let since_ms = oldest.and_then(|waiting| waiting.entries.front()).map(|first| first.0);
    Unsynced {
        records: total.records,
        bytes: total.bytes,
        oldest_age_ms: since_ms.map_or(0, |since_ms| now_mono_ms.saturating_sub(since_ms)),
    }
}

/// Sequences of one producer, of one epoch, that a power cut took: `from` to before `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceGap {
    pub(crate) epoch: i16,
    pub(crate) from: i32,
    pub(crate) upto: i32,
}

impl SequenceGap {
    /// Whether it was left by this batch.
    pub(crate) fn ends_at(self, range: SentRange) -> bool {
        range.epoch == self.epoch && range.base_sequence == self.upto
    }

    /// Whether a batch lies in the gap, wholly or in part.
    pub(crate) fn holds(self, range: SentRange) -> bool {
        let within = |sequence: i32| {
            let step = sequence.wrapping_sub(self.from) & i32::MAX;
            step < self.upto.wrapping_sub(self.from) & i32::MAX
        };
        range.epoch == self.epoch && (within(range.base_sequence) || within(range.last_sequence))
    }
}
