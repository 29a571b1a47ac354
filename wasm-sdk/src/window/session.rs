//! Session windows: they last as long as records follow each other closely.
//!
//! Records of a key belong together if less than the gap lies between one and the next; a record
//! between two sessions joins them. Kept per open session: a version byte, its length and the
//! aggregate. Sessions of a key lie side by side in the state, in the order of their starts.

use super::{Arrival, Emission, STATE_VERSION, check_duration, foreign_state};
use crate::aggregate::Aggregate;
use crate::bytes::{Reader, from_ordered, ordered, write_unsigned};
use crate::state::{self, Range};
use crate::timers::{self, Timer};
use crate::{Failure, Record};

/// Sessions, per key.
#[derive(Debug)]
pub struct Sessions<A> {
    gap_ms: i64,
    lateness_ms: i64,
    emission: Emission,
    empty: A,
    namespace: u8,
    key: Vec<u8>,
    end: Vec<u8>,
    value: Vec<u8>,
    scratch: Vec<u8>,
    range: Range,
}

/// A session's result.
#[derive(Debug)]
pub struct Session<'a, A> {
    /// Whose session.
    pub key: &'a [u8],
    /// The timestamp of its first record.
    pub start_ms: i64,
    /// The timestamp of its last record.
    pub last_ms: i64,
    /// What its records made.
    pub aggregate: &'a A,
    /// Whether nothing can change it any more. What is told before may be told again as part of a
    /// longer session, which starts no later.
    pub is_final: bool,
}

/// An open session as it is kept.
#[derive(Debug)]
struct Open<A> {
    start_ms: i64,
    last_ms: i64,
    aggregate: A,
}

impl<A: Aggregate> Sessions<A> {
    /// Sessions that end when no record came for `gap_ms`.
    ///
    /// # Errors
    /// A gap that cannot be.
    pub fn new(gap_ms: i64, empty: A) -> Result<Self, Failure> {
        check_duration("a session's gap", gap_ms)?;
        Ok(Sessions {
            gap_ms,
            lateness_ms: 0,
            emission: Emission::AtClose,
            empty,
            namespace: b's',
            key: Vec::new(),
            end: Vec::new(),
            value: Vec::new(),
            scratch: Vec::new(),
            range: Range::default(),
        })
    }

    /// How long a session stays open behind its gap. 0 unless said; not below.
    pub fn allowed_lateness_ms(mut self, lateness_ms: i64) -> Self {
        self.lateness_ms = lateness_ms.max(0);
        self
    }

    /// When results are told.
    pub fn emission(mut self, emission: Emission) -> Self {
        self.emission = emission;
        self
    }

    /// The first byte of all that it puts in the state and of its timers, `s` unless said. Two
    /// operators in one module need two.
    pub fn namespace(mut self, namespace: u8) -> Self {
        self.namespace = namespace;
        self
    }

    /// Counts a record in its session, which it may start, prolong, or join of two. `emit` is
    /// called if the result is to be told at once. A number that is none (NaN) is refused.
    ///
    /// A record is late if it touches no open session and its own would be closed already.
    ///
    /// # Errors
    /// The state is full, or was written by another version of the module.
    pub fn add(
        &mut self,
        record: &Record<'_>,
        key: &[u8],
        value: f64,
        mut emit: impl FnMut(&Session<'_, A>),
    ) -> Result<Arrival, Failure> {
        if value.is_nan() {
            return Err("the value is not a number".into());
        }
        let timestamp_ms = super::timestamp_ms(record)?;
        let watermark_ms = record.watermark_ms().unwrap_or(i64::MIN);
        let mut touched = self.touched(key, timestamp_ms)?;
        if self.emission == Emission::EachChange {
            // What expires may stand for a while after its time.
            let wait_ms = self.gap_ms + self.lateness_ms;
            touched.retain(|open| open.last_ms + wait_ms > watermark_ms);
        }
        if touched.is_empty() && timestamp_ms + self.gap_ms + self.lateness_ms <= watermark_ms {
            return Ok(Arrival::Late);
        }
        let before = touched.first().map(|open| (open.start_ms, open.last_ms));
        for open in touched.iter().skip(1) {
            self.forget(key, open.start_ms, open.last_ms);
        }
        let mut session = self.joined(touched, timestamp_ms);
        session.aggregate.add(value, timestamp_ms);
        if let Some((start_ms, last_ms)) = before {
            if start_ms != session.start_ms {
                self.forget(key, start_ms, last_ms);
            } else if last_ms != session.last_ms {
                self.forget_timers(key, start_ms, last_ms);
            }
        }
        let is_moved = before != Some((session.start_ms, session.last_ms));
        self.keep(key, &session, is_moved, watermark_ms)?;
        let at_once = match self.emission {
            Emission::AtClose => false,
            Emission::AtEnd => watermark_ms >= session.last_ms + self.gap_ms,
            Emission::EachChange => true,
        };
        if at_once {
            emit(&session.told(key, false));
        }
        Ok(Arrival::Counted)
    }

    /// Tells the session that a timer stands for. Gives whether the timer was this operator's.
    ///
    /// # Errors
    /// The state was written by another version of the module.
    pub fn on_timer(
        &mut self,
        timer: &Timer<'_>,
        mut emit: impl FnMut(&Session<'_, A>),
    ) -> Result<bool, Failure> {
        let Some((key, start_ms)) = self.parse_key(timer.key()) else {
            return Ok(false);
        };
        let Some(found) = state::get(timer.key(), &mut self.scratch) else {
            return Ok(true);
        };
        let session = Open::read(&self.empty, start_ms, found)?;
        let end_ms = session.last_ms + self.gap_ms;
        let is_final = timer.at_ms() >= end_ms + self.lateness_ms;
        let is_told = match self.emission {
            Emission::AtClose => is_final,
            Emission::AtEnd => !is_final || self.lateness_ms == 0,
            Emission::EachChange => false,
        };
        if is_told {
            emit(&session.told(key, is_final));
        }
        if is_final {
            state::delete(timer.key());
        }
        Ok(true)
    }

    /// The open sessions less than a gap away, earliest first: at most two, as they are at least a
    /// gap from each other.
    fn touched(&mut self, key: &[u8], timestamp_ms: i64) -> Result<Vec<Open<A>>, Failure> {
        let mut bound = core::mem::take(&mut self.end);
        self.write_key(&mut bound, key, timestamp_ms + self.gap_ms);
        self.set_key(key, i64::MIN);
        self.range.restart(&self.key, Some(&bound));
        self.end = bound;
        let mut touched = Vec::new();
        while let Some((found, value)) = self.range.next_entry() {
            let start = found.last_chunk().ok_or_else(foreign_state)?;
            let open = Open::read(&self.empty, from_ordered(*start), value)?;
            if open.last_ms > timestamp_ms - self.gap_ms {
                touched.push(open);
            }
        }
        Ok(touched)
    }

    /// All of these and a record at this time, which is not added yet.
    fn joined(&self, touched: Vec<Open<A>>, timestamp_ms: i64) -> Open<A> {
        let mut touched = touched.into_iter();
        let Some(mut session) = touched.next() else {
            let aggregate = self.empty.clone();
            return Open { start_ms: timestamp_ms, last_ms: timestamp_ms, aggregate };
        };
        for later in touched {
            session.aggregate.merge(&later.aggregate);
            session.last_ms = session.last_ms.max(later.last_ms);
        }
        session.start_ms = session.start_ms.min(timestamp_ms);
        session.last_ms = session.last_ms.max(timestamp_ms);
        session
    }

    fn keep(
        &mut self,
        key: &[u8],
        session: &Open<A>,
        is_moved: bool,
        watermark_ms: i64,
    ) -> Result<(), Failure> {
        self.value.clear();
        self.value.push(STATE_VERSION);
        write_unsigned(&mut self.value, session.last_ms.abs_diff(session.start_ms));
        session.aggregate.encode(&mut self.value);
        self.set_key(key, session.start_ms);
        let end_ms = session.last_ms + self.gap_ms;
        let close_ms = end_ms + self.lateness_ms;
        if self.emission == Emission::EachChange {
            return Ok(state::put_until(&self.key, &self.value, close_ms)?);
        }
        if is_moved {
            if self.emission == Emission::AtEnd && watermark_ms < end_ms {
                timers::set(end_ms, &self.key)?;
            }
            timers::set(close_ms, &self.key)?;
        }
        Ok(state::put(&self.key, &self.value)?)
    }

    fn forget(&mut self, key: &[u8], start_ms: i64, last_ms: i64) {
        self.forget_timers(key, start_ms, last_ms);
        state::delete(&self.key);
    }

    fn forget_timers(&mut self, key: &[u8], start_ms: i64, last_ms: i64) {
        self.set_key(key, start_ms);
        if self.emission == Emission::EachChange {
            return;
        }
        let end_ms = last_ms + self.gap_ms;
        timers::delete(end_ms + self.lateness_ms, &self.key);
        if self.emission == Emission::AtEnd {
            timers::delete(end_ms, &self.key);
        }
    }

    fn set_key(&mut self, key: &[u8], start_ms: i64) {
        let mut own = core::mem::take(&mut self.key);
        self.write_key(&mut own, key, start_ms);
        self.key = own;
    }

    /// Namespace, length of the key, key, start: no key's sessions lie among those of another.
    fn write_key(&self, out: &mut Vec<u8>, key: &[u8], start_ms: i64) {
        out.clear();
        out.push(self.namespace);
        out.extend_from_slice(&(key.len() as u32).to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&ordered(start_ms));
    }

    fn parse_key<'k>(&self, key: &'k [u8]) -> Option<(&'k [u8], i64)> {
        let (namespace, rest) = key.split_first()?;
        let (len, rest) = rest.split_first_chunk()?;
        let (key, start) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        let start = start.try_into().ok()?;
        (*namespace == self.namespace).then_some((key, from_ordered(start)))
    }
}

impl<A: Aggregate> Open<A> {
    fn read(empty: &A, start_ms: i64, value: &[u8]) -> Result<Self, Failure> {
        let mut reader = Reader::new(value);
        let mut parts = || {
            let length_ms = match reader.byte()? {
                STATE_VERSION => i64::try_from(reader.unsigned()?).ok()?,
                _ => return None,
            };
            let last_ms = start_ms.checked_add(length_ms)?;
            Some(Open { start_ms, last_ms, aggregate: empty.decode(&mut reader)? })
        };
        let open = parts();
        open.filter(|_| reader.is_empty()).ok_or_else(foreign_state)
    }

    fn told<'a>(&'a self, key: &'a [u8], is_final: bool) -> Session<'a, A> {
        let Open { start_ms, last_ms, aggregate } = self;
        Session { key, start_ms: *start_ms, last_ms: *last_ms, aggregate, is_final }
    }
}
