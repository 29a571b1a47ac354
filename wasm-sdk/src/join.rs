//! Joins two streams, record with record: same key, times not more than a span apart.
//!
//! Both sides must come to the *same state*. A transform keeps state for each source topic apart,
//! unless it is told otherwise, so there are two ways:
//!
//! - Deploy one transform on both topics with `--derive --join`: their partitions of the same number
//!   share one state. The topics must have as many partitions, and be keyed alike.
//! - Bring both into one topic first: two transforms route left and right there, each with a
//!   header that says which it is; the join runs on that topic. This works inline, too.
//!
//! Each pair is made once, whichever side comes first, unless a record is late. In a test,
//! `Partition::shared_by` shares one state among topics.

use crate::bytes::{from_ordered, ordered};
use crate::state::{self, Range};
use crate::window::Arrival;
use crate::{Failure, Record};

/// Which of the two streams a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// One.
    Left,
    /// The other.
    Right,
}

/// Joins two streams within a span of time.
#[derive(Debug)]
pub struct Join {
    within_ms: i64,
    lateness_ms: i64,
    namespace: u8,
    own: Vec<u8>,
    from: Vec<u8>,
    to: Vec<u8>,
    value: Vec<u8>,
    range: Range,
}

/// Two records that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The key of both.
    pub key: &'a [u8],
    /// What was given for the left one.
    pub left: &'a [u8],
    /// Its time.
    pub left_ms: i64,
    /// What was given for the right one.
    pub right: &'a [u8],
    /// Its time.
    pub right_ms: i64,
}

impl Join {
    /// Records are joined if their times are at most `within_ms` apart.
    ///
    /// # Errors
    /// Less than 0 ms, or more than a thousand years.
    pub fn new(within_ms: i64) -> Result<Self, Failure> {
        if !(0..=WITHIN_MS_MAX).contains(&within_ms) {
            return Err(format!("a join within {within_ms} ms: 0 to {WITHIN_MS_MAX}").into());
        }
        Ok(Join {
            within_ms,
            lateness_ms: 0,
            namespace: b'j',
            own: Vec::new(),
            from: Vec::new(),
            to: Vec::new(),
            value: Vec::new(),
            range: Range::default(),
        })
    }

    /// How far behind the watermark a record may be and still be joined; all are kept for that
    /// much longer. 0 unless said.
    pub fn allowed_lateness_ms(mut self, lateness_ms: i64) -> Self {
        self.lateness_ms = lateness_ms.clamp(0, WITHIN_MS_MAX);
        self
    }

    /// The first byte of its entries in the state, `j` unless said.
    pub fn namespace(mut self, namespace: u8) -> Self {
        self.namespace = namespace;
        self
    }

    /// Takes a record of one side. `pair` is called for each record of the other side that it
    /// belongs to, in the order of their times, then of the log.
    ///
    /// # Errors
    /// The state is full, or was written by another version of the module.
    pub fn add(
        &mut self,
        record: &Record<'_>,
        side: Side,
        key: &[u8],
        value: &[u8],
        mut pair: impl FnMut(&Pair<'_>),
    ) -> Result<Arrival, Failure> {
        let at_ms = record.timestamp_ms();
        if at_ms.unsigned_abs() > i64::MAX as u64 / 4 {
            return Err(format!("{at_ms} ms is no time that a join can hold").into());
        }
        let watermark_ms = record.watermark_ms().unwrap_or(i64::MIN);
        if at_ms + self.lateness_ms < watermark_ms {
            return Ok(Arrival::Late);
        }
        self.keep(record, side, key, value)?;
        let other = match side {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        };
        write_key(&mut self.from, self.namespace, other, key, at_ms - self.within_ms);
        write_key(&mut self.to, self.namespace, other, key, at_ms + self.within_ms + 1);
        let prefix_bytes = self.from.len() - 8;
        self.range.restart(&self.from, Some(&self.to));
        while let Some((found, stored)) = self.range.next_entry() {
            let time = found.get(prefix_bytes..).and_then(|rest| rest.first_chunk());
            let stored = stored.strip_prefix(&[STATE_VERSION]);
            let (Some(time), Some(stored)) = (time, stored) else {
                return Err("what the join finds in the state was written by another version of \
                            this module: deploy it under a new name, or delete its state"
                    .into());
            };
            let (own, others) = ((value, at_ms), (stored, from_ordered(*time)));
            let (left, right) = if side == Side::Left { (own, others) } else { (others, own) };
            let ((left, left_ms), (right, right_ms)) = (left, right);
            pair(&Pair { key, left, left_ms, right, right_ms });
        }
        Ok(Arrival::Counted)
    }

    fn keep(
        &mut self,
        record: &Record<'_>,
        side: Side,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Failure> {
        let at_ms = record.timestamp_ms();
        write_key(&mut self.own, self.namespace, side, key, at_ms);
        // Two records of one time are two.
        self.own.extend_from_slice(&record.input_number().to_be_bytes());
        self.own.extend_from_slice(&record.ordinal().to_be_bytes());
        self.value.clear();
        self.value.push(STATE_VERSION);
        self.value.extend_from_slice(value);
        // A record that is not late is at `watermark - lateness` or later: beyond this time none
        // can belong to this one.
        let expires_ms = at_ms + self.within_ms + self.lateness_ms + 1;
        Ok(state::put_until(&self.own, &self.value, expires_ms)?)
    }
}

fn write_key(out: &mut Vec<u8>, namespace: u8, side: Side, key: &[u8], at_ms: i64) {
    out.clear();
    out.extend_from_slice(&[namespace, side as u8]);
    out.extend_from_slice(&(key.len() as u32).to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(&ordered(at_ms));
}

const STATE_VERSION: u8 = 1;
const WITHIN_MS_MAX: i64 = 1_000 * 366 * 24 * 3_600 * 1_000;
