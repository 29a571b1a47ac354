//! What a transform remembers of one partition: an ordered map, timers, the watermark.
//!
//! It is a cache of the changelog: keys and values stand in it as they are journalled, so that a
//! change costs no conversion. The first byte of a key says whose it is: 0 the guest's, 1 a timer
//! (its time, so that timers stand in their order, then its key), 2 the host's own.
//!
//! Two marks may be gone back to: the start of the call and the start of the run. It must never
//! hold more than its limit lets the guest put into it, and it has no clock.

use crate::abi;
use bytes::Bytes;
use millpond_wire::limits as caps;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use thiserror::Error;

const OF_GUEST: u8 = 0;
const OF_TIMER: u8 = 1;
const OF_HOST: u8 = 2;
/// The host's one entry: `i64` greatest timestamp, `i64` watermark, little-endian.
const WATERMARK_KEY: &[u8] = b"\x02watermark";
/// In front of each value: when it expires, `i64` little-endian, 0 = never.
const EXPIRY_BYTES: usize = 8;
/// In front of a timer's key: whose it is, and its time.
const TIMER_PREFIX_BYTES: usize = 9;
/// Longest key as journalled.
const KEY_BYTES_MAX: usize = TIMER_PREFIX_BYTES + caps::TRANSFORM_STATE_KEY_BYTES_MAX;

/// One change of a transform's state, as it is journalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The key, with the byte in front that says whose it is.
    pub key: Bytes,
    /// The value, with its expiry in front; `None`: the entry is gone.
    pub value: Option<Bytes>,
}

/// Why state cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StateError {
    /// No such stage.
    #[error("the chain has no stage {0}")]
    NoStage(usize),
    /// Its module never asks for any.
    #[error("the transform `{0}` keeps no state")]
    Stateless(String),
    /// The changelog has what this program never writes.
    #[error("the state of `{transform}` has an entry that is none: {what}")]
    BadEntry {
        /// Whose.
        transform: String,
        /// What is wrong.
        what: &'static str,
    },
    /// More than any transform may keep.
    #[error("the state of `{transform}` is larger than {max} bytes")]
    TooLarge {
        /// Whose.
        transform: String,
        /// The cap.
        max: usize,
    },
}

/// Why something is not put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    TooLong,
}

/// More was changed in one run than can be journalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuch;

/// The entries of a range did not fit: bytes that the first of them takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom(pub(crate) usize);

/// A timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) at_ms: i64,
    pub(crate) key: Bytes,
}

/// What stood where something was changed.
type Before = BTreeMap<Bytes, Option<Bytes>>;

/// The state of one transform on one partition.
#[derive(Debug, Default)]
pub(crate) struct State {
    entries: BTreeMap<Bytes, Bytes>,
    expiries: BTreeSet<(i64, Bytes)>,
    bytes: usize,
    limit_bytes: usize,
    /// Since the start of the call.
    call: Before,
    /// Since the start of the run, as far as calls that succeeded go.
    run: Before,
    /// Keys and values that differ, or may differ, from those at the start of the run.
    changed_bytes: usize,
    changed_bytes_before_call: usize,
    /// A key with its first byte, while it is looked up.
    scratch: Vec<u8>,
}

impl State {
    /// The state of what is in a changelog; a later entry of the same key counts.
    ///
    /// # Errors
    /// What no changelog of this program has in it.
    pub(crate) fn load(
        entries: impl IntoIterator<Item = (Bytes, Bytes)>,
        transform: &str,
    ) -> Result<Self, StateError> {
        let mut state = State::default();
        for (key, value) in entries {
            check_entry(&key, &value)
                .map_err(|what| StateError::BadEntry { transform: transform.to_string(), what })?;
            state.set(key, Some(value));
            // A limit may have been lowered; what is there stays.
            let max = caps::TRANSFORM_STATE_BYTES_MAX + 2 * caps::TRANSFORM_STATE_CHANGE_BYTES_MAX;
            if state.bytes > max {
                return Err(StateError::TooLarge { transform: transform.to_string(), max });
            }
        }
        Ok(state)
    }

    /// Starts a run; what an earlier one left unfinished is undone.
    pub(crate) fn begin_run(&mut self, limit_bytes: usize) {
        self.roll_back_run();
        self.limit_bytes = limit_bytes;
    }

    /// Ends a run: what it changed, one for each key, in the order of the keys.
    pub(crate) fn commit_run(&mut self) -> Vec<StateChange> {
        self.commit_call();
        self.changed_bytes = 0;
        std::mem::take(&mut self.run)
            .into_iter()
            .filter_map(|(key, before)| {
                let value = self.entries.get(&key).cloned();
                (value != before).then_some(StateChange { key, value })
            })
            .collect()
    }

    /// Ends a run: nothing was changed.
    pub(crate) fn roll_back_run(&mut self) {
        self.roll_back_call();
        for (key, before) in std::mem::take(&mut self.run) {
            self.set(key, before);
        }
        self.changed_bytes = 0;
    }

    /// Marks where [`Self::roll_back_call`] goes back to.
    pub(crate) fn begin_call(&mut self) {
        self.commit_call();
        self.changed_bytes_before_call = self.changed_bytes;
    }

    /// What was changed since the mark stands.
    pub(crate) fn commit_call(&mut self) {
        let call = std::mem::take(&mut self.call);
        if self.run.is_empty() {
            self.run = call;
        } else {
            for (key, before) in call {
                self.run.entry(key).or_insert(before);
            }
        }
        self.changed_bytes_before_call = self.changed_bytes;
    }

    /// Nothing was changed since the mark.
    pub(crate) fn roll_back_call(&mut self) {
        for (key, before) in std::mem::take(&mut self.call) {
            self.set(key, before);
        }
        self.changed_bytes = self.changed_bytes_before_call;
    }

    /// Keys and values, and what each entry is counted with.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        if key.len() > caps::TRANSFORM_STATE_KEY_BYTES_MAX {
            return None;
        }
        prefixed(&mut self.scratch, OF_GUEST, key);
        self.entries.get(self.scratch.as_slice())?.get(EXPIRY_BYTES..)
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], expires_ms: i64) -> Result<(), Refused> {
        if key.len() > caps::TRANSFORM_STATE_KEY_BYTES_MAX
            || value.len() > caps::TRANSFORM_STATE_VALUE_BYTES_MAX
        {
            return Err(Refused::TooLong);
        }
        prefixed(&mut self.scratch, OF_GUEST, key);
        self.put_scratch(value, expires_ms)
    }

    /// Whether it was there.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<bool, TooMuch> {
        if key.len() > caps::TRANSFORM_STATE_KEY_BYTES_MAX {
            return Ok(false);
        }
        prefixed(&mut self.scratch, OF_GUEST, key);
        self.delete_scratch()
    }

    /// Packs the entries with `from <= key < to` into `out`, as many as fit whole; gives the bytes
    /// written.
    pub(crate) fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<usize, NoRoom> {
        let from = bound(from);
        let to = to.map_or_else(|| vec![OF_TIMER], bound);
        if from >= to {
            return Ok(0);
        }
        let mut written = 0;
        let bounds = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
        for (key, value) in self.entries.range::<[u8], _>(bounds) {
            let key = key.get(1..).unwrap_or_default();
            let value = value.get(EXPIRY_BYTES..).unwrap_or_default();
            let needed = abi::STATE_ENTRY_BYTES + key.len() + value.len();
            let Some(place) = out.get_mut(written..).and_then(|rest| rest.get_mut(..needed)) else {
                return if written == 0 { Err(NoRoom(needed)) } else { Ok(written) };
            };
            let lengths = [(key.len() as u32).to_le_bytes(), (value.len() as u32).to_le_bytes()];
            let pieces = [lengths.as_flattened(), key, value];
            let mut at = 0;
            for piece in pieces {
                if let Some(place) = place.get_mut(at..at + piece.len()) {
                    place.copy_from_slice(piece);
                }
                at += piece.len();
            }
            written += needed;
        }
        Ok(written)
    }

    pub(crate) fn set_timer(&mut self, at_ms: i64, key: &[u8]) -> Result<(), Refused> {
        if key.len() > caps::TRANSFORM_STATE_KEY_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        timer_key(&mut self.scratch, at_ms, key);
        self.put_scratch(&[], 0)
    }

    /// Whether it was there.
    pub(crate) fn delete_timer(&mut self, at_ms: i64, key: &[u8]) -> Result<bool, TooMuch> {
        if key.len() > caps::TRANSFORM_STATE_KEY_BYTES_MAX {
            return Ok(false);
        }
        timer_key(&mut self.scratch, at_ms, key);
        self.delete_scratch()
    }

    /// The greatest timestamp that was seen, and the watermark.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let value = self.entries.get(WATERMARK_KEY)?.get(EXPIRY_BYTES..)?;
        let (greatest, rest) = value.split_first_chunk::<8>()?;
        let watermark = rest.first_chunk::<8>()?;
        Some((i64::from_le_bytes(*greatest), i64::from_le_bytes(*watermark)))
    }

    /// The watermark; [`abi::NO_WATERMARK`] before the first record.
    pub(crate) fn watermark_ms(&self) -> i64 {
        self.times().map_or(abi::NO_WATERMARK, |(_, watermark)| watermark)
    }

    /// Takes the greatest timestamp of what came, or the time since, into the watermark, which
    /// never goes back.
    pub(crate) fn advance(&mut self, seen_ms: Option<i64>, idle_ms: u64, delay_ms: u64) {
        let before = self.times();
        let greatest = seen_ms.filter(|seen| *seen >= 0).max(before.map(|(greatest, _)| greatest));
        let Some(greatest) = greatest else {
            return;
        };
        let now = greatest.saturating_add_unsigned(idle_ms).saturating_sub_unsigned(delay_ms);
        let watermark = now.max(before.map_or(abi::NO_WATERMARK, |(_, watermark)| watermark));
        if before == Some((greatest, watermark)) {
            return;
        }
        let mut value = vec![0; EXPIRY_BYTES];
        value.extend_from_slice(&greatest.to_le_bytes());
        value.extend_from_slice(&watermark.to_le_bytes());
        self.change(Bytes::from_static(WATERMARK_KEY), Some(value.into()));
    }

    /// Takes up to `max` timers that are due out, in their order.
    pub(crate) fn take_due(&mut self, max: usize) -> Vec<Timer> {
        let due = self.due().take(max).cloned().collect::<Vec<_>>();
        let mut timers = Vec::with_capacity(due.len());
        for key in due {
            if self.is_over() {
                break;
            }
            let at = key.get(1..).and_then(|rest| rest.first_chunk::<8>());
            let at_ms = at.map_or(0, |at| (u64::from_be_bytes(*at) ^ (1 << 63)) as i64);
            timers.push(Timer { at_ms, key: key.slice(TIMER_PREFIX_BYTES.min(key.len())..) });
            self.change(key, None);
        }
        timers
    }

    /// Whether timers are due.
    pub(crate) fn has_due(&self) -> bool {
        self.due().next().is_some()
    }

    fn due(&self) -> impl Iterator<Item = &Bytes> {
        let mut end = Vec::new();
        match self.watermark_ms().checked_add(1) {
            // Without a watermark nothing is before the least time.
            Some(after) if after > abi::NO_WATERMARK + 1 => timer_key(&mut end, after, &[]),
            Some(_) => end.push(OF_TIMER),
            None => end.push(OF_HOST),
        }
        let bounds = (Bound::Included(&[OF_TIMER][..]), Bound::Excluded(end.as_slice()));
        // The least key of a timer is longer than its first byte, so the bounds may be equal only
        // where there is nothing between them.
        let range =
            (end.as_slice() > &[OF_TIMER][..]).then(|| self.entries.range::<[u8], _>(bounds));
        range.into_iter().flatten().map(|(key, _)| key)
    }

    /// Deletes what the watermark has reached, up to `max` entries; gives their number.
    pub(crate) fn expire(&mut self, max: usize) -> usize {
        let watermark = self.watermark_ms();
        let mut expired = 0;
        while expired < max && !self.is_over() {
            match self.expiries.first() {
                Some((at_ms, key)) if *at_ms <= watermark => {
                    let key = key.clone();
                    self.change(key, None);
                    expired += 1;
                }
                _ => break,
            }
        }
        expired
    }

    /// Whether so much was changed in this run that the rest must wait for the next.
    fn is_over(&self) -> bool {
        self.changed_bytes > caps::TRANSFORM_STATE_CHANGE_BYTES_MAX
    }

    fn put_scratch(&mut self, value: &[u8], expires_ms: i64) -> Result<(), Refused> {
        let found = self.entries.get_key_value(self.scratch.as_slice());
        let entry_bytes = counted(&self.scratch, EXPIRY_BYTES + value.len());
        let before = found.map_or(0, |(key, value)| counted(key, value.len()));
        let after = self.bytes - before + entry_bytes;
        // What makes it smaller is let through although a lowered limit is exceeded.
        let grows_beyond = after > self.limit_bytes && after > self.bytes;
        let changes = self.changed_bytes + self.scratch.len() + EXPIRY_BYTES + value.len();
        if grows_beyond || changes > caps::TRANSFORM_STATE_CHANGE_BYTES_MAX {
            return Err(Refused::Full);
        }
        let key = found.map(|(key, _)| key.clone());
        let key = key.unwrap_or_else(|| Bytes::copy_from_slice(&self.scratch));
        let mut stored = Vec::with_capacity(EXPIRY_BYTES + value.len());
        stored.extend_from_slice(&expires_ms.to_le_bytes());
        stored.extend_from_slice(value);
        self.change(key, Some(stored.into()));
        Ok(())
    }

    fn delete_scratch(&mut self) -> Result<bool, TooMuch> {
        let Some((key, _)) = self.entries.get_key_value(self.scratch.as_slice()) else {
            return Ok(false);
        };
        if self.is_over() {
            return Err(TooMuch);
        }
        let key = key.clone();
        self.change(key, None);
        Ok(true)
    }

    /// Sets an entry and remembers what stood there.
    fn change(&mut self, key: Bytes, value: Option<Bytes>) {
        let written = key.len() + value.as_ref().map_or(0, Bytes::len);
        let before = self.set(key.clone(), value);
        let counted_before = || key.len() + before.as_ref().map_or(0, Bytes::len);
        if self.call.contains_key(&key) {
            self.changed_bytes = self.changed_bytes.saturating_sub(counted_before()) + written;
            return;
        }
        if self.run.contains_key(&key) {
            self.changed_bytes = self.changed_bytes.saturating_sub(counted_before()) + written;
        } else {
            self.changed_bytes += written;
        }
        self.call.insert(key, before);
    }

    /// Sets an entry; gives what stood there.
    fn set(&mut self, key: Bytes, value: Option<Bytes>) -> Option<Bytes> {
        let before = match value {
            Some(value) => {
                self.bytes += counted(&key, value.len());
                if let Some(at_ms) = expiry(&value) {
                    self.expiries.insert((at_ms, key.clone()));
                }
                let expires = expiry(&value);
                let before = self.entries.insert(key.clone(), value);
                if let Some(at_ms) = before.as_deref().and_then(expiry)
                    && Some(at_ms) != expires
                {
                    self.expiries.remove(&(at_ms, key.clone()));
                }
                before
            }
            None => {
                let before = self.entries.remove(&key);
                if let Some(at_ms) = before.as_deref().and_then(expiry) {
                    self.expiries.remove(&(at_ms, key.clone()));
                }
                before
            }
        };
        if let Some(before) = &before {
            self.bytes -= counted(&key, before.len());
        }
        before
    }
}

fn counted(key: &[u8], value_bytes: usize) -> usize {
    key.len() + value_bytes + caps::TRANSFORM_STATE_ENTRY_BYTES
}

fn expiry(value: &[u8]) -> Option<i64> {
    let at_ms = i64::from_le_bytes(*value.first_chunk::<EXPIRY_BYTES>()?);
    (at_ms != 0).then_some(at_ms)
}

fn prefixed(scratch: &mut Vec<u8>, whose: u8, key: &[u8]) {
    scratch.clear();
    scratch.push(whose);
    scratch.extend_from_slice(key);
}

fn timer_key(scratch: &mut Vec<u8>, at_ms: i64, key: &[u8]) {
    prefixed(scratch, OF_TIMER, &(at_ms as u64 ^ (1 << 63)).to_be_bytes());
    scratch.extend_from_slice(key);
}

/// A bound of a range. One byte more than a key may have decides as well as all of them.
fn bound(key: &[u8]) -> Vec<u8> {
    let cut = key.get(..caps::TRANSFORM_STATE_KEY_BYTES_MAX + 1).unwrap_or(key);
    let mut bound = Vec::with_capacity(1 + cut.len());
    prefixed(&mut bound, OF_GUEST, cut);
    bound
}

fn check_entry(key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if value.len() < EXPIRY_BYTES {
        return Err("a value without an expiry");
    }
    if key.len() > KEY_BYTES_MAX
        || value.len() > EXPIRY_BYTES + caps::TRANSFORM_STATE_VALUE_BYTES_MAX
    {
        return Err("longer than any may be");
    }
    match key.first() {
        Some(&OF_GUEST | &OF_HOST) => Ok(()),
        Some(&OF_TIMER) if key.len() >= TIMER_PREFIX_BYTES => Ok(()),
        Some(&OF_TIMER) => Err("a timer without a time"),
        _ => Err("a key of a kind that this version does not know"),
    }
}
