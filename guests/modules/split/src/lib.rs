//! Makes one record of each line of a value: for gateways that send readings in bundles.
//!
//! | setting | |
//! |---|---|
//! | `separator` | one byte between the parts; default: the end of a line |
//!
//! Empty parts are left out; a value of one part stays as it is. Key, headers and timestamp are
//! those of the bundle. It must never change a byte of a part.

use millpond_sdk::{Emit, Failure, Output, Record, Settings, Transform, Verdict, register};

/// The splitter.
#[derive(Debug)]
pub struct Split {
    separator: u8,
}

impl Transform for Split {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let separator = match settings.get("separator") {
            None => b'\n',
            Some(text) => match text.as_bytes() {
                [byte] => *byte,
                _ => return Err(format!("`separator` is one byte, not `{text}`").into()),
            },
        };
        Ok(Split { separator })
    }

    fn on_record(&mut self, record: &Record<'_>, out: &mut Output) -> Result<Verdict, Failure> {
        let value = record.value_or_empty();
        if !value.contains(&self.separator) {
            return Ok(Verdict::Keep);
        }
        let bundle = Emit::copy_of(record);
        for part in value.split(|byte| *byte == self.separator) {
            if !part.is_empty() {
                out.emit(&bundle.clone().value(part));
            }
        }
        Ok(Verdict::Drop)
    }
}

register!(Split);

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_sdk::testing::{self, Outcome, TestRecord};

    #[test]
    fn each_part_becomes_a_record() {
        let records = [TestRecord::of(b"a\n\nb\n").key(b"k"), TestRecord::of(b"whole")];
        let report = testing::run::<Split>(&[], &records).unwrap();
        let parts = vec![TestRecord::of(b"a").key(b"k"), TestRecord::of(b"b").key(b"k")];
        assert_eq!(report.outcomes, [Outcome::emit(parts), Outcome::keep()]);
    }

    #[test]
    fn the_separator_is_one_byte() {
        assert!(testing::run::<Split>(&[("separator", "ab")], &[]).is_err());
        let records = [TestRecord::of(b"a;b")];
        let report = testing::run::<Split>(&[("separator", ";")], &records).unwrap();
        assert_eq!(report.outcomes[0].emitted.len(), 2);
    }
}
