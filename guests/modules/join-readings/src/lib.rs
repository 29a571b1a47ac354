//! Joins the JSON numbers of two topics, record with record: same key, times not more than a span apart.
//!
//! | setting | |
//! |---|---|
//! | `left`, `right` | the two topics, required |
//! | `field` | the field of the records' JSON objects, required |
//! | `right_field` | the same on the right, if it has another name there |
//! | `within_ms` | how far apart the times of two records may be, required |
//! | `lateness_ms` | how far behind the watermark a record may be and still be joined (0) |
//! | `late` | what becomes of a record that is later: `drop` (default), `fail`, `topic:NAME` |
//!
//! To be deployed on both topics with `--derive --join`. Each pair is a record with the key, the later of
//! the two times, and a value like `{"left":1.5,"left_ms":900,"right":20,"right_ms":1000}`. It must never
//! drop a record because it could not read it: such a record fails.

use millpond_sdk::join::{Join, Pair, Side};
use millpond_sdk::window::{Arrival, LatePolicy};
use millpond_sdk::{Emit, Failure, Output, Record, Settings, Transform, Verdict, json, register};
use std::io::Write;

/// The module.
#[derive(Debug)]
pub struct JoinReadings {
    left: Stream,
    right: Stream,
    join: Join,
    late: LatePolicy,
    value: Vec<u8>,
}

/// One side: a topic, and what is joined of it.
#[derive(Debug)]
struct Stream {
    topic: String,
    field: String,
}

impl JoinReadings {
    fn side(&self, topic: &str) -> Result<(Side, &str), Failure> {
        match topic {
            left if left == self.left.topic => Ok((Side::Left, &self.left.field)),
            right if right == self.right.topic => Ok((Side::Right, &self.right.field)),
            other => Err(format!("the topic `{other}` is neither `left` nor `right`").into()),
        }
    }
}

impl Transform for JoinReadings {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let within_ms = settings.required("within_ms")?;
        let within_ms = within_ms.parse().map_err(|_| format!("`within_ms` is `{within_ms}`"))?;
        let lateness_ms = settings.parse("lateness_ms")?.unwrap_or(0);
        let field = settings.required("field")?;
        let right_field = settings.get("right_field").unwrap_or_else(|| field.clone());
        let left = Stream { topic: settings.required("left")?, field };
        let right = Stream { topic: settings.required("right")?, field: right_field };
        if left.topic == right.topic {
            return Err("`left` and `right` are one topic".into());
        }
        let join = Join::new(within_ms)?.allowed_lateness_ms(lateness_ms);
        let late = LatePolicy::from_settings(settings)?;
        Ok(JoinReadings { left, right, join, late, value: Vec::new() })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let (side, field) = self.side(record.topic())?;
        let Some(number) = json::number(record.value_or_empty(), field) else {
            return Err(format!("no number in the field `{field}`").into());
        };
        let key = record.key().ok_or("a record without key belongs to no other")?;
        let value = &mut self.value;
        let tell = |pair: &Pair<'_>| tell(value, out, pair);
        match self.join.add(record, side, key, &number.to_le_bytes(), tell)? {
            Arrival::Counted => Ok(Verdict::Drop),
            Arrival::Late => self.late.apply(record, out),
        }
    }
}

fn tell(value: &mut Vec<u8>, out: &mut Output, pair: &Pair<'_>) {
    value.clear();
    for (mark, name, number, at_ms) in
        [('{', "left", pair.left, pair.left_ms), (',', "right", pair.right, pair.right_ms)]
    {
        let number = number.try_into().map_or(f64::NAN, f64::from_le_bytes);
        // Writing to a vector cannot fail.
        let _ = write!(value, "{mark}\"{name}\":");
        json::write_number(value, number);
        let _ = write!(value, ",\"{name}_ms\":{at_ms}");
    }
    value.push(b'}');
    // A record before 1970 has no time that a record can have.
    let at_ms = pair.left_ms.max(pair.right_ms).max(-1);
    out.emit(&Emit::new(at_ms).key(Some(pair.key)).value(value));
}

register!(JoinReadings);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{Partition, TestRecord};

    const SETTINGS: [(&str, &str); 5] = [
        ("left", "load"),
        ("right", "heat"),
        ("field", "kw"),
        ("right_field", "c"),
        ("within_ms", "100"),
    ];

    fn subject() -> Partition<JoinReadings> {
        Partition::new(&SETTINGS).unwrap().shared_by(&["load", "heat"])
    }

    fn at(at_ms: i64, key: &str, value: &str) -> TestRecord {
        TestRecord::of(value.as_bytes()).key(key.as_bytes()).timestamp_ms(at_ms)
    }

    #[test]
    fn readings_of_a_key_and_a_time_become_one() {
        let mut partition = subject();
        let loads = [at(900, "a", r#"{"kw":1.5}"#), at(2_000, "a", r#"{"kw":9}"#)];
        assert_eq!(partition.run_on("load", &loads).emitted().count(), 0);
        partition.evict();
        let heats = [at(1_000, "a", r#"{"c":20}"#), at(1_000, "b", r#"{"c":21}"#)];
        let step = partition.run_on("heat", &heats);
        let made: Vec<_> = step.emitted().collect();
        let expected = r#"{"left":1.5,"left_ms":900,"right":20,"right_ms":1000}"#;
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].value.as_deref(), Some(expected.as_bytes()));
        assert_eq!((made[0].timestamp_ms, made[0].key.as_deref()), (1_000, Some(&b"a"[..])));
    }

    #[test]
    fn what_cannot_be_read_fails_and_what_is_late_is_dropped() {
        let mut partition = subject();
        let step = partition.run_on("load", &[at(1, "a", "{}"), TestRecord::of(br#"{"kw":1}"#)]);
        assert!(step.outcomes.iter().all(|outcome| outcome.failed.is_some()), "{step:?}");
        partition.run_on("load", &[at(500, "a", r#"{"kw":1}"#)]);
        partition.run_on("heat", &[at(500, "a", r#"{"c":1}"#)]);
        let step = partition.run_on("heat", &[at(499, "a", r#"{"c":1}"#)]);
        assert!(step.outcomes[0].failed.is_none() && step.emitted().count() == 0);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (name, value) in [("within_ms", "-1"), ("within_ms", "x"), ("right", "load")] {
            let mut settings = SETTINGS;
            settings.iter_mut().filter(|(own, _)| *own == name).for_each(|own| own.1 = value);
            assert!(Partition::<JoinReadings>::new(&settings).is_err(), "{name}={value}");
        }
        assert!(Partition::<JoinReadings>::new(&SETTINGS[1..]).is_err());
    }
}
