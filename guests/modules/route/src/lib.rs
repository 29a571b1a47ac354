//! Sends records to other topics by the text in a JSON field; the rest stays.
//!
//! | setting | |
//! |---|---|
//! | `field` | the field of the record's JSON object, required |
//! | `cases` | required, with commas between: `text=topic` |
//! | `copy` | `true`: the record also stays where it was sent; default `false` |
//!
//! The topics must be among the transform's declared outputs. It must never lose a record: one
//! without the field, or of which no case speaks, stays.

use millpond_sdk::{Emit, Failure, Output, Record, Settings, Transform, Verdict, json, register};

/// The router.
#[derive(Debug)]
pub struct Route {
    field: String,
    cases: Vec<(String, String)>,
    copy: bool,
}

impl Transform for Route {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let cases = settings.required("cases")?;
        let cases = cases.split(',').map(|case| match case.split_once('=') {
            Some((text, topic)) => Ok((text.trim().to_string(), topic.trim().to_string())),
            None => Err(format!("a case is text=topic, not `{case}`")),
        });
        Ok(Route {
            field: settings.required("field")?,
            cases: cases.collect::<Result<_, _>>()?,
            copy: settings.parse("copy")?.unwrap_or(false),
        })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let Some(text) = json::string(record.value_or_empty(), &self.field) else {
            return Ok(Verdict::Keep);
        };
        let Some((_, topic)) = self.cases.iter().find(|(case, _)| *case == text) else {
            return Ok(Verdict::Keep);
        };
        if self.copy {
            out.emit(&Emit::copy_of(record).topic(topic));
            return Ok(Verdict::Keep);
        }
        Ok(out.route(record, topic))
    }
}

register!(Route);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{self, Outcome, TestRecord};

    #[test]
    fn the_field_chooses_the_topic() {
        let settings = [("field", "kind"), ("cases", "alarm=alarms, debug = noise")];
        let alarm = TestRecord::of(br#"{"kind":"alarm"}"#);
        let other = TestRecord::of(br#"{"kind":"reading"}"#);
        let records = [alarm.clone(), other, TestRecord::of(b"not json")];
        let report = testing::run::<Route>(&settings, &records).unwrap();
        let routed = Outcome::emit(vec![alarm.topic("alarms")]);
        assert_eq!(report.outcomes, [routed, Outcome::keep(), Outcome::keep()]);
    }

    #[test]
    fn a_copy_leaves_the_record_where_it_was_sent() {
        let settings = [("field", "kind"), ("cases", "alarm=alarms"), ("copy", "true")];
        let records = [TestRecord::of(br#"{"kind":"alarm"}"#)];
        let report = testing::run::<Route>(&settings, &records).unwrap();
        assert!(report.outcomes[0].kept);
        assert_eq!(report.outcomes[0].emitted[0].topic.as_deref(), Some("alarms"));
    }
}
