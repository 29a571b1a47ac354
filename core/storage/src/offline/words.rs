//! Facts of the journal in words, for people who look into it. It must never be parsed.

use millpond_engine::{
    BrokerScope, Fact, GroupFact, PartitionKey, QuotaName, Sent, SentAnswer, SettingFact,
    TransactionFact,
};
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
        Fact::CursorMoved { partition, transform, cursor } => {
            format!("{}: transform {transform} goes on at offset {}", of(partition), cursor.next)
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
        Fact::Group(fact) => of_group(fact),
        Fact::LogStart { partition, offset } => {
            format!("{}: the log starts at offset {offset}", of(partition))
        }
        Fact::Setting(fact) => set(fact),
        Fact::User(fact) => {
            let known = if fact.credential.is_some() { "known" } else { "not known any more" };
            format!("user {} {known} by {:?}", fact.user, fact.hash)
        }
        Fact::Acl(fact) => {
            let state = if fact.holds { "holds" } else { "does not hold any more" };
            format!("rule {} {state}", fact.acl)
        }
        Fact::Transaction(fact) => step(fact, names),
    }
}

fn set(fact: &SettingFact) -> String {
    match fact {
        SettingFact::QuotaSet { entity, quota } => {
            let name = |name: &QuotaName| match name {
                QuotaName::Absent => "any".to_owned(),
                QuotaName::Default => "<default>".to_owned(),
                QuotaName::Named(name) => name.clone(),
            };
            let rate = |rate: Option<u64>| rate.map_or("none".to_owned(), |rate| rate.to_string());
            format!(
                "quota of user {} client {}: producers {}, consumers {} bytes a second, the engine {} us a \
                 second, partitions {} thousandths a second",
                name(&entity.user),
                name(&entity.client_id),
                rate(quota.producer_byte_rate),
                rate(quota.consumer_byte_rate),
                rate(quota.request_us_rate),
                rate(quota.mutation_milli_rate)
            )
        }
        SettingFact::BrokerConfigured { scope, configs } => {
            let settings: Vec<_> = configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let whose = if *scope == BrokerScope::All { "all brokers" } else { "this broker" };
            format!("{whose} configured: {}", settings.join(" "))
        }
    }
}

/// One line about a step of a transaction.
fn step(fact: &TransactionFact, names: &TopicNames) -> String {
    let end = |is_commit: &bool| if *is_commit { "commit" } else { "abort" };
    match fact {
        TransactionFact::ProducerAssigned { transactional_id, producer_id, epoch, .. } => {
            format!("transactional id {transactional_id} is producer {producer_id} epoch {epoch}")
        }
        TransactionFact::Joined { transactional_id, partitions, groups, .. } => {
            let shown = partitions.iter().take(SHOWN_MAX).map(|key| names.partition(*key));
            let shown: Vec<String> = shown.chain(groups.iter().take(SHOWN_MAX).cloned()).collect();
            let count = partitions.len() + groups.len();
            format!("transaction of {transactional_id} has {count} more: {}", shown.join(" "))
        }
        TransactionFact::OffsetsPending { producer_id, group, offsets } => {
            format!(
                "group {group}: {} when producer {producer_id} commits",
                committed(offsets, names)
            )
        }
        TransactionFact::Prepared { transactional_id, is_commit, epoch, .. } => {
            format!("transaction of {transactional_id}: {} decided, epoch {epoch}", end(is_commit))
        }
        TransactionFact::GroupMarked { group, producer_id, is_commit } => {
            format!("group {group}: {} of producer {producer_id}", end(is_commit))
        }
        TransactionFact::Completed { transactional_id, .. } => {
            format!("transaction of {transactional_id} complete")
        }
        TransactionFact::Expired { transactional_id } => {
            format!("transactional id {transactional_id} forgotten")
        }
    }
}

fn of_group(fact: &GroupFact) -> String {
    match fact {
        GroupFact::OffsetsExpire { group, at_ms, partitions } => {
            format!("group {group}: {} offsets expire at {at_ms}", partitions.len())
        }
        GroupFact::Classic { group, change } => format!(
            "group {group}: generation {} {}, {} members new or changed, {} gone, {} assignments",
            change.generation,
            if change.is_complete { "complete" } else { "begun" },
            change.joined.len(),
            change.gone.len(),
            change.assigned.len()
        ),
        GroupFact::Consumers { group, change } => format!(
            "group {group}: epoch {}, {} members new or changed, {} gone, {} moved",
            change.epoch,
            change.words.len(),
            change.gone.len(),
            change.places.len()
        ),
        GroupFact::Emptied { group } => format!("group {group}: nobody is in any more"),
        GroupFact::Noted { group, note: None } => format!("group {group}: nothing is kept"),
        GroupFact::Noted { group, note: Some(note) } => {
            let (kind, protocol_type) = (note.kind.name(), &note.protocol_type);
            let since = match note.empty_since_ms {
                Some(ms) => format!("empty since {ms}"),
                None => "in use".to_owned(),
            };
            let upto = note.epochs_upto;
            format!("group {group}: {kind} ({protocol_type}), {since}, epochs up to {upto}")
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
