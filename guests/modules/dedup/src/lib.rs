//! Lets each key, field, header or value through once in a time, for devices that send again what
//! was not confirmed to them.
//!
//! | setting | |
//! |---|---|
//! | `within_ms` | records of the same identity less than this apart are duplicates, required |
//! | `by` | what makes a record's identity: `key` (default), `value`, `field:NAME` of its JSON object, `header:NAME` |
//! | `lateness_ms` | how far behind the watermark a duplicate may be and still be known (0) |
//!
//! The first of the log is kept. It must never drop a record that has no such identity: it fails.

use millpond_sdk::filter::Dedup;
use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json, register};

/// The filter.
#[derive(Debug)]
pub struct Filter {
    by: By,
    dedup: Dedup,
}

#[derive(Debug)]
enum By {
    Key,
    Value,
    Field(String),
    Header(String),
}

impl By {
    fn parse(text: &str) -> Result<Self, Failure> {
        match (text, text.split_once(':')) {
            ("key", _) => Ok(By::Key),
            ("value", _) => Ok(By::Value),
            (_, Some(("field", name))) => Ok(By::Field(name.to_string())),
            (_, Some(("header", name))) => Ok(By::Header(name.to_string())),
            _ => {
                let kinds = "key, value, field:NAME or header:NAME";
                Err(format!("`by` is {kinds}, not `{text}`").into())
            }
        }
    }

    fn identity<'a>(&self, record: &Record<'a>) -> Option<&'a [u8]> {
        match self {
            By::Key => record.key(),
            By::Value => record.value(),
            By::Field(name) => json::raw(record.value_or_empty(), name),
            By::Header(name) => record.headers().get(name).flatten(),
        }
    }
}

impl Transform for Filter {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let within_ms = settings.required("within_ms")?;
        let within_ms = within_ms.parse().map_err(|_| format!("`within_ms` is `{within_ms}`"))?;
        let lateness_ms = settings.parse("lateness_ms")?.unwrap_or(0);
        Ok(Filter {
            by: By::parse(settings.get("by").as_deref().unwrap_or("key"))?,
            dedup: Dedup::new(within_ms)?.allowed_lateness_ms(lateness_ms),
        })
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let Some(identity) = self.by.identity(record) else {
            return Err(format!("the record has no identity: {:?}", self.by).into());
        };
        Ok(if self.dedup.is_first(record, identity)? { Verdict::Keep } else { Verdict::Drop })
    }
}

register!(Filter);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{Partition, TestRecord};

    fn kept(by: &str, records: &[TestRecord]) -> Vec<bool> {
        let settings = [("within_ms", "100"), ("by", by)];
        let mut partition = Partition::<Filter>::new(&settings).unwrap();
        let one = |record: &TestRecord| {
            let kept = partition.run(std::slice::from_ref(record)).outcomes[0].kept;
            partition.evict();
            kept
        };
        records.iter().map(one).collect()
    }

    fn at(at_ms: i64, key: &str, value: &str) -> TestRecord {
        TestRecord::of(value.as_bytes()).key(key.as_bytes()).timestamp_ms(at_ms)
    }

    #[test]
    fn what_is_sent_again_is_dropped_for_a_time() {
        let records = [at(0, "a", "1"), at(1, "b", "1"), at(99, "a", "2"), at(100, "a", "3")];
        assert_eq!(kept("key", &records), [true, true, false, true]);
        assert_eq!(kept("value", &records), [true, false, true, true]);
    }

    #[test]
    fn a_field_or_a_header_can_be_the_identity() {
        let records = [at(0, "a", r#"{"id":7,"n":1}"#), at(1, "b", r#"{"n":2,"id":7}"#)];
        assert_eq!(kept("field:id", &records), [true, false]);
        let records = records.map(|record| record.header("id", b"x"));
        assert_eq!(kept("header:id", &records), [true, false]);
    }

    #[test]
    fn a_record_without_identity_fails() {
        for by in ["key", "value", "field:id", "header:id"] {
            let settings = [("within_ms", "100"), ("by", by)];
            let mut partition = Partition::<Filter>::new(&settings).unwrap();
            let step = partition.run(&[TestRecord::default()]);
            assert!(step.outcomes[0].failed.is_some(), "{by}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for settings in [&[][..], &[("within_ms", "0")], &[("within_ms", "1"), ("by", "x")]] {
            assert!(Partition::<Filter>::new(settings).is_err(), "{settings:?}");
        }
    }
}
