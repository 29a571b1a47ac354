//! Records that come when what they belong to is closed.

use crate::{Failure, Output, Record, Settings, Verdict};

/// Whether a record was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Arrival {
    /// In one window at least.
    Counted,
    /// In none: all windows that it belongs to are closed. Nothing changed.
    Late,
}

/// What becomes of late records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LatePolicy {
    /// They go no further.
    #[default]
    Drop,
    /// They go to a topic, which must be among the transform's outputs.
    Topic(String),
    /// They fail: the transform's failure policy applies, by default their dead letter is kept.
    Fail,
}

impl LatePolicy {
    /// Reads the setting `late`: `drop` (also if it is unset), `fail`, or `topic:NAME`.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_settings(settings: &Settings) -> Result<Self, Failure> {
        let Some(text) = settings.get("late") else {
            return Ok(LatePolicy::Drop);
        };
        match (text.as_str(), text.strip_prefix("topic:")) {
            ("drop", _) => Ok(LatePolicy::Drop),
            ("fail", _) => Ok(LatePolicy::Fail),
            (_, Some(topic)) if !topic.is_empty() => Ok(LatePolicy::Topic(topic.to_string())),
            _ => Err(format!("`late` is drop, fail or topic:NAME, not `{text}`").into()),
        }
    }

    /// What `on_record` gives for a late record.
    ///
    /// # Errors
    /// The policy is to fail.
    pub fn apply(&self, record: &Record<'_>, output: &mut Output) -> Result<Verdict, Failure> {
        match self {
            LatePolicy::Drop => Ok(Verdict::Drop),
            LatePolicy::Topic(topic) => Ok(output.route(record, topic)),
            LatePolicy::Fail => {
                let watermark_ms = record.watermark_ms().unwrap_or(i64::MIN);
                Err(format!(
                    "too late: its time is {} ms, the watermark {watermark_ms} ms",
                    record.timestamp_ms()
                )
                .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_says_what_becomes_of_late_records() {
        let read = |late: &str| LatePolicy::from_settings(&Settings::from_pairs(&[("late", late)]));
        assert_eq!(LatePolicy::from_settings(&Settings::from_pairs(&[])), Ok(LatePolicy::Drop));
        assert_eq!(read("fail"), Ok(LatePolicy::Fail));
        assert_eq!(read("topic:stragglers"), Ok(LatePolicy::Topic("stragglers".into())));
        assert!(read("topic:").is_err() && read("ignore").is_err());
    }
}
