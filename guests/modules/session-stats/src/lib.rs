//! Statistics of a JSON number per key and session, in place of the records.
//!
//! A session of a key goes on as long as its records are less than a gap apart.
//!
//! | setting | |
//! |---|---|
//! | `field` | the field of the record's JSON object, required |
//! | `gap_ms` | how long nothing must come for a session to end, required |
//! | `lateness_ms` | how long a session stays open behind its gap (0) |
//! | `emit` | `close` (default): once, when it is closed; `end`: at its end and for each late record; `change`: for each record |
//! | `late` | what becomes of a record that is too late: `drop` (default), `fail`, `topic:NAME` |
//! | `quantiles` | up to 16 shares from 0 to 1, with commas between (`0.5,0.99`); none |
//! | `relative_error` | of the quantiles (0.01) |
//! | `topic` | where the statistics go; unset: on in the record's topic |
//!
//! A session is a record with the key, the time of the session's last record, and a value like
//! `{"start":5,"last":900,"count":3,"mean":2,"min":1,"max":3,"quantiles":{"0.5":2.01}}`;
//! `"final":false` is added if it may change. It must never drop a record because it could not
//! read it: such a record fails.

use millpond_sdk::aggregate::{Max, Mean, Min, Quantiles};
use millpond_sdk::timers::Timer;
use millpond_sdk::window::{Arrival, Emission, LatePolicy, Session, Sessions};
use millpond_sdk::{
    Emit, Failure, Output, Record, Settings, Timed, Transform, Verdict, json, register,
};
use std::io::Write;

/// The module.
#[derive(Debug)]
pub struct SessionStats {
    field: String,
    late: LatePolicy,
    sessions: Which,
    teller: Teller,
}

/// The sketch is kept only where it is asked for.
#[derive(Debug)]
enum Which {
    Plain(Sessions<Plain>),
    Sketched(Sessions<(Plain, Quantiles)>),
}

type Plain = (Mean, Min, Max);

#[derive(Debug)]
struct Teller {
    topic: Option<String>,
    /// As the operator wrote them, and as numbers.
    quantiles: Vec<(String, f64)>,
    value: Vec<u8>,
}

impl Teller {
    fn tell<A>(
        &mut self,
        out: &mut Output,
        session: &Session<'_, A>,
        plain: &Plain,
        sketch: Option<&Quantiles>,
    ) {
        let (mean, min, max) = plain;
        let value = &mut self.value;
        value.clear();
        // Writing to a vector cannot fail.
        let _ = write!(
            value,
            "{{\"start\":{},\"last\":{},\"count\":{}",
            session.start_ms,
            session.last_ms,
            mean.count()
        );
        for (name, number) in [("mean", mean.value()), ("min", min.value()), ("max", max.value())] {
            let _ = write!(value, ",\"{name}\":");
            json::write_number(value, number.unwrap_or(f64::NAN));
        }
        if let Some(sketch) = sketch {
            value.extend_from_slice(b",\"quantiles\":");
            let mut separator = b'{';
            for (name, share) in &self.quantiles {
                let _ = write!(value, "{}\"{name}\":", char::from(separator));
                json::write_number(value, sketch.quantile(*share).unwrap_or(f64::NAN));
                separator = b',';
            }
            value.push(b'}');
        }
        value.extend_from_slice(if session.is_final { b"}" } else { b",\"final\":false}" });
        // A session before 1970 has no time that a record can have.
        let mut emit = Emit::new(session.last_ms.max(-1)).key(Some(session.key)).value(value);
        if let Some(topic) = &self.topic {
            emit = emit.topic(topic);
        }
        out.emit(&emit);
    }
}

impl Transform for SessionStats {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let gap_ms = settings.required("gap_ms")?;
        let gap_ms = gap_ms.parse().map_err(|_| format!("`gap_ms` is `{gap_ms}`"))?;
        let lateness_ms = settings.parse("lateness_ms")?.unwrap_or(0);
        let emission = Emission::from_settings(settings)?;
        let quantiles = parse_quantiles(&settings.get("quantiles").unwrap_or_default())?;
        let error: f64 = settings.parse("relative_error")?.unwrap_or(0.01);
        if !(0.0001..=0.5).contains(&error) {
            return Err(format!("`relative_error` is 0.0001 to 0.5, not {error}").into());
        }
        let sessions = if quantiles.is_empty() {
            let sessions = Sessions::new(gap_ms, Plain::default())?;
            Which::Plain(sessions.allowed_lateness_ms(lateness_ms).emission(emission))
        } else {
            let empty = (Plain::default(), Quantiles::new(error, 1024));
            let sessions = Sessions::new(gap_ms, empty)?;
            Which::Sketched(sessions.allowed_lateness_ms(lateness_ms).emission(emission))
        };
        Ok(SessionStats {
            field: settings.required("field")?,
            late: LatePolicy::from_settings(settings)?,
            sessions,
            teller: Teller { topic: settings.get("topic"), quantiles, value: Vec::new() },
        })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let Some(number) = json::number(record.value_or_empty(), &self.field) else {
            return Err(format!("no number in the field `{}`", self.field).into());
        };
        let key = record.key().ok_or("a record without key belongs to no session")?;
        let teller = &mut self.teller;
        let arrival = match &mut self.sessions {
            Which::Plain(sessions) => sessions.add(record, key, number, |session| {
                teller.tell(out, session, session.aggregate, None);
            })?,
            Which::Sketched(sessions) => sessions.add(record, key, number, |session| {
                let (plain, sketch) = session.aggregate;
                teller.tell(out, session, plain, Some(sketch));
            })?,
        };
        match arrival {
            Arrival::Counted => Ok(Verdict::Drop),
            Arrival::Late => self.late.apply(record, out),
        }
    }
}

impl Timed for SessionStats {
    fn on_timer(&mut self, timer: &Timer<'_>, out: &mut Output) -> Result<(), Failure> {
        let teller = &mut self.teller;
        match &mut self.sessions {
            Which::Plain(sessions) => sessions.on_timer(timer, |session| {
                teller.tell(out, session, session.aggregate, None);
            })?,
            Which::Sketched(sessions) => sessions.on_timer(timer, |session| {
                let (plain, sketch) = session.aggregate;
                teller.tell(out, session, plain, Some(sketch));
            })?,
        };
        Ok(())
    }
}

fn parse_quantiles(text: &str) -> Result<Vec<(String, f64)>, Failure> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parsed: Result<Vec<_>, String> = parts
        .map(|part| match json::parse_number(part.as_bytes()) {
            Some(share) if (0.0..=1.0).contains(&share) => Ok((part.to_string(), share)),
            _ => Err(format!("`quantiles` are numbers from 0 to 1, not `{part}`")),
        })
        .collect();
    match parsed? {
        many if many.len() > 16 => Err("`quantiles` are up to 16".into()),
        quantiles => Ok(quantiles),
    }
}

register!(SessionStats, timers);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{Partition, Step, TestRecord};

    const GAP: [(&str, &str); 2] = [("field", "t"), ("gap_ms", "100")];

    fn at(at_ms: i64, t: f64) -> TestRecord {
        let value = format!("{{\"t\":{t}}}");
        TestRecord::of(value.as_bytes()).key(b"k").timestamp_ms(at_ms)
    }

    fn told(step: &Step) -> Vec<String> {
        let text = |record: &TestRecord| String::from_utf8(record.value.clone().unwrap()).unwrap();
        step.emitted().map(text).collect()
    }

    #[test]
    fn a_session_is_told_when_the_gap_has_passed() {
        let mut partition = Partition::<SessionStats>::timed(&GAP).unwrap();
        partition.run(&[at(5, 1.0), at(104, 3.0), at(50, 2.0)]);
        partition.evict();
        let expected = r#"{"start":5,"last":104,"count":3,"mean":2,"min":1,"max":3}"#;
        assert_eq!(told(&partition.run(&[at(204, 9.0)])), [expected]);
    }

    #[test]
    fn quantiles_are_told_where_they_are_asked_for() {
        let settings = [&GAP[..], &[("quantiles", "0.5, 1"), ("relative_error", "0.001")]].concat();
        let mut partition = Partition::<SessionStats>::timed(&settings).unwrap();
        let records: Vec<_> = (0..=100).map(|t| at(t, t as f64)).collect();
        partition.run(&records);
        let session = told(&partition.idle(100)).remove(0);
        let quantiles = json::raw(session.as_bytes(), "quantiles").unwrap();
        for (name, exact) in [("0.5", 50.0), ("1", 100.0)] {
            let found = json::number(quantiles, name).unwrap();
            assert!((found / exact - 1.0).abs() <= 0.001, "{session}");
        }
    }

    #[test]
    fn a_session_that_is_not_over_can_be_told_and_says_so() {
        let settings = [&GAP[..], &[("emit", "change")]].concat();
        let mut partition = Partition::<SessionStats>::timed(&settings).unwrap();
        let expected = r#"{"start":5,"last":5,"count":1,"mean":1,"min":1,"max":1,"final":false}"#;
        assert_eq!(told(&partition.run(&[at(5, 1.0)])), [expected]);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for more in
            [("gap_ms", "0"), ("quantiles", "2"), ("quantiles", "a"), ("relative_error", "1")]
        {
            let settings = [("field", "t"), ("gap_ms", "5"), more];
            assert!(Partition::<SessionStats>::timed(&settings).is_err(), "{more:?}");
        }
    }
}
