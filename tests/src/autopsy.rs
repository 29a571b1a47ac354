//! Judges what a broker brought back from a power cut: everything that was acknowledged before the
//! cut began is there; whatever else is there was sent before the cut ended; a producer that sends
//! its last batch again is told where it stands, and its next one follows. Writes to the broker
//! that it judges, which must therefore be one that nobody needs any more.

use std::collections::HashMap;

use millpond_wire::ErrorCode;

use crate::history::{Partition, RecordId, Violation};
use crate::kafka::{CallError, Found, Kafka};
use crate::load::record_of;
use crate::writer::{Kept, Ledger, Plan, Presence, Sent};

/// What stood there, for the tally.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sight {
    /// Records that were read.
    pub records: u64,
    /// The first offset that is served.
    pub log_start: i64,
    /// Whether offsets between the first and the last are missing.
    pub has_gaps: bool,
    /// Whether the topic is not there at all.
    pub is_absent: bool,
}

/// What is wrong, in sentences.
pub type Complaints = Vec<String>;

/// Judge the topic of a writer, of whose ledger one look was taken before the cut and one after.
pub fn judge_writer(
    kafka: &mut Kafka,
    plan: &Plan,
    before: &Ledger,
    after: &Ledger,
    complaints: &mut Complaints,
) -> Result<Sight, CallError> {
    let topic = plan.topic;
    let Some((log_start, found)) = read_topic(kafka, topic)? else {
        complaints.extend(judge_absence(topic, before, after));
        return Ok(Sight { is_absent: true, ..Sight::default() });
    };
    let mut named = Vec::with_capacity(found.len());
    for record in &found {
        match plan.name_of(record) {
            Some(name) => named.push((record.offset, name)),
            None => complaints.push(format!("{topic}: {} is no record of ours", record.offset)),
        }
    }
    let generation = named.last().map_or(after.generation, |(_, name)| name.producer);
    complaints.extend(judge_generation(topic, before, after, generation, &named));
    let judge = Judge { plan, log_start, generation, newest: newest_by_key(plan, &named) };
    let violations = after.history.check_partition(&before.history, 0, log_start, named.clone());
    let counted = violations.into_iter().filter(|violation| judge.counts(violation));
    complaints.extend(counted.map(|violation| format!("{topic}, {violation}")));
    complaints.extend(judge_log_start(plan, before, after, log_start));
    if let Some(&(offset, name)) = named.last() {
        judge_sequences(kafka, plan, after, offset, name, complaints)?;
    }
    let span = named.last().map_or(0, |(last, _)| last + 1 - log_start);
    let has_gaps = span != named.len() as i64;
    Ok(Sight { records: named.len() as u64, log_start, has_gaps, is_absent: false })
}

/// The log start and all that stands from there on; None if there is no such topic.
fn read_topic(kafka: &mut Kafka, topic: &str) -> Result<Option<(i64, Vec<Found>)>, CallError> {
    loop {
        let log_start = match kafka.list_offset(topic, 0, -2) {
            Err(CallError::Code(ErrorCode::UnknownTopicOrPartition)) => return Ok(None),
            found => found?,
        };
        match kafka.read(topic, 0, log_start) {
            // Retention goes on meanwhile.
            Err(CallError::Code(ErrorCode::OffsetOutOfRange)) => {}
            found => return Ok(Some((log_start, found?))),
        }
    }
}

fn judge_absence(topic: &str, before: &Ledger, after: &Ledger) -> Option<String> {
    let was_there = before.presence == Presence::Present
        && after.presence == Presence::Present
        && before.generation == after.generation;
    was_there.then(|| format!("{topic}: the topic is gone, and nobody deleted it"))
}

/// Deleted records stay deleted, and nobody else's go.
fn judge_log_start(plan: &Plan, before: &Ledger, after: &Ledger, start: i64) -> Option<String> {
    let topic = plan.topic;
    let most = match plan.kept {
        // Where retention puts it is retention's affair.
        Kept::FromLogStart if plan.trimmed_every.is_none() => i64::MAX,
        _ => after.trimmed.1,
    };
    let least = before.trimmed.0;
    let is_wrong = !(least..=most).contains(&start);
    is_wrong.then(|| format!("{topic}: begins at {start} and not in {least}..={most}"))
}

/// A topic that was deleted does not come back, and never shares a log with its successor.
fn judge_generation(
    topic: &str,
    before: &Ledger,
    after: &Ledger,
    generation: u32,
    named: &[(i64, RecordId)],
) -> Complaints {
    let mut complaints = Complaints::new();
    let first = before.generation + u32::from(before.presence == Presence::Absent);
    if !(first..=after.generation).contains(&generation) {
        complaints.push(format!("{topic}: generation {generation} is back from the dead"));
    }
    if let Some((offset, name)) = named.iter().find(|(_, name)| name.producer != generation) {
        complaints.push(format!("{topic}: {name} at {offset} is of another generation"));
    }
    complaints
}

/// The highest offset of each key that was found.
fn newest_by_key(plan: &Plan, named: &[(i64, RecordId)]) -> HashMap<Vec<u8>, i64> {
    named.iter().map(|&(offset, name)| (plan.key(name), offset)).collect()
}

/// Knows which violations a topic's settings and history excuse.
struct Judge<'a> {
    plan: &'a Plan,
    log_start: i64,
    generation: u32,
    newest: HashMap<Vec<u8>, i64>,
}

impl Judge<'_> {
    fn counts(&self, violation: &Violation) -> bool {
        match (violation, self.plan.kept) {
            // What a deleted topic held is gone.
            (Violation::Lost { record, .. }, _) if record.producer != self.generation => false,
            (Violation::Lost { promised: Some(offset), .. }, Kept::FromLogStart) => {
                *offset >= self.log_start
            }
            (Violation::Lost { record, promised: Some(offset), .. }, Kept::NewestPerKey) => {
                self.newest.get(&self.plan.key(*record)).is_none_or(|newest| newest < offset)
            }
            (Violation::Gap { expected, found, .. }, Kept::NewestPerKey) => found < expected,
            _ => true,
        }
    }
}

/// The producer of the last record goes on as if its answer had been lost.
fn judge_sequences(
    kafka: &mut Kafka,
    plan: &Plan,
    after: &Ledger,
    last_offset: i64,
    last: RecordId,
    complaints: &mut Complaints,
) -> Result<(), CallError> {
    let topic = plan.topic;
    let Some((sent, next)) = after.sent_with(last) else {
        complaints.push(format!("{topic}: {last} at {last_offset} is older than the ledger"));
        return Ok(());
    };
    if last.sequence != sent.first + sent.count - 1 {
        complaints.push(format!("{topic}: only a part of a batch is there, up to {last}"));
        return Ok(());
    }
    let Sent { generation, producer, .. } = *sent;
    let follow = |first, count| plan.batch(generation, producer, first, count);
    let next = next.cloned().unwrap_or_else(|| follow(sent.first + sent.count, 2));
    let ahead = follow(next.first + next.count + 3, 1);
    let stands = last_offset + 1 - i64::from(sent.count);
    let mut send = |what: &str, batch: &Sent, wanted: Result<i64, ErrorCode>| {
        let answer = match kafka.produce_bytes(topic, 0, batch.bytes.clone()) {
            Ok(offset) => Ok(offset),
            Err(CallError::Code(code)) => Err(code),
            Err(error) => return Err(error),
        };
        if answer != wanted {
            let of = RecordId { producer: generation, sequence: batch.first };
            complaints.push(format!("{topic}: {what}, {of}: {answer:?} and not {wanted:?}"));
        }
        Ok(())
    };
    send("the last batch again", sent, Ok(stands))?;
    send("the next batch", &next, Ok(last_offset + 1))?;
    send("the next batch again", &next, Ok(last_offset + 1))?;
    send("one too far ahead", &ahead, Err(ErrorCode::OutOfOrderSequenceNumber))?;
    let tail = kafka.read(topic, 0, last_offset)?;
    let tail: Vec<u32> =
        tail.iter().filter_map(|found| plan.name_of(found)).map(|name| name.sequence).collect();
    if tail != (last.sequence..next.first + next.count).collect::<Vec<u32>>() {
        complaints.push(format!("{topic}: behind {last} at {last_offset} stand {tail:?}"));
    }
    Ok(())
}

/// The records of a load's stream, by name.
pub fn read_stream(
    kafka: &mut Kafka,
    topic: &str,
    partition: Partition,
) -> Result<Vec<(i64, RecordId)>, CallError> {
    let found = kafka.read(topic, partition, 0)?.into_iter().map(|record| {
        let name = record.key.as_deref().and_then(record_of);
        name.map(|name| (record.offset, name))
            .ok_or_else(|| CallError::Nonsense(format!("a record that no load made: {record:?}")))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(kept: Kept, log_start: i64, newest: &[(u32, i64)]) -> Judge<'static> {
        let plan: &'static Plan = Box::leak(Box::new(Plan {
            topic: "t",
            settings: &[],
            kept,
            records: 1..2,
            value_bytes: 8..9,
            codec: millpond_wire::record::Codec::None,
            pace: 0,
            deleted_after: None,
            trimmed_every: None,
        }));
        let key = |sequence| plan.key(RecordId { producer: 1, sequence });
        let newest = newest.iter().map(|&(sequence, offset)| (key(sequence), offset)).collect();
        Judge { plan, log_start, generation: 1, newest }
    }

    fn lost(producer: u32, sequence: u32, offset: i64) -> Violation {
        let record = RecordId { producer, sequence };
        Violation::Lost { partition: 0, record, promised: Some(offset) }
    }

    #[test]
    fn what_retention_may_take_is_what_lies_below_the_log_start() {
        let judge = judge(Kept::FromLogStart, 10, &[]);
        assert!(!judge.counts(&lost(1, 9, 9)));
        assert!(judge.counts(&lost(1, 10, 10)));
        assert!(judge.counts(&Violation::Gap { partition: 0, expected: 12, found: 13 }));
    }

    #[test]
    fn what_compaction_may_take_is_what_came_again_later() {
        let judge = judge(Kept::NewestPerKey, 0, &[(3, 40)]);
        assert!(!judge.counts(&lost(1, 3, 3)));
        assert!(judge.counts(&lost(1, 4, 4)));
        assert!(judge.counts(&lost(1, 3, 41)));
        assert!(!judge.counts(&Violation::Gap { partition: 0, expected: 12, found: 13 }));
        assert!(judge.counts(&Violation::Gap { partition: 0, expected: 12, found: 11 }));
    }

    #[test]
    fn nothing_may_go_from_a_topic_that_keeps_all_but_what_its_deletion_took() {
        let judge = judge(Kept::All, 0, &[]);
        assert!(judge.counts(&lost(1, 0, 0)));
        let other = RecordId { producer: 0, sequence: 0 };
        assert!(!judge.counts(&Violation::Lost { partition: 0, record: other, promised: None }));
    }

    #[test]
    fn a_topic_may_be_absent_only_around_its_deletion() {
        let ledger = |presence| Ledger { generation: 2, presence, ..Ledger::default() };
        let [present, deleting] = [Presence::Present, Presence::Deleting].map(ledger);
        assert!(judge_absence("t", &present, &present).is_some());
        assert!(judge_absence("t", &present, &deleting).is_none());
        let absent = ledger(Presence::Absent);
        assert!(!judge_generation("t", &absent, &absent, 2, &[]).is_empty());
        assert!(judge_generation("t", &deleting, &absent, 2, &[]).is_empty());
    }
}
