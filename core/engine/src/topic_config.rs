//! The table of topic configurations: every standard Kafka name with its default, type, synonym
//! and meaning, and the check of a value. Values are only accepted, never acted on, here.

use millpond_wire::limits;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

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

    /// What is wrong with a value, in Kafka's words; `None`: nothing.
    pub(crate) fn problem(self, value: &str) -> Option<String> {
        fn number<T: FromStr + PartialOrd>(
            value: &str,
            kind: &str,
            at_least: (T, &dyn Display),
            at_most: Option<(T, &dyn Display)>,
        ) -> Option<String> {
            let Ok(number) = value.parse::<T>() else {
                return Some(format!("Not a number of type {kind}"));
            };
            if number < at_least.0 {
                return Some(format!("Value must be at least {}", at_least.1));
            }
            let (most, shown) = at_most?;
            (number > most).then(|| format!("Value must be no more than {shown}"))
        }
        match self {
            ConfigKind::Boolean => (value != "true" && value != "false")
                .then(|| "Expected value to be either true or false".to_owned()),
            ConfigKind::Text | ConfigKind::List => None,
            ConfigKind::OneOf(choices) => (!choices.contains(&value))
                .then(|| format!("String must be one of: {}", choices.join(", "))),
            ConfigKind::ListOf(choices) => {
                let fits = value.split(',').all(|item| choices.contains(&item.trim()));
                (!fits).then(|| format!("String must be one of: {}", choices.join(", ")))
            }
            ConfigKind::Within(min, max) => number(value, "INT", (min, &min), Some((max, &max))),
            ConfigKind::Int(min) => number(value, "INT", (min, &min), None),
            ConfigKind::Long(min) => number(value, "LONG", (min, &min), None),
            ConfigKind::Ratio => match value.parse::<f64>() {
                Ok(ratio) if ratio.is_nan() => Some("Not a number of type DOUBLE".to_owned()),
                _ => number(value, "DOUBLE", (0.0, &0), Some((1.0, &1))),
            },
        }
    }

    /// A value as it is kept: Kafka does not mind spaces around it, nor the case of a boolean.
    fn normal(self, value: &str) -> String {
        let value = value.trim();
        if self == ConfigKind::Boolean { value.to_ascii_lowercase() } else { value.to_owned() }
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
    /// Whether it always has its default here.
    pub is_read_only: bool,
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
    TopicConfig { name, default, kind, synonym, is_read_only: false, doc }
}

/// One that cannot be changed here.
const fn fixed(
    name: &'static str,
    default: &'static str,
    kind: ConfigKind,
    synonym: &'static str,
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { name, default, kind, synonym, is_read_only: true, doc }
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

/// `message.timestamp.after.max.ms`.
pub(crate) const TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
/// `message.timestamp.before.max.ms`.
pub(crate) const TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
/// `min.insync.replicas`.
pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// `remote.storage.enable`.
const REMOTE_STORAGE_ENABLE: &str = "remote.storage.enable";
/// `segment.bytes`.
pub(crate) const SEGMENT_BYTES: &str = "segment.bytes";
/// `segment.ms`.
pub(crate) const SEGMENT_MS: &str = "segment.ms";

/// Every topic configuration, by name.
#[rustfmt::skip]
pub const TOPIC_CONFIGS: &[TopicConfig] = {
    use ConfigKind::{Boolean, Int, List, ListOf, Long, OneOf, Ratio, Within};
    &[
        row(CLEANUP_POLICY, "delete", ListOf(&["compact", "delete"]), "log.cleanup.policy", "What becomes of old segments: deleted, compacted by key, or both."),
        fixed("compression.gzip.level", "-1", Int(-1), "compression.gzip.level", "Level when compression.type is gzip."),
        fixed("compression.lz4.level", "9", Int(1), "compression.lz4.level", "Level when compression.type is lz4."),
        row("compression.type", "producer", OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]), "compression.type", "The codec that batches are served in; producer keeps what was sent."),
        fixed("compression.zstd.level", "3", Int(-131_072), "compression.zstd.level", "Level when compression.type is zstd."),
        row("delete.retention.ms", "86400000", Long(0), "log.cleaner.delete.retention.ms", "How long compaction keeps tombstones."),
        fixed("file.delete.delay.ms", "60000", Long(0), "log.segment.delete.delay.ms", "Kept for tools. A deleted segment's file goes with the next checkpoint."),
        row(FLUSH_BYTES, "9223372036854775807", Long(1), "log.flush.interval.bytes", "Not of Kafka. Bytes that a power cut may take: batches are answered before they are synced until so many wait. As set by default, and no flush setting is otherwise: every batch is synced before its answer."),
        row(FLUSH_MESSAGES, "9223372036854775807", Long(1), "log.flush.interval.messages", "Records that a power cut may take: batches are answered before they are synced until so many wait. As set by default, and no flush setting is otherwise: every batch is synced before its answer."),
        row(FLUSH_MS, "9223372036854775807", Long(0), "log.flush.interval.ms", "Time within which a power cut may take what was answered: batches are answered at once and synced so much later, at most 10 s; consumers see them then. As set by default, and no flush setting is otherwise, or 0: every batch is synced before its answer. With flush.messages or flush.bytes alone: 1 s."),
        row("follower.replication.throttled.replicas", "", List, "follower.replication.throttled.replicas", "For kafka-reassign-partitions, which sets it: replicas whose copying is throttled on the follower. There is none to copy to."),
        fixed("index.interval.bytes", "4096", Int(0), "log.index.interval.bytes", "Kept for tools. Indexes are in memory; their density is the node's choice."),
        row("leader.replication.throttled.replicas", "", List, "leader.replication.throttled.replicas", "For kafka-reassign-partitions, which sets it: replicas whose copying is throttled on the leader. There is none to copy to."),
        fixed("local.retention.bytes", "-2", Long(-2), "log.local.retention.bytes", "Bytes kept locally where older ones are tiered."),
        fixed("local.retention.ms", "-2", Long(-2), "log.local.retention.ms", "Time that segments stay local where older ones are tiered."),
        fixed("max.compaction.lag.ms", "9223372036854775807", Long(1), "log.cleaner.max.compaction.lag.ms", "Longest that a record stays uncompacted."),
        row(MAX_MESSAGE_BYTES, "1048588", Int(0), "message.max.bytes", "Largest record batch that is accepted."),
        fixed("message.downconversion.enable", "true", Boolean, "log.message.downconversion.enable", "Kept for old tools; there is only one message format."),
        fixed("message.format.version", "3.0-IV1", ConfigKind::Text, "log.message.format.version", "Kept for old tools; there is only one message format."),
        row(TIMESTAMP_AFTER_MAX_MS, "9223372036854775807", Long(0), "log.message.timestamp.after.max.ms", "How far a producer's timestamp may be ahead of this node's clock; a batch with a later one is refused. Without it every timestamp is accepted; those more than a day ahead do not age other records."),
        row(TIMESTAMP_BEFORE_MAX_MS, "9223372036854775807", Long(0), "log.message.timestamp.before.max.ms", "How far a producer's timestamp may be behind this node's clock; a batch with an earlier one is refused."),
        fixed("message.timestamp.difference.max.ms", "9223372036854775807", Long(0), "log.message.timestamp.difference.max.ms", "Kept for tools; the limits are message.timestamp.before.max.ms and message.timestamp.after.max.ms."),
        row(MESSAGE_TIMESTAMP_TYPE, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), "log.message.timestamp.type", "Whose clock writes the timestamp: the producer's or the broker's. With LogAppendTime all records of a batch have one time, so small batches that came at different times are not packed into one: they take more flash."),
        row(ON_FULL, "reject", OneOf(&["reject", "drop-oldest"]), "millpond.on.full", "When the node's storage is full: refuse new records, or make room by dropping the oldest ones of this topic."),
        row(PRIORITY, "50", Within(0, 100), "millpond.priority", "From 0 to 100; when the node's storage runs short, topics of a lower priority are dropped from and refused first."),
        row("min.cleanable.dirty.ratio", "0.5", Ratio, "log.cleaner.min.cleanable.ratio", "Share of uncompacted bytes that starts a compaction."),
        row("min.compaction.lag.ms", "0", Long(0), "log.cleaner.min.compaction.lag.ms", "Shortest that a record stays uncompacted."),
        row(MIN_INSYNC_REPLICAS, "1", Int(1), "min.insync.replicas", "Replicas that must have a batch before acks=all is answered. There is one: more refuses acks=all, unless the node clamps replication factors."),
        fixed("preallocate", "false", Boolean, "log.preallocate", "Kept for tools. The journal is always preallocated, segments never are."),
        fixed(REMOTE_STORAGE_ENABLE, "false", Boolean, "remote.log.storage.system.enable", "Tier old segments; not available."),
        row(RETENTION_BYTES, "-1", Long(-1), "log.retention.bytes", "Bytes of a partition's segments, as large as they are on the device, beyond which the oldest go; -1: no limit. Whole segments only."),
        row(RETENTION_MS, "604800000", Long(-1), "log.retention.ms", "Age of a segment's newest record beyond which it goes, once the clock has been steady for ten minutes; -1: no limit."),
        row(SEGMENT_BYTES, "1073741824", Int(14), "log.segment.bytes", "Size beyond which a segment is closed; at most 64 MiB, whatever this says."),
        fixed("segment.index.bytes", "10485760", Int(4), "log.index.size.max.bytes", "Kept for tools. Indexes are in memory."),
        fixed("segment.jitter.ms", "0", Long(0), "log.roll.jitter.ms", "Kept for tools; nothing is random here."),
        row(SEGMENT_MS, "604800000", Long(1), "log.roll.ms", "Age at which a segment is closed, counted from the start of the node at the earliest. A shorter retention.ms closes it after a quarter of that."),
        fixed("unclean.leader.election.enable", "false", Boolean, "unclean.leader.election.enable", "Let a replica that lacks records lead."),
    ]
};

/// Why a configuration is refused, in Kafka's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such name.
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    /// The value is not of its kind.
    #[error("Invalid value {value} for configuration {name}: {problem}")]
    Value {
        /// Of the configuration.
        name: String,
        /// As given, or its start.
        value: String,
        /// What is wrong with it.
        problem: String,
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

/// The broker's name for the default of a configuration, if that can be changed on a running node.
pub(crate) fn broker_name(config: &TopicConfig) -> Option<&'static str> {
    let is_own = config.synonym.starts_with("millpond.");
    // A window of loss is declared for a topic, never for all that there are.
    let is_window = config.synonym.starts_with("log.flush.");
    let is_throttle = config.name == config.synonym && config.kind.is_list();
    (!config.is_read_only && !is_own && !is_window && !is_throttle).then_some(config.synonym)
}

/// A value for a row, as it is kept.
///
/// # Errors
/// What is wrong with it, for the name that it was given under.
pub(crate) fn accept(config: &TopicConfig, name: &str, value: &str) -> Result<String, ConfigError> {
    let normal = config.kind.normal(value);
    let problem = if normal.len() > limits::TOPIC_CONFIG_VALUE_BYTES_MAX {
        Some("The value is too long".to_owned())
    } else if config.is_read_only && normal != config.default {
        Some(format!("It is always {} on this broker", config.default))
    } else {
        config.kind.problem(&normal)
    };
    match problem {
        None => Ok(normal),
        Some(problem) => {
            let value = value.chars().take(VALUE_CHARS_SHOWN).collect();
            Err(ConfigError::Value { name: name.to_owned(), value, problem })
        }
    }
}

/// Checks the configurations of a new topic and brings them into the form in which they are kept.
/// Programs that were made for other brokers give what cannot be changed here as well: that is checked
/// and left out, and the answer shows what holds instead.
///
/// # Errors
/// The first that cannot be accepted.
pub(crate) fn accept_new(
    configs: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    if configs.len() > limits::TOPIC_CONFIGS_MAX {
        return Err(ConfigError::TooMany(configs.len()));
    }
    let mut kept = BTreeMap::new();
    for (name, value) in configs {
        let config = find(&name).ok_or_else(|| ConfigError::Unknown(name.clone()))?;
        // A topic whose records are to outlive the node is not made without that, as in Kafka.
        if config.is_read_only && name != REMOTE_STORAGE_ENABLE {
            let any = TopicConfig { is_read_only: false, ..*config };
            accept(&any, &name, &value)?;
        } else {
            let value = accept(config, &name, &value)?;
            kept.insert(name, value);
        }
    }
    Ok(kept)
}

/// Settings of a broker that kafka-reassign-partitions makes before it begins, bytes a second.
pub(crate) const THROTTLE_RATES: &[&str] = &[
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

const VALUE_CHARS_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_own_kind_and_names_are_sorted() {
        for config in TOPIC_CONFIGS {
            assert_eq!(accept(config, config.name, config.default), Ok(config.default.to_owned()));
        }
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|config| config.name));
    }

    #[test]
    fn unknown_names_and_values_of_another_kind_are_refused_in_the_words_of_kafka() {
        let check = |name: &str, value: &str| {
            let all = accept_new(BTreeMap::from([(name.to_owned(), value.to_owned())]));
            all.map(|mut all| all.remove(name)).map_err(|error| error.to_string())
        };
        let kept = |value: &str| Ok(Some(value.to_owned()));
        assert_eq!(check("cleanup.policy", "compact,delete"), kept("compact,delete"));
        assert_eq!(check("retention.ms", " -1 "), kept("-1"));
        assert_eq!(check("remote.storage.enable", "FALSE"), kept("false"));
        assert_eq!(check("segment.index.bytes", "52428800"), Ok(None), "taken and left out");
        for (name, value, message) in [
            ("no.such.thing", "1", "Unknown topic config name: no.such.thing"),
            (
                "retention.ms",
                "soon",
                "Invalid value soon for configuration retention.ms: Not a number of type LONG",
            ),
            (
                "segment.index.bytes",
                "2",
                "Invalid value 2 for configuration segment.index.bytes: Value must be at least 4",
            ),
            (
                "retention.ms",
                "-2",
                "Invalid value -2 for configuration retention.ms: Value must be at least -1",
            ),
            (
                "cleanup.policy",
                "burn",
                "Invalid value burn for configuration cleanup.policy: String must be one of: compact, delete",
            ),
            (
                "min.cleanable.dirty.ratio",
                "1.5",
                "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1",
            ),
            (
                "remote.storage.enable",
                "true",
                "Invalid value true for configuration remote.storage.enable: It is always false on this broker",
            ),
        ] {
            assert_eq!(check(name, value), Err(message.to_owned()));
        }
    }
}
