//! What an operator says of a transform, and whether it can be so.
//!
//! Checks words and numbers only; the module is checked in `compile.rs`.

use crate::policy::FailurePolicy;
use millpond_wire::{limits as caps, topic_name};
use sha2::{Digest, Sha256 as Hasher};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The SHA-256 of a module's bytes: its address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The address of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Sha256(Hasher::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let bad = || SpecError::Hash(text.chars().take(80).collect());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| bad())?;
        if !rest.is_empty() {
            return Err(bad());
        }
        let mut hash = [0; 32];
        for (byte, [high, low]) in hash.iter_mut().zip(bytes) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or_else(bad);
            *byte = (digit(*high)? * 16 + digit(*low)?) as u8;
        }
        Ok(Sha256(hash))
    }
}

/// What a transform may use and make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of an instance.
    pub memory_bytes: usize,
    /// CPU time for one batch, in ms. One record alone gets an eighth of it.
    pub cpu_ms_per_batch: u64,
    /// Emitted bytes for each byte of a batch (small batches may always make 64 KiB).
    pub output_ratio: usize,
    /// State on one partition: keys, values, and what each entry is counted with.
    pub state_bytes: usize,
    /// How far the watermark stays behind the greatest timestamp, in ms: how late records may be.
    pub watermark_delay_ms: u64,
    /// Time without records after which the watermark goes on by the node's clock, in ms; 0: it
    /// waits for records.
    pub idle_timeout_ms: u64,
    /// How far ahead of the node's clock a record may move the watermark, in ms; one that is further
    /// ahead counts as now. 0: each is believed.
    pub watermark_ahead_ms_max: u64,
}

impl Limits {
    /// The names that a description may set.
    pub const NAMES: [&str; 7] = [
        "memory_bytes",
        "cpu_ms_per_batch",
        "output_ratio",
        "state_bytes",
        "watermark_delay_ms",
        "idle_timeout_ms",
        "watermark_ahead_ms_max",
    ];

    /// Sets one by its name; whether there is one of this name. Ranges are checked with the rest
    /// of the declaration.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match name {
            "memory_bytes" => self.memory_bytes = size,
            "cpu_ms_per_batch" => self.cpu_ms_per_batch = value,
            "output_ratio" => self.output_ratio = size,
            "state_bytes" => self.state_bytes = size,
            "watermark_delay_ms" => self.watermark_delay_ms = value,
            "idle_timeout_ms" => self.idle_timeout_ms = value,
            "watermark_ahead_ms_max" => self.watermark_ahead_ms_max = value,
            _ => return false,
        }
        true
    }

    /// Whether a node that reserves so much memory for an instance can keep to them.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn check(&self, reservation_bytes: usize) -> Result<(), SpecError> {
        let memory_max = reservation_bytes.min(caps::TRANSFORM_MEMORY_BYTES_MAX);
        let memory = (caps::TRANSFORM_MEMORY_BYTES_MIN, memory_max);
        in_range("memory_bytes", self.memory_bytes, memory)?;
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let cpu_ms_max = size(caps::TRANSFORM_CPU_MS_PER_BATCH_MAX);
        in_range("cpu_ms_per_batch", size(self.cpu_ms_per_batch), (1, cpu_ms_max))?;
        in_range("output_ratio", self.output_ratio, (1, 1_000_000))?;
        in_range("state_bytes", self.state_bytes, (0, caps::TRANSFORM_STATE_BYTES_MAX))?;
        let delay_max = size(caps::TRANSFORM_WATERMARK_DELAY_MS_MAX);
        in_range("watermark_delay_ms", size(self.watermark_delay_ms), (0, delay_max))?;
        let idle_max = size(caps::TRANSFORM_IDLE_TIMEOUT_MS_MAX);
        in_range("idle_timeout_ms", size(self.idle_timeout_ms), (0, idle_max))?;
        let ahead_max = size(caps::TRANSFORM_WATERMARK_AHEAD_MS_MAX);
        in_range("watermark_ahead_ms_max", size(self.watermark_ahead_ms_max), (0, ahead_max))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: caps::DEFAULT_TRANSFORM_MEMORY_BYTES,
            cpu_ms_per_batch: caps::DEFAULT_TRANSFORM_CPU_MS_PER_BATCH,
            output_ratio: caps::DEFAULT_TRANSFORM_OUTPUT_RATIO,
            state_bytes: caps::DEFAULT_TRANSFORM_STATE_BYTES,
            watermark_delay_ms: 0,
            idle_timeout_ms: 0,
            watermark_ahead_ms_max: caps::DEFAULT_TRANSFORM_WATERMARK_AHEAD_MS,
        }
    }
}

/// A transform as an operator declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformSpec {
    /// Its name: letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Its version, in whatever words; goes into dead letters.
    pub version: String,
    /// The module.
    pub module: Sha256,
    /// What the module reads at its start.
    pub settings: BTreeMap<String, String>,
    /// The topics whose records it sees.
    pub topics: Vec<String>,
    /// Other topics that it may send records to; without any it may send to none.
    pub outputs: Vec<String>,
    /// What it may use and make.
    pub limits: Limits,
    /// What becomes of a record that it fails on.
    pub on_failure: FailurePolicy,
    /// Where dead letters go; `None`: the record's topic with `.dead-letter` behind.
    pub dead_letter_topic: Option<String>,
}

impl TransformSpec {
    /// A transform with default limits, no settings and no topics.
    pub fn new(name: &str, module: Sha256) -> Self {
        TransformSpec {
            name: name.to_string(),
            version: "1".to_string(),
            module,
            settings: BTreeMap::new(),
            topics: Vec::new(),
            outputs: Vec::new(),
            limits: Limits::default(),
            on_failure: FailurePolicy::default(),
            dead_letter_topic: None,
        }
    }

    /// Adds a setting.
    #[must_use]
    pub fn setting(mut self, key: &str, value: &str) -> Self {
        self.settings.insert(key.to_string(), value.to_string());
        self
    }

    /// Whether it can be so, on a node that reserves this much memory for an instance.
    ///
    /// # Errors
    /// The first thing that cannot.
    pub fn check(&self, reservation_bytes: usize) -> Result<(), SpecError> {
        if !topic_name::is_valid(&self.name) || self.name.len() > caps::TRANSFORM_NAME_BYTES_MAX {
            return Err(SpecError::Name(self.name.chars().take(80).collect()));
        }
        self.check_settings()?;
        let named = self.topics.len() + self.outputs.len();
        if named > caps::TOPICS_PER_TRANSFORM_MAX {
            return Err(SpecError::TooMany("topics", caps::TOPICS_PER_TRANSFORM_MAX));
        }
        let topics = self.topics.iter().chain(&self.outputs);
        if let Some(bad) =
            topics.chain(&self.dead_letter_topic).find(|topic| !topic_name::is_valid(topic))
        {
            return Err(SpecError::Topic(bad.chars().take(80).collect()));
        }
        self.limits.check(reservation_bytes)?;
        let retries = self.on_failure.retries as usize;
        in_range("retries", retries, (0, caps::TRANSFORM_RETRIES_MAX as usize))
    }

    fn check_settings(&self) -> Result<(), SpecError> {
        if self.settings.len() > caps::TRANSFORM_SETTINGS_MAX {
            return Err(SpecError::TooMany("settings", caps::TRANSFORM_SETTINGS_MAX));
        }
        for (key, value) in &self.settings {
            if key.len() > caps::TRANSFORM_SETTING_KEY_BYTES_MAX
                || value.len() > caps::TRANSFORM_SETTING_VALUE_BYTES_MAX
            {
                return Err(SpecError::SettingTooLong(key.chars().take(80).collect()));
            }
        }
        Ok(())
    }
}

/// What cannot be so in a transform's declaration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A name with other characters, or too long.
    #[error("`{0}` is no name for a transform: up to 128 letters, digits, `.`, `_`, `-`")]
    Name(String),
    /// Not the name of a topic.
    #[error("`{0}` is no name for a topic: up to 249 letters, digits, `.`, `_`, `-`")]
    Topic(String),
    /// Not 64 hexadecimal digits.
    #[error("`{0}` is not a SHA-256: 64 hexadecimal digits")]
    Hash(String),
    /// More than a cap.
    #[error("too many {0}: up to {1}")]
    TooMany(&'static str, usize),
    /// A setting beyond a cap.
    #[error("the setting `{0}` is too long")]
    SettingTooLong(String),
    /// A number beyond its range.
    #[error("{what} is {value}; it can be {min} to {max} on this node")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// As given.
        value: usize,
        /// The least.
        min: usize,
        /// The most.
        max: usize,
    },
}

fn in_range(what: &'static str, value: usize, (min, max): (usize, usize)) -> Result<(), SpecError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(SpecError::OutOfRange { what, value, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> TransformSpec {
        TransformSpec::new("filter", Sha256::of(b"x"))
    }

    #[test]
    fn a_hash_reads_as_it_is_written() {
        let hash = Sha256::of(b"millpond");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", "00", &"0".repeat(63), &"0".repeat(65), &"zz".repeat(32)] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |change: fn(&mut TransformSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec.check(caps::DEFAULT_TRANSFORM_RESERVATION_BYTES)
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert!(check(|s| s.name = "a/b".into()).is_err());
        assert!(check(|s| s.topics.push("..".into())).is_err());
        assert!(check(|s| s.dead_letter_topic = Some(String::new())).is_err());
        assert!(check(|s| s.limits.memory_bytes = usize::MAX).is_err());
        assert!(check(|s| s.limits.memory_bytes = 1).is_err());
        assert!(check(|s| s.limits.cpu_ms_per_batch = 0).is_err());
        assert!(check(|s| s.on_failure.retries = 1_000).is_err());
        assert!(check(|s| s.settings = [("k".repeat(300), String::new())].into()).is_err());
    }
}
