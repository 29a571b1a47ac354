//! The mean of a JSON number per key and window of time, in place of the records.
//!
//! | setting | |
//! |---|---|
//! | `field` | the field of the record's JSON object, required |
//! | `window_ms` | length of a window, required; windows start at multiples of it since 1970 |
//! | `lateness_ms` | how long a window stays open behind its end (0) |
//! | `emit` | `close` (default): once, when it is closed; `end`: at its end and for each late record; `change`: for each record |
//! | `late` | what becomes of a record that is too late: `drop` (default), `fail`, `topic:NAME` |
//! | `raw` | whether the records themselves go on: `drop` (default) or `keep` |
//! | `topic` | where the means go; unset: on in the record's topic |
//!
//! A mean is a record with the key, the window's last millisecond as its time, and a value like
//! `{"start":0,"end":60000,"count":12,"mean":21.5}`; `"final":false` is added if it may change.
//! It must never drop a record because it could not read it: such a record fails.

use millpond_sdk::aggregate::Mean;
use millpond_sdk::timers::Timer;
use millpond_sdk::window::{Arrival, Emission, LatePolicy, Window, Windows};
use millpond_sdk::{
    Emit, Failure, Output, Record, Settings, Timed, Transform, Verdict, json, register,
};
use std::io::Write;

/// The module.
#[derive(Debug)]
pub struct WindowMean {
    field: String,
    windows: Windows<Mean>,
    late: LatePolicy,
    raw: Verdict,
    teller: Teller,
}

#[derive(Debug)]
struct Teller {
    topic: Option<String>,
    value: Vec<u8>,
}

impl Teller {
    fn tell(&mut self, out: &mut Output, window: &Window<'_, Mean>) {
        let Some(mean) = window.aggregate.value() else {
            return;
        };
        let (start_ms, end_ms) = (window.start_ms, window.end_ms);
        let count = window.aggregate.count();
        self.value.clear();
        // Writing to a vector cannot fail.
        let _ = write!(
            self.value,
            "{{\"start\":{start_ms},\"end\":{end_ms},\"count\":{count},\"mean\":"
        );
        json::write_number(&mut self.value, mean);
        let end: &[u8] = if window.is_final { b"}" } else { b",\"final\":false}" };
        self.value.extend_from_slice(end);
        // A window before 1970 has no time that a record can have.
        let mut emit = Emit::new((end_ms - 1).max(-1)).key(Some(window.key)).value(&self.value);
        if let Some(topic) = &self.topic {
            emit = emit.topic(topic);
        }
        out.emit(&emit);
    }
}

impl Transform for WindowMean {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let window_ms = settings.required("window_ms")?;
        let window_ms = window_ms.parse().map_err(|_| format!("`window_ms` is `{window_ms}`"))?;
        let lateness_ms = settings.parse("lateness_ms")?.unwrap_or(0);
        let raw = match settings.get("raw").as_deref() {
            None | Some("drop") => Verdict::Drop,
            Some("keep") => Verdict::Keep,
            Some(other) => return Err(format!("`raw` is drop or keep, not `{other}`").into()),
        };
        Ok(WindowMean {
            field: settings.required("field")?,
            windows: Windows::tumbling(window_ms, Mean::default())?
                .allowed_lateness_ms(lateness_ms)
                .emission(Emission::from_settings(settings)?),
            late: LatePolicy::from_settings(settings)?,
            raw,
            teller: Teller { topic: settings.get("topic"), value: Vec::new() },
        })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let Some(number) = json::number(record.value_or_empty(), &self.field) else {
            return Err(format!("no number in the field `{}`", self.field).into());
        };
        let key = record.key().ok_or("a record without key belongs to no window")?;
        let teller = &mut self.teller;
        match self.windows.add(record, key, number, |window| teller.tell(out, window))? {
            Arrival::Counted => Ok(self.raw),
            Arrival::Late => self.late.apply(record, out),
        }
    }
}

impl Timed for WindowMean {
    fn on_timer(&mut self, timer: &Timer<'_>, out: &mut Output) -> Result<(), Failure> {
        let teller = &mut self.teller;
        self.windows.on_timer(timer, |window| teller.tell(out, window))?;
        Ok(())
    }
}

register!(WindowMean, timers);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{Outcome, Partition, Step, TestRecord};

    const MINUTE: [(&str, &str); 2] = [("field", "t"), ("window_ms", "60000")];

    fn at(at_ms: i64, device: &str, t: f64) -> TestRecord {
        let value = format!("{{\"t\":{t}}}");
        TestRecord::of(value.as_bytes()).key(device.as_bytes()).timestamp_ms(at_ms)
    }

    fn told(step: &Step) -> Vec<String> {
        let text = |bytes: &Option<Vec<u8>>| {
            String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
        };
        step.emitted()
            .map(|record| {
                format!("{} {} {}", text(&record.key), record.timestamp_ms, text(&record.value))
            })
            .collect()
    }

    #[test]
    fn each_device_has_its_mean_when_the_minute_is_over() {
        let mut partition = Partition::<WindowMean>::timed(&MINUTE).unwrap();
        let step = partition.run(&[at(1, "b", 1.0), at(2, "a", 20.0), at(59_999, "a", 21.0)]);
        assert_eq!(step.outcomes, vec![Outcome::drop(); 3]);
        partition.evict();
        assert_eq!(
            told(&partition.run(&[at(60_000, "a", 99.0)])),
            [
                r#"a 59999 {"start":0,"end":60000,"count":2,"mean":20.5}"#,
                r#"b 59999 {"start":0,"end":60000,"count":1,"mean":1}"#,
            ]
        );
    }

    #[test]
    fn each_change_can_be_told_beside_the_records() {
        let settings = [&MINUTE[..], &[("emit", "change"), ("raw", "keep"), ("topic", "means")]];
        let mut partition = Partition::<WindowMean>::timed(&settings.concat()).unwrap();
        let step = partition.run(&[at(1, "a", 1.0), at(2, "a", 2.0)]);
        assert!(step.outcomes.iter().all(|outcome| outcome.kept));
        let means: Vec<_> = step.emitted().map(|record| record.topic.as_deref()).collect();
        assert_eq!(means, [Some("means"); 2]);
        let last = r#"a 59999 {"start":0,"end":60000,"count":2,"mean":1.5,"final":false}"#;
        assert_eq!(told(&step)[1], last);
    }

    #[test]
    fn a_late_record_follows_the_setting() {
        let settings = [&MINUTE[..], &[("late", "topic:stragglers")]].concat();
        let mut partition = Partition::<WindowMean>::timed(&settings).unwrap();
        partition.run(&[at(60_000, "a", 1.0)]);
        let late = at(3, "a", 7.0);
        let step = partition.run(std::slice::from_ref(&late));
        assert_eq!(step.outcomes, [Outcome::emit(vec![late.topic("stragglers")])]);
    }

    #[test]
    fn what_cannot_be_read_fails() {
        let mut partition = Partition::<WindowMean>::timed(&MINUTE).unwrap();
        let step = partition.run(&[TestRecord::of(b"{}").key(b"a"), TestRecord::of(b"{\"t\":1}")]);
        let fails = [
            Outcome::failed("no number in the field `t`"),
            Outcome::failed("a record without key belongs to no window"),
        ];
        assert_eq!(step.outcomes, fails);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for more in
            [("window_ms", "0"), ("window_ms", "a"), ("emit", "x"), ("late", "x"), ("raw", "x")]
        {
            let settings = [("field", "t"), ("window_ms", "5"), more];
            assert!(Partition::<WindowMean>::timed(&settings).is_err(), "{more:?}");
        }
        assert!(Partition::<WindowMean>::timed(&[("field", "t")]).is_err());
    }
}
