//! Keeps the records whose JSON number has moved far enough from the last one of its key that was
//! kept, so that a sensor at rest costs nothing.
//!
//! | setting | |
//! |---|---|
//! | `field` | the field of the record's JSON object, required |
//! | `absolute` | a number is kept if it moved by more than this (0) ... |
//! | `relative` | ... and by more than this share of the last that was kept (0); with neither, any change is kept |
//! | `max_silence_ms` | a record is kept, too, when the last that was kept is this much older |
//! | `forget_after_ms` | a key of which nothing was kept for so long is forgotten; unset: never |
//! | `missing` | what becomes of a record without such a number: `error` (default: the failure policy applies), `keep` or `drop` |
//!
//! It must never drop a record because it could not read it, unless told to.

use millpond_sdk::filter::DeadBand;
use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json, register};

/// The filter.
#[derive(Debug)]
pub struct Filter {
    field: String,
    band: DeadBand,
    missing: Option<Verdict>,
}

impl Transform for Filter {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let absolute = settings.parse("absolute")?.unwrap_or(0.0);
        let relative = settings.parse("relative")?.unwrap_or(0.0);
        let mut band = DeadBand::new(absolute, relative)?;
        if let Some(silence_ms) = settings.parse("max_silence_ms")? {
            band = band.max_silence_ms(silence_ms);
        }
        if let Some(after_ms) = settings.parse("forget_after_ms")? {
            band = band.forget_after_ms(after_ms);
        }
        let missing = match settings.get("missing").as_deref() {
            None | Some("error") => None,
            Some("keep") => Some(Verdict::Keep),
            Some("drop") => Some(Verdict::Drop),
            Some(other) => {
                return Err(format!("`missing` is error, keep or drop, not `{other}`").into());
            }
        };
        Ok(Filter { field: settings.required("field")?, band, missing })
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let Some(number) = json::number(record.value_or_empty(), &self.field) else {
            let message = || format!("no number in the field `{}`", self.field).into();
            return self.missing.ok_or_else(message);
        };
        let key = record.key().unwrap_or_default();
        Ok(if self.band.passes(record, key, number)? { Verdict::Keep } else { Verdict::Drop })
    }
}

register!(Filter);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{Partition, TestRecord};

    fn kept(settings: &[(&str, &str)], readings: &[(&str, i64, f64)]) -> Vec<bool> {
        let mut partition = Partition::<Filter>::new(settings).unwrap();
        let one = |(key, at_ms, t): &(&str, i64, f64)| {
            let value = format!("{{\"t\":{t}}}");
            let record = TestRecord::of(value.as_bytes()).key(key.as_bytes()).timestamp_ms(*at_ms);
            let kept = partition.run(&[record]).outcomes[0].kept;
            partition.evict();
            kept
        };
        readings.iter().map(one).collect()
    }

    #[test]
    fn each_device_has_its_own_band() {
        let readings =
            [("a", 0, 20.0), ("b", 1, 20.3), ("a", 2, 20.5), ("a", 3, 20.6), ("b", 4, 20.6)];
        let settings = [("field", "t"), ("absolute", "0.5")];
        assert_eq!(kept(&settings, &readings), [true, true, false, true, false]);
    }

    #[test]
    fn a_share_of_the_last_number_and_a_silence_can_be_set() {
        let readings = [("a", 0, 100.0), ("a", 1, 109.0), ("a", 2, 111.0), ("a", 52, 111.0)];
        let settings = [("field", "t"), ("relative", "0.1"), ("max_silence_ms", "50")];
        assert_eq!(kept(&settings, &readings), [true, false, true, true]);
    }

    #[test]
    fn a_record_without_the_number_follows_the_setting() {
        for (missing, kept, failed) in
            [("error", false, true), ("keep", true, false), ("drop", false, false)]
        {
            let settings = [("field", "t"), ("missing", missing)];
            let mut partition = Partition::<Filter>::new(&settings).unwrap();
            let outcome = partition.run(&[TestRecord::of(b"{}")]).outcomes.remove(0);
            assert_eq!((outcome.kept, outcome.failed.is_some()), (kept, failed), "{missing}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for more in [("absolute", "-1"), ("relative", "x"), ("missing", "x")] {
            assert!(Partition::<Filter>::new(&[("field", "t"), more]).is_err(), "{more:?}");
        }
        assert!(Partition::<Filter>::new(&[]).is_err());
    }
}
