//! Keeps the records whose JSON number field is within limits, so that what nobody needs is never
//! written.
//!
//! | setting | |
//! |---|---|
//! | `field` | the field of the record's JSON object |
//! | `pointer` | in place of `field`: where the number stands, an RFC 6901 pointer such as `/load/t/0`; the broker's helper reads it |
//! | `read` | who looks for `field`: `broker` (default), in all records at once, which is faster; or `module`, each record by itself |
//! | `min`, `max` | inclusive limits; one of them at least |
//! | `keep` | `inside` (default) or `outside` the limits |
//! | `missing` | what becomes of a record without such a number: `error` (default: the failure policy applies), `keep` or `drop` |
//!
//! It must never drop a record because it could not read it, unless told to.

use millpond_sdk::helpers::{self, Numbers};
use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json, register};

/// The filter.
#[derive(Debug)]
pub struct Threshold {
    place: Place,
    min: f64,
    max: f64,
    inside: Verdict,
    outside: Verdict,
    missing: Missing,
}

/// Where the number stands.
#[derive(Debug)]
enum Place {
    Column(Numbers),
    Field(String),
    Pointer(String),
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
        let place = match (settings.get("field"), settings.get("pointer")) {
            (None, Some(pointer)) if pointer.starts_with('/') => Place::Pointer(pointer),
            (None, Some(other)) => {
                return Err(format!("`pointer` starts with a slash: `{other}`").into());
            }
            (Some(_), Some(_)) => return Err("set `field` or `pointer`, not both".into()),
            _ => {
                let field = settings.required("field")?;
                match settings.get("read").as_deref() {
                    None | Some("broker") => Place::Column(Numbers::of_field(&field)),
                    Some("module") => Place::Field(field),
                    Some(other) => {
                        return Err(format!("`read` is broker or module, not `{other}`").into());
                    }
                }
            }
        };
        Ok(Threshold {
            place,
            min: min.unwrap_or(f64::NEG_INFINITY),
            max: max.unwrap_or(f64::INFINITY),
            inside,
            outside,
            missing,
        })
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let value = record.value_or_empty();
        let number = match &mut self.place {
            Place::Column(numbers) => numbers.get(record),
            Place::Field(field) => json::number(value, field),
            Place::Pointer(pointer) => helpers::json_number(value, pointer).ok(),
        };
        let Some(number) = number else {
            return match self.missing {
                Missing::Fail => Err(self.place.no_number()),
                Missing::Keep => Ok(Verdict::Keep),
                Missing::Drop => Ok(Verdict::Drop),
            };
        };
        Ok(if self.min <= number && number <= self.max { self.inside } else { self.outside })
    }
}

impl Place {
    #[cold]
    fn no_number(&self) -> Failure {
        match self {
            Place::Column(numbers) => {
                format!("no number in the field `{}`", numbers.field()).into()
            }
            Place::Field(field) => format!("no number in the field `{field}`").into(),
            Place::Pointer(pointer) => format!("no number at `{pointer}`").into(),
        }
    }
}

register!(Threshold);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{self, Outcome, TestRecord};

    /// The same whoever reads the field.
    fn outcome(settings: &[(&str, &str)], value: &str) -> Outcome {
        let records = [TestRecord::of(value.as_bytes())];
        let by = |reader| {
            let settings = [settings, &[("read", reader)]].concat();
            testing::run::<Threshold>(&settings, &records).unwrap().outcomes
        };
        let [outcomes, others] = [by("broker"), by("module")];
        assert_eq!(outcomes, others, "{value}");
        outcomes.into_iter().next().unwrap()
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
    fn a_pointer_reaches_into_what_is_nested() {
        let settings = [("pointer", "/load/t/1"), ("min", "5")];
        assert_eq!(outcome(&settings, r#"{"load":{"t":[1,9]}}"#), Outcome::keep());
        assert_eq!(outcome(&settings, r#"{"load":{"t":[9,1]}}"#), Outcome::drop());
        let fails = Outcome::failed("no number at `/load/t/1`");
        assert_eq!(outcome(&settings, r#"{"load":{"t":[9]}}"#), fails);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for settings in [
            &[("field", "t")][..],
            &[("field", "t"), ("pointer", "/t"), ("min", "1")],
            &[("pointer", "t"), ("min", "1")],
            &[("field", "t"), ("read", "who"), ("min", "1")],
            &[("max", "1")],
            &[("field", "t"), ("max", "warm")],
            &[("field", "t"), ("max", "1"), ("keep", "both")],
            &[("field", "t"), ("max", "1"), ("missing", "what")],
        ] {
            assert!(testing::run::<Threshold>(settings, &[]).is_err(), "{settings:?}");
        }
    }
}
