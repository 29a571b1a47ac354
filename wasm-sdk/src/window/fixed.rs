//! Tumbling and hopping windows: of one length, at fixed times.
//!
//! Kept per window and key: a version byte and the aggregate. The entry's key is the namespace,
//! the window's start and the author's key, and so is that of its timers.

use super::{Arrival, Emission, STATE_VERSION, check_duration, foreign_state};
use crate::aggregate::Aggregate;
use crate::bytes::{Reader, from_ordered, ordered};
use crate::state;
use crate::timers::{self, Timer};
use crate::{Failure, Record};

/// Windows of one length, per key. A window holds the records with start <= timestamp < end.
#[derive(Debug)]
pub struct Windows<A> {
    size_ms: i64,
    step_ms: i64,
    lateness_ms: i64,
    emission: Emission,
    empty: A,
    namespace: u8,
    key: Vec<u8>,
    value: Vec<u8>,
    scratch: Vec<u8>,
}

/// A window's result.
#[derive(Debug)]
pub struct Window<'a, A> {
    /// Whose window.
    pub key: &'a [u8],
    /// Its first millisecond.
    pub start_ms: i64,
    /// The first millisecond after it.
    pub end_ms: i64,
    /// What its records made.
    pub aggregate: &'a A,
    /// Whether nothing can change it any more.
    pub is_final: bool,
}

impl<A: Aggregate> Windows<A> {
    /// Windows side by side. They start at multiples of their length since 1970.
    ///
    /// # Errors
    /// A length that cannot be.
    pub fn tumbling(size_ms: i64, empty: A) -> Result<Self, Failure> {
        Windows::hopping(size_ms, size_ms, empty)
    }

    /// Windows that start every `step_ms` and overlap.
    ///
    /// # Errors
    /// A length that cannot be, a step longer than that, or more than a thousand windows at once.
    pub fn hopping(size_ms: i64, step_ms: i64, empty: A) -> Result<Self, Failure> {
        check_duration("a window's length", size_ms)?;
        check_duration("a window's step", step_ms)?;
        if step_ms > size_ms {
            let what = format!("a step of {step_ms} ms leaves out what is between windows of");
            return Err(format!("{what} {size_ms} ms").into());
        }
        if size_ms / step_ms > OVERLAP_MAX {
            let max = OVERLAP_MAX;
            return Err(format!("a record would belong to more than {max} windows").into());
        }
        Ok(Windows {
            size_ms,
            step_ms,
            lateness_ms: 0,
            emission: Emission::AtClose,
            empty,
            namespace: b'w',
            key: Vec::new(),
            value: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// How long a window stays open behind its end. 0 unless said; not below.
    pub fn allowed_lateness_ms(mut self, lateness_ms: i64) -> Self {
        self.lateness_ms = lateness_ms.max(0);
        self
    }

    /// When results are told.
    pub fn emission(mut self, emission: Emission) -> Self {
        self.emission = emission;
        self
    }

    /// The first byte of all that it puts in the state and of its timers, `w` unless said. Two
    /// operators in one module need two.
    pub fn namespace(mut self, namespace: u8) -> Self {
        self.namespace = namespace;
        self
    }

    /// Counts a record in each of its windows that is open. `emit` is called for each result that
    /// is to be told at once. A number that is none (NaN) is refused.
    ///
    /// # Errors
    /// The state is full (the record may then be counted in some of its windows), or was written
    /// by another version of the module.
    pub fn add(
        &mut self,
        record: &Record<'_>,
        key: &[u8],
        value: f64,
        mut emit: impl FnMut(&Window<'_, A>),
    ) -> Result<Arrival, Failure> {
        if value.is_nan() {
            return Err("the value is not a number".into());
        }
        let timestamp_ms = super::timestamp_ms(record)?;
        let watermark_ms = record.watermark_ms().unwrap_or(i64::MIN);
        let last_start_ms = timestamp_ms - timestamp_ms.rem_euclid(self.step_ms);
        let mut start_ms = last_start_ms - (self.size_ms - 1) / self.step_ms * self.step_ms;
        let mut arrival = Arrival::Late;
        while start_ms <= last_start_ms {
            let end_ms = start_ms + self.size_ms;
            if timestamp_ms < end_ms && watermark_ms < end_ms + self.lateness_ms {
                arrival = Arrival::Counted;
                let aggregate = self.count(start_ms, key, value, timestamp_ms, watermark_ms)?;
                let at_once = match self.emission {
                    Emission::AtClose => false,
                    Emission::AtEnd => watermark_ms >= end_ms,
                    Emission::EachChange => true,
                };
                if at_once {
                    let aggregate = &aggregate;
                    emit(&Window { key, start_ms, end_ms, aggregate, is_final: false });
                }
            }
            start_ms += self.step_ms;
        }
        Ok(arrival)
    }

    /// Tells the window that a timer stands for. Gives whether the timer was this operator's.
    ///
    /// # Errors
    /// The state was written by another version of the module.
    pub fn on_timer(
        &mut self,
        timer: &Timer<'_>,
        mut emit: impl FnMut(&Window<'_, A>),
    ) -> Result<bool, Failure> {
        let Some((start_ms, key)) = self.parse_key(timer.key()) else {
            return Ok(false);
        };
        let end_ms = start_ms + self.size_ms;
        let is_final = timer.at_ms() >= end_ms + self.lateness_ms;
        let is_told = match self.emission {
            Emission::AtClose => is_final,
            // Without lateness its end is when it closes; else that is told already.
            Emission::AtEnd => !is_final || self.lateness_ms == 0,
            Emission::EachChange => false,
        };
        if is_told && let Some(found) = state::get(timer.key(), &mut self.scratch) {
            let aggregate = read(&self.empty, found)?;
            emit(&Window { key, start_ms, end_ms, aggregate: &aggregate, is_final });
        }
        if is_final {
            state::delete(timer.key());
        }
        Ok(true)
    }

    fn count(
        &mut self,
        start_ms: i64,
        key: &[u8],
        value: f64,
        timestamp_ms: i64,
        watermark_ms: i64,
    ) -> Result<A, Failure> {
        self.key.clear();
        self.key.push(self.namespace);
        self.key.extend_from_slice(&ordered(start_ms));
        self.key.extend_from_slice(key);
        let found = state::get(&self.key, &mut self.scratch);
        let is_new = found.is_none();
        let mut aggregate = match found {
            Some(found) => read(&self.empty, found)?,
            None => self.empty.clone(),
        };
        aggregate.add(value, timestamp_ms);
        self.value.clear();
        self.value.push(STATE_VERSION);
        aggregate.encode(&mut self.value);
        let end_ms = start_ms + self.size_ms;
        let close_ms = end_ms + self.lateness_ms;
        if self.emission == Emission::EachChange {
            state::put_until(&self.key, &self.value, close_ms)?;
            return Ok(aggregate);
        }
        if is_new {
            if self.emission == Emission::AtEnd && watermark_ms < end_ms {
                timers::set(end_ms, &self.key)?;
            }
            timers::set(close_ms, &self.key)?;
        }
        state::put(&self.key, &self.value)?;
        Ok(aggregate)
    }

    fn parse_key<'k>(&self, key: &'k [u8]) -> Option<(i64, &'k [u8])> {
        let (namespace, rest) = key.split_first()?;
        let (start, key) = rest.split_first_chunk()?;
        (*namespace == self.namespace).then_some((from_ordered(*start), key))
    }
}

fn read<A: Aggregate>(empty: &A, value: &[u8]) -> Result<A, Failure> {
    let mut reader = Reader::new(value);
    let aggregate = match reader.byte() {
        Some(STATE_VERSION) => empty.decode(&mut reader),
        _ => None,
    };
    aggregate.filter(|_| reader.is_empty()).ok_or_else(foreign_state)
}

/// Windows that one record may belong to.
const OVERLAP_MAX: i64 = 1_000;
