//! The table of topic configurations: every standard Kafka name with its default, type, synonym
//! and meaning, and the check of a value. Values are only accepted, never acted on, here.

use millpond_wire::limits;
use std::collections::BTreeMap;

/// What values a configuration takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    Text,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these, separated by commas.
    ListOf(&'static [&'static str]),
    /// Any list.
    List,
    /// A 32-bit number of at least this.
    Int(i32),
    /// A 64-bit number of at least this.
    Long(i64),
    /// A number within these bounds.
    Within(i32, i32),
    /// A number from 0 to 1.
    Ratio,
}

impl ConfigKind {
    /// Kafka's number for the type, as DescribeConfigs gives it from version 3 on.
    #[must_use]
    pub fn code(self) -> i8 {
        match self {
            ConfigKind::Boolean => 1,
            ConfigKind::Text | ConfigKind::OneOf(_) => 2,
            ConfigKind::Int(_) | ConfigKind::Within(..) => 3,
            ConfigKind::Long(_) => 5,
            ConfigKind::Ratio => 6,
            ConfigKind::List | ConfigKind::ListOf(_) => 7,
        }
    }

    pub(crate) fn is_list(self) -> bool {
        matches!(self, ConfigKind::List | ConfigKind::ListOf(_))
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            ConfigKind::Boolean => value == "true" || value == "false",
            ConfigKind::Text | ConfigKind::List => true,
            ConfigKind::OneOf(choices) => choices.contains(&value),
            ConfigKind::ListOf(choices) => {
                !value.is_empty() && value.split(',').all(|item| choices.contains(&item.trim()))
            }
            ConfigKind::Within(min, max) => {
                value.parse::<i32>().is_ok_and(|number| (min..=max).contains(&number))
            }
            ConfigKind::Int(min) => value.parse::<i32>().is_ok_and(|number| number >= min),
            ConfigKind::Long(min) => value.parse::<i64>().is_ok_and(|number| number >= min),
            ConfigKind::Ratio => {
                value.parse::<f64>().is_ok_and(|number| (0.0..=1.0).contains(&number))
            }
        }
    }
}

/// One configuration of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// Used when the topic does not say.
    pub default: &'static str,
    /// What values it takes.
    pub kind: ConfigKind,
    /// The broker configuration that Kafka takes the default from.
    pub synonym: &'static str,
    /// One sentence for people.
    pub doc: &'static str,
}

const fn row(
    name: &'static str,
    default: &'static str,
    kind: ConfigKind,
    synonym: &'static str,
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { name, default, kind, synonym, doc }
}

/// `flush.bytes`, our own.
pub(crate) const FLUSH_BYTES: &str = "flush.bytes";
/// `flush.messages`.
pub(crate) const FLUSH_MESSAGES: &str = "flush.messages";
/// `flush.ms`.
pub(crate) const FLUSH_MS: &str = "flush.ms";
/// `cleanup.policy`.
pub(crate) const CLEANUP_POLICY: &str = "cleanup.policy";
/// `millpond.on.full`.
pub(crate) const ON_FULL: &str = "millpond.on.full";
/// `millpond.priority`.
pub(crate) const PRIORITY: &str = "millpond.priority";
/// `retention.bytes`.
pub(crate) const RETENTION_BYTES: &str = "retention.bytes";
/// `retention.ms`.
pub(crate) const RETENTION_MS: &str = "retention.ms";
/// `max.message.bytes`.
pub(crate) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// `message.timestamp.type`.
pub(crate) const MESSAGE_TIMESTAMP_TYPE: &str = "message.timestamp.type";

/// `segment.bytes`.
pub(crate) const SEGMENT_BYTES: &str = "segment.bytes";
/// `segment.ms`.
pub(crate) const SEGMENT_MS: &str = "segment.ms";

/// Every topic configuration, by name.
#[rustfmt::skip]
pub const TOPIC_CONFIGS: &[TopicConfig] = {
    use ConfigKind::{Boolean, Int, List, ListOf, Long, OneOf, Ratio, Within};
    &[
        row(CLEANUP_POLICY, "delete", ListOf(&["delete", "compact"]), "log.cleanup.policy", "What becomes of old segments: deleted, compacted by key, or both."),
        row("compression.gzip.level", "-1", Int(-1), "compression.gzip.level", "Level when compression.type is gzip."),
        row("compression.lz4.level", "9", Int(1), "compression.lz4.level", "Level when compression.type is lz4."),
        row("compression.type", "producer", OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "compression.type", "The codec that batches are served in; producer keeps what was sent."),
        row("compression.zstd.level", "3", Int(-131_072), "compression.zstd.level", "Level when compression.type is zstd."),
        row("delete.retention.ms", "86400000", Long(0), "log.cleaner.delete.retention.ms", "How long compaction keeps tombstones."),
        row("file.delete.delay.ms", "60000", Long(0), "log.segment.delete.delay.ms", "Kept for tools. A deleted segment's file goes with the next checkpoint."),
        row(FLUSH_BYTES, "9223372036854775807", Long(1), "log.flush.interval.bytes", "Not of Kafka. Bytes that a power cut may take: batches are answered before they are synced until so many wait. As set by default, and no flush setting is otherwise: every batch is synced before its answer."),
        row(FLUSH_MESSAGES, "9223372036854775807", Long(1), "log.flush.interval.messages", "Records that a power cut may take: batches are answered before they are synced until so many wait. As set by default, and no flush setting is otherwise: every batch is synced before its answer."),
        row(FLUSH_MS, "9223372036854775807", Long(0), "log.flush.interval.ms", "Time within which a power cut may take what was answered: batches are answered at once and synced so much later, at most 10 s; consumers see them then. As set by default, and no flush setting is otherwise, or 0: every batch is synced before its answer. With flush.messages or flush.bytes alone: 1 s."),
        row("follower.replication.throttled.replicas", "", List, "follower.replication.throttled.replicas", "Replicas whose copying is throttled on the follower."),
        row("index.interval.bytes", "4096", Int(0), "log.index.interval.bytes", "Kept for tools. Indexes are in memory; their density is the node's choice."),
        row("leader.replication.throttled.replicas", "", List, "leader.replication.throttled.replicas", "Replicas whose copying is throttled on the leader."),
        row("local.retention.bytes", "-2", Long(-2), "log.local.retention.bytes", "Bytes kept locally where older ones are tiered."),
        row("local.retention.ms", "-2", Long(-2), "log.local.retention.ms", "Time that segments stay local where older ones are tiered."),
        row("max.compaction.lag.ms", "9223372036854775807", Long(1), "log.cleaner.max.compaction.lag.ms", "Longest that a record stays uncompacted."),
        row(MAX_MESSAGE_BYTES, "1048588", Int(0), "message.max.bytes", "Largest record batch that is accepted."),
        row("message.downconversion.enable", "true", Boolean, "log.message.downconversion.enable", "Kept for old tools; there is only one message format."),
        row("message.format.version", "3.0-IV1", ConfigKind::Text, "log.message.format.version", "Kept for old tools; there is only one message format."),
        row("message.timestamp.after.max.ms", "9223372036854775807", Long(0), "log.message.timestamp.after.max.ms", "Kept for tools: every timestamp is accepted. Those more than a day ahead do not age other records."),
        row("message.timestamp.before.max.ms", "9223372036854775807", Long(0), "log.message.timestamp.before.max.ms", "Kept for tools: every timestamp is accepted."),
        row("message.timestamp.difference.max.ms", "9223372036854775807", Long(0), "log.message.timestamp.difference.max.ms", "Kept for tools: every timestamp is accepted."),
        row(MESSAGE_TIMESTAMP_TYPE, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), "log.message.timestamp.type", "Whose clock writes the timestamp: the producer's or the broker's. With LogAppendTime all records of a batch have one time, so small batches that came at different times are not packed into one: they take more flash."),
        row(ON_FULL, "reject", OneOf(&["reject", "drop-oldest"]), "millpond.on.full", "When the node's storage is full: refuse new records, or make room by dropping the oldest ones of this topic."),
        row(PRIORITY, "50", Within(0, 100), "millpond.priority", "From 0 to 100; when the node's storage runs short, topics of a lower priority are dropped from and refused first."),
        row("min.cleanable.dirty.ratio", "0.5", Ratio, "log.cleaner.min.cleanable.ratio", "Share of uncompacted bytes that starts a compaction."),
        row("min.compaction.lag.ms", "0", Long(0), "log.cleaner.min.compaction.lag.ms", "Shortest that a record stays uncompacted."),
        row("min.insync.replicas", "1", Int(1), "min.insync.replicas", "Replicas that must have a batch before acks=all is answered."),
        row("preallocate", "false", Boolean, "log.preallocate", "Kept for tools. The journal is always preallocated, segments never are."),
        row("remote.storage.enable", "false", Boolean, "remote.log.storage.system.enable", "Tier old segments; not available."),
        row(RETENTION_BYTES, "-1", Long(-1), "log.retention.bytes", "Bytes of a partition's segments, as large as they are on the device, beyond which the oldest go; -1: no limit. Whole segments only."),
        row(RETENTION_MS, "604800000", Long(-1), "log.retention.ms", "Age of a segment's newest record beyond which it goes, once the clock has been steady for ten minutes; -1: no limit."),
        row(SEGMENT_BYTES, "1073741824", Int(14), "log.segment.bytes", "Size beyond which a segment is closed; at most 64 MiB, whatever this says."),
        row("segment.index.bytes", "10485760", Int(4), "log.index.size.max.bytes", "Kept for tools. Indexes are in memory."),
        row("segment.jitter.ms", "0", Long(0), "log.roll.jitter.ms", "Kept for tools; nothing is random here."),
        row(SEGMENT_MS, "604800000", Long(1), "log.roll.ms", "Age at which a segment is closed, counted from the start of the node at the earliest. A shorter retention.ms closes it after a quarter of that."),
        row("unclean.leader.election.enable", "false", Boolean, "unclean.leader.election.enable", "Let a replica that lacks records lead."),
    ]
};

/// Why a topic's configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such name.
    #[error("unknown topic config name: {0}")]
    Unknown(String),
    /// The value is not of its kind.
    #[error("invalid value {value:?} for configuration {name}")]
    Value {
        /// Of the configuration.
        name: String,
        /// As given.
        value: String,
    },
    /// Too many.
    #[error("{0} configurations are given; there are not so many")]
    TooMany(usize),
}

/// The row of a name.
#[must_use]
pub(crate) fn find(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|config| config.name == name)
}

/// Checks all given values.
///
/// # Errors
/// The first that cannot be accepted.
pub(crate) fn validate(configs: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    if configs.len() > limits::TOPIC_CONFIGS_MAX {
        return Err(ConfigError::TooMany(configs.len()));
    }
    for (name, value) in configs {
        let Some(config) = find(name) else {
            return Err(ConfigError::Unknown(name.clone()));
        };
        let fits = value.len() <= limits::TOPIC_CONFIG_VALUE_BYTES_MAX;
        if !fits || !config.kind.accepts(value) {
            let value = value.chars().take(64).collect();
            return Err(ConfigError::Value { name: name.clone(), value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_own_kind_and_names_are_sorted() {
        for config in TOPIC_CONFIGS {
            assert!(config.kind.accepts(config.default), "{}", config.name);
        }
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|config| config.name));
    }

    #[test]
    fn unknown_names_and_values_of_another_kind_are_refused() {
        let check = |name: &str, value: &str| {
            validate(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert_eq!(check("cleanup.policy", "compact,delete"), Ok(()));
        assert_eq!(check("retention.ms", "-1"), Ok(()));
        assert!(matches!(check("no.such.thing", "1"), Err(ConfigError::Unknown(_))));
        for (name, value) in
            [("retention.ms", "soon"), ("cleanup.policy", "burn"), ("preallocate", "yes")]
        {
            assert!(matches!(check(name, value), Err(ConfigError::Value { .. })), "{name}");
        }
    }
}
