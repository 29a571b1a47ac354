//! Records as devices send them: JSON telemetry of an exact size, filled up with this machine's
//! own kernel counters. Never zeros: a disk or a codec may be too good at those.

use std::fs;

use millpond_wire::record::{BatchBuilder, Codec};

use crate::error::{Context, Outcome};

/// The field that filters look at: evenly spread from 0 to 99.99.
pub(crate) const FIELD: &str = "temperature";

/// Makes telemetry; the same seed makes the same.
pub(crate) struct Telemetry {
    counters: Vec<(String, u64)>,
    random: u64,
    sequence: u64,
}

impl Telemetry {
    /// From this machine's counters as they are now.
    pub(crate) fn new(seed: u64) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let text = read("/proc/vmstat") + &read("/proc/meminfo");
        Self { counters: counters(&text), random: seed, sequence: 0 }
    }

    /// The next record's value, of exactly `bytes` (at least 160).
    pub(crate) fn value(&mut self, bytes: usize) -> Vec<u8> {
        let device = self.next() % 500;
        let (temperature, humidity) = (self.next() % 10_000, self.next() % 10_000);
        self.sequence += 1;
        let mut text = format!(
            "{{\"device\":\"pump-{device:04}\",\"ts\":{},\"seq\":{},\"humidity\":{}.{:02},\
             \"{FIELD}\":{}.{:02},\"state\":\"running\"",
            1_763_700_000_000 + self.sequence * 1_000,
            self.sequence,
            humidity / 100,
            humidity % 100,
            temperature / 100,
            temperature % 100,
        );
        let mut at = self.next() as usize;
        while !self.counters.is_empty() {
            let jitter = self.next() % 1_000;
            let (name, value) = &self.counters[at % self.counters.len()];
            let member = format!(",\"{name}\":{}", value + jitter);
            if text.len() + member.len() + NOTE_BYTES_MIN > bytes {
                break;
            }
            text.push_str(&member);
            at += 1;
        }
        self.note(text, bytes)
    }

    /// A reading as a telemetry agent sends it, of exactly `bytes` (at least 170): fields that
    /// hardly change, counters that grow, measured values that wander. No padding that a codec
    /// could not be asked to shrink, none that shrinks by itself.
    pub(crate) fn reading(&mut self, device: usize, bytes: usize) -> Vec<u8> {
        self.sequence += 1;
        let sequence = self.sequence;
        let wander = |next: u64, middle: u64, width: u64| middle + next % width;
        let temperature = wander(self.next(), 2_100, 300);
        let pressure = wander(self.next(), 101_300, 200);
        let rpm = wander(self.next(), 1_450, 25);
        let mut text = format!(
            "{{\"device\":\"pump-{device:04}\",\"site\":\"north-{}\",\"ts\":{},\"seq\":{sequence},\
             \"temperature\":{}.{:02},\"pressure\":{}.{:02},\"rpm\":{rpm},\"state\":\"running\",\
             \"fw\":\"2.14.0\"",
            device % 7,
            1_763_700_000_000 + sequence * 17 + self.next() % 10,
            temperature / 100,
            temperature % 100,
            pressure / 100,
            pressure % 100,
        );
        let mut at = device;
        while !self.counters.is_empty() {
            let grown = self.next() % 50;
            let index = at % self.counters.len();
            let (name, value) = &mut self.counters[index];
            *value += grown;
            let member = format!(",\"{name}\":{value}");
            if text.len() + member.len() + ",\"unit\":\"\"}".len() > bytes {
                break;
            }
            text.push_str(&member);
            at += 1;
        }
        let unit = "metric system, as set at commissioning of the plant by its operator";
        let room = bytes.saturating_sub(text.len() + ",\"unit\":\"\"}".len());
        text.push_str(",\"unit\":\"");
        text.extend(unit.chars().cycle().take(room));
        text.push_str("\"}");
        text.into_bytes()
    }

    /// Fills up to the exact size with text that does not repeat, and closes the object.
    fn note(&mut self, mut text: String, bytes: usize) -> Vec<u8> {
        text.push_str(",\"note\":\"");
        while text.len() < bytes.saturating_sub(2) {
            let digit = self.next() % 36;
            text.extend(char::from_digit(digit as u32, 36));
        }
        text.push_str("\"}");
        text.into_bytes()
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A batch without compression of `records` records of `value_bytes` each, without keys, from
    /// no particular producer, so that it can be sent any number of times.
    pub(crate) fn batch(&mut self, records: usize, value_bytes: usize) -> Outcome<bytes::Bytes> {
        let values: Vec<Vec<u8>> = (0..records).map(|_| self.value(value_bytes)).collect();
        batch_of(&values)
    }

    /// A batch without compression of a device's readings.
    pub(crate) fn batch_of_readings(
        &mut self,
        device: usize,
        records: usize,
        value_bytes: usize,
    ) -> Outcome<bytes::Bytes> {
        let mut builder = BatchBuilder::new(Codec::None, None);
        for _ in 0..records {
            let value = self.reading(device, value_bytes);
            let timestamp = 1_763_700_000_000 + self.sequence as i64;
            builder.push(timestamp, None, Some(&value), &[]).context("building a batch")?;
        }
        builder.build().context("building a batch")
    }
}

/// A batch without compression of records without keys, from no particular producer.
pub(crate) fn batch_of(values: &[Vec<u8>]) -> Outcome<bytes::Bytes> {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for (value, timestamp) in values.iter().zip(1_763_700_000_000..) {
        builder.push(timestamp, None, Some(value), &[]).context("building a batch")?;
    }
    builder.build().context("building a batch")
}

/// A batch of readings, compressed by its producer to `bytes` at the least.
pub(crate) fn compressed_batch(telemetry: &mut Telemetry, bytes: usize) -> Outcome<bytes::Bytes> {
    const VALUE_BYTES: usize = 200;
    // Five to ten times as many bytes before compression; enough is found by growing.
    let mut records = bytes / VALUE_BYTES * 4;
    loop {
        let mut builder = BatchBuilder::new(Codec::Zstd, Some(1));
        for index in 0..records {
            let value = telemetry.value(VALUE_BYTES);
            let timestamp = 1_763_700_000_000 + index as i64;
            builder.push(timestamp, None, Some(&value), &[]).context("building a batch")?;
        }
        let batch = builder.build().context("building a batch")?;
        if batch.len() >= bytes {
            return Ok(batch);
        }
        records += records / 4;
    }
}

/// `,"note":""}`, and then some.
const NOTE_BYTES_MIN: usize = 12;

/// Lines `name value` or `name: value kB`.
fn counters(text: &str) -> Vec<(String, u64)> {
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.trim_end_matches(':');
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        Some((name.to_owned(), fields.next()?.parse().ok()?)).filter(|_| plain)
    };
    text.lines().filter_map(parse).filter(|(_, value)| *value > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_of_exactly_the_size_asked_for() {
        let mut telemetry = Telemetry::new(1);
        for bytes in [195, 200, 257, 1024] {
            let value = telemetry.value(bytes);
            assert_eq!(value.len(), bytes);
            let json: serde_json::Value = serde_json::from_slice(&value).unwrap();
            let field = json[FIELD].as_f64().unwrap();
            assert!((0.0..100.0).contains(&field), "{field}");
        }
    }

    #[test]
    fn a_reading_is_json_of_exactly_the_size_asked_for_and_never_the_same() {
        let mut telemetry = Telemetry::new(1);
        for bytes in [195, 200, 257, 1024] {
            let (one, other) = (telemetry.reading(7, bytes), telemetry.reading(7, bytes));
            assert_eq!((one.len(), other.len()), (bytes, bytes));
            assert_ne!(one, other);
            serde_json::from_slice::<serde_json::Value>(&one).unwrap();
        }
    }

    #[test]
    fn without_counters_there_is_still_telemetry() {
        let mut telemetry = Telemetry { counters: Vec::new(), random: 1, sequence: 0 };
        let value = telemetry.value(300);
        assert_eq!(value.len(), 300);
        assert!(serde_json::from_slice::<serde_json::Value>(&value).is_ok());
    }

    #[test]
    fn the_field_is_evenly_spread() {
        let mut telemetry = Telemetry::new(7);
        let hot = (0..2_000).filter(|_| {
            let json: serde_json::Value = serde_json::from_slice(&telemetry.value(200)).unwrap();
            json[FIELD].as_f64().unwrap() >= 90.0
        });
        let hot = hot.count();
        assert!((140..260).contains(&hot), "{hot} of 2000");
    }

    #[test]
    fn a_batch_is_one_that_the_broker_takes() {
        let raw = Telemetry::new(3).batch(63, 1024).unwrap();
        let batch = millpond_wire::record::Batch::parse(raw).unwrap();
        assert_eq!(batch.header().records_count, 63);
    }
}
