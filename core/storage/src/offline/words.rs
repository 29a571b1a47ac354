//! Facts of the journal in words, for people who look into it. It must never be parsed.

use millpond_engine::{Fact, PartitionKey, Sent, SentAnswer};
use millpond_wire::record::LogBatch;

use super::names::TopicNames;

/// One line about a fact.
pub(super) fn describe(fact: &Fact, names: &TopicNames) -> String {
    let of = |key: &PartitionKey| names.partition(*key);
    match fact {
        Fact::TopicCreated { name, partitions, .. } => {
            format!("topic {name} created with {partitions} partitions")
        }
        Fact::TopicDeleted { id } => format!("topic {} deleted", names.name(*id)),
        Fact::PartitionsAdded { id, total } => {
            format!("topic {} has {total} partitions now", names.name(*id))
        }
        Fact::Appended { partition, batch, sent } => {
            format!("{}: appended {}{}", of(partition), range(batch), by(sent.as_ref()))
        }
        Fact::Sent { partition, sent } => {
            format!("{}: accepted{}", of(partition), by(Some(sent)))
        }
        Fact::ProducerIdsReserved { upto } => format!("producer ids below {upto} reserved"),
        Fact::OffsetsCommitted { group, offsets } => {
            format!("group {group} committed {}", committed(offsets, names))
        }
        Fact::OffsetsDeleted { group, partitions } => match partitions {
            None => format!("all offsets of group {group} deleted"),
            Some(keys) => format!("offsets of group {group} deleted: {} partitions", keys.len()),
        },
        Fact::TransformDeployed(deployment) => {
            format!("transform {} deployed", deployment.spec.name)
        }
        Fact::TransformDeleted { name } => format!("transform {name} deleted"),
        Fact::TransformPaused { name, paused } => {
            format!("transform {name} {}", if *paused { "paused" } else { "resumed" })
        }
        Fact::InputsCounted { partition, records } => {
            format!("{}: {records} records given to transforms so far", of(partition))
        }
        Fact::TopicConfigured { id, configs } => {
            let settings: Vec<_> = configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("topic {} configured: {}", names.name(*id), settings.join(" "))
        }
        Fact::LeaderEpoch { partition, epoch } => {
            format!("{}: leader epoch {epoch}", of(partition))
        }
        Fact::Lost { partition, upto } => {
            format!("{}: offsets below {upto} that do not follow are lost", of(partition))
        }
        Fact::OffsetsExpire { group, at_ms, partitions } => {
            format!("group {group}: {} offsets expire at {at_ms}", partitions.len())
        }
        Fact::GroupNoted { group, note: None } => format!("group {group}: nothing is kept"),
        Fact::GroupNoted { group, note: Some(note) } => {
            let (kind, type_) = (note.kind.name(), &note.protocol_type);
            let since = match note.empty_since_ms {
                Some(ms) => format!("empty since {ms}"),
                None => "in use".to_owned(),
            };
            format!("group {group}: {kind} ({type_}), {since}, epochs up to {}", note.epochs_upto)
        }
        Fact::LogStart { partition, offset } => {
            format!("{}: the log starts at offset {offset}", of(partition))
        }
    }
}

fn range(batch: &LogBatch) -> String {
    let (first, last, bytes) = (batch.base_offset(), batch.last_offset(), batch.size_bytes());
    match first == last {
        true => format!("offset {first}, {bytes} bytes"),
        false => format!("offsets {first} to {last}, {bytes} bytes"),
    }
}

fn by(sent: Option<&Sent>) -> String {
    let Some(sent) = sent else { return String::new() };
    let answer = match sent.answer {
        SentAnswer::NoOffset => "no offset".to_owned(),
        SentAnswer::Offset(offset) => format!("offset {offset}"),
    };
    format!(
        ", from producer {} epoch {} sequences {} to {}, answered with {answer}",
        sent.producer_id, sent.producer_epoch, sent.base_sequence, sent.last_sequence
    )
}

fn committed(
    offsets: &[(PartitionKey, millpond_engine::CommittedOffset)],
    names: &TopicNames,
) -> String {
    let one = |(key, at): &(PartitionKey, millpond_engine::CommittedOffset)| {
        format!("{}@{}", names.partition(*key), at.offset)
    };
    let shown: Vec<String> = offsets.iter().take(SHOWN_MAX).map(one).collect();
    let more = offsets.len().saturating_sub(SHOWN_MAX);
    match more {
        0 => shown.join(" "),
        _ => format!("{} and {more} more", shown.join(" ")),
    }
}

/// Offsets of one commit that are spelled out.
const SHOWN_MAX: usize = 8;
