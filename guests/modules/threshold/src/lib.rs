//! Keeps the records whose JSON number field is within limits, so that what nobody needs is never
//! written.
//!
//! | setting | |
//! |---|---|
//! | `field` | the field of the record's JSON object, required |
//! | `min`, `max` | inclusive limits; one of them at least |
//! | `keep` | `inside` (default) or `outside` the limits |
//! | `missing` | what becomes of a record without such a number: `error` (default: the failure policy applies), `keep` or `drop` |
//!
//! It must never drop a record because it could not read it, unless told to.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json, register};

/// The filter.
#[derive(Debug)]
pub struct Threshold {
    field: String,
    min: f64,
    max: f64,
    inside: Verdict,
    outside: Verdict,
    missing: Missing,
}

#[derive(Debug, Clone, Copy)]
enum Missing {
    Fail,
    Keep,
    Drop,
}

impl Transform for Threshold {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let min = settings.parse::<f64>("min")?;
        let max = settings.parse::<f64>("max")?;
        if min.is_none() && max.is_none() {
            return Err("set `min`, `max` or both".into());
        }
        let (inside, outside) = match settings.get("keep").as_deref() {
            None | Some("inside") => (Verdict::Keep, Verdict::Drop),
            Some("outside") => (Verdict::Drop, Verdict::Keep),
            Some(other) => {
                return Err(format!("`keep` is inside or outside, not `{other}`").into());
            }
        };
        let missing = match settings.get("missing").as_deref() {
            None | Some("error") => Missing::Fail,
            Some("keep") => Missing::Keep,
            Some("drop") => Missing::Drop,
            Some(other) => {
                return Err(format!("`missing` is error, keep or drop, not `{other}`").into());
            }
        };
        Ok(Threshold {
            field: settings.required("field")?,
            min: min.unwrap_or(f64::NEG_INFINITY),
            max: max.unwrap_or(f64::INFINITY),
            inside,
            outside,
            missing,
        })
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let Some(number) = json::number(record.value_or_empty(), &self.field) else {
            return match self.missing {
                Missing::Fail => Err(format!("no number in the field `{}`", self.field).into()),
                Missing::Keep => Ok(Verdict::Keep),
                Missing::Drop => Ok(Verdict::Drop),
            };
        };
        Ok(if self.min <= number && number <= self.max { self.inside } else { self.outside })
    }
}

register!(Threshold);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{self, Outcome, TestRecord};

    fn outcome(settings: &[(&str, &str)], value: &str) -> Outcome {
        let records = [TestRecord::of(value.as_bytes())];
        let report = testing::run::<Threshold>(settings, &records).unwrap();
        report.outcomes.into_iter().next().unwrap()
    }

    #[test]
    fn limits_are_inclusive() {
        let settings = [("field", "t"), ("min", "10"), ("max", "20")];
        for (value, expected) in [
            (r#"{"t":9.99}"#, Outcome::drop()),
            (r#"{"t":10}"#, Outcome::keep()),
            (r#"{"t":20}"#, Outcome::keep()),
            (r#"{"t":20.01}"#, Outcome::drop()),
        ] {
            assert_eq!(outcome(&settings, value), expected, "{value}");
        }
    }

    #[test]
    fn outside_keeps_what_inside_drops() {
        let settings = [("field", "t"), ("max", "20"), ("keep", "outside")];
        assert_eq!(outcome(&settings, r#"{"t":21}"#), Outcome::keep());
        assert_eq!(outcome(&settings, r#"{"t":19}"#), Outcome::drop());
    }

    #[test]
    fn a_record_without_the_number_follows_the_setting() {
        let fails = Outcome::failed("no number in the field `t`");
        assert_eq!(outcome(&[("field", "t"), ("max", "1")], "not json"), fails);
        let keep = [("field", "t"), ("max", "1"), ("missing", "keep")];
        assert_eq!(outcome(&keep, r#"{"t":"warm"}"#), Outcome::keep());
        let drop = [("field", "t"), ("max", "1"), ("missing", "drop")];
        assert_eq!(outcome(&drop, "{}"), Outcome::drop());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for settings in [
            &[("field", "t")][..],
            &[("max", "1")],
            &[("field", "t"), ("max", "warm")],
            &[("field", "t"), ("max", "1"), ("keep", "both")],
            &[("field", "t"), ("max", "1"), ("missing", "what")],
        ] {
            assert!(testing::run::<Threshold>(settings, &[]).is_err(), "{settings:?}");
        }
    }
}
