//! A transform that runs natively at full speed: what a benchmark compares the module with.
//!
//! The same code on the same buffers, with the state in memory and nothing journalled. It must
//! never do work that a module would not do.

use super::{Place, TestRecord, encode};
use crate::guest::{Run, run_batch, run_timers};
use crate::output::{Addresses, Output};
use crate::state::memory::Store;
use crate::{Failure, Settings, Timed, Transform};

/// A transform that runs natively on batch after batch, as an instance does in the broker.
#[derive(Debug)]
pub struct Native<T> {
    transform: T,
    output: Output,
    timers: Option<(Run<T>, Store)>,
}

impl<T: Timed> Native<T> {
    /// Makes a transform that is registered with timers, with these settings and no state.
    ///
    /// # Errors
    /// What `Transform::new` refused.
    pub fn timed(settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let native = Native::new(settings)?;
        Ok(Native { timers: Some((run_timers, Store::new(true))), ..native })
    }
}

impl<T: Transform> Native<T> {
    /// Makes the transform with these settings.
    ///
    /// # Errors
    /// What `Transform::new` refused.
    pub fn new(settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let transform = T::new(&Settings::from_pairs(settings))?;
        Ok(Native { transform, output: Output::new(), timers: None })
    }

    /// Runs one batch that [`encode_input`](super::encode_input) laid out. Gives the length of the
    /// answer that a host would read: 0 if every record is kept.
    pub fn run(&mut self, input: &[u8]) -> usize {
        let (transform, output) = (&mut self.transform, &mut self.output);
        match &mut self.timers {
            Some((_, store)) => store.in_force(|| run_batch(transform, input, output)),
            None => run_batch(transform, input, output),
        }
        self.answer_bytes()
    }

    /// Moves the watermark on and runs the timers that are due. Gives how many there were, and
    /// the bytes of the answers.
    pub fn advance(&mut self, watermark_ms: i64) -> (usize, usize) {
        let (mut fired, mut bytes) = (0, 0);
        loop {
            let Some((on_timers, store)) = &mut self.timers else {
                return (fired, bytes);
            };
            store.advance(watermark_ms);
            let due = store.take_due();
            if due.is_empty() {
                store.expire();
                return (fired, bytes);
            }
            fired += due.len();
            let of = |(at_ms, key): &(i64, Vec<u8>)| {
                TestRecord { timestamp_ms: *at_ms, ..TestRecord::default() }.key(key)
            };
            let records: Vec<_> = due.iter().map(of).collect();
            let place = Place { watermark_ms: Some(watermark_ms), ..Place::default() };
            let input = encode(&records, &place);
            let (transform, output) = (&mut self.transform, &mut self.output);
            store.in_force(|| on_timers(transform, &input, output));
            bytes += self.answer_bytes();
        }
    }

    fn answer_bytes(&mut self) -> usize {
        if self.output.is_untouched() {
            return 0;
        }
        let encoded =
            self.output.encode(|_| Addresses { input: 0, arena: 0, verdicts: 0, encoded: 0 });
        encoded.len()
    }
}
