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
use millpond_wire::mutant::Mutant;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use thiserror::Error;

const OF_GUEST: u8 = 0;
const OF_TIMER: u8 = 1;
const OF_HOST: u8 = 2;
/// An entry of the host: `i64` greatest timestamp, `i64` watermark, little-endian. Those of topics that
/// share the state are in `shared.rs`.
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
            // Copied: a piece of a batch would keep all of the batch in memory.
            let copy = |piece: &Bytes| Bytes::copy_from_slice(piece);
            state.set(copy(&key), Some(copy(&value)));
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
            if !Mutant::RefusedStateStays.is_on() {
                self.set(key, before);
            }
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
        self.reach(seen_ms, Some(now));
    }

    /// Takes a greatest timestamp, if it is greater, and a watermark, if it is later.
    pub(crate) fn reach(&mut self, seen_ms: Option<i64>, watermark_ms: Option<i64>) {
        let before = self.times();
        let greatest = seen_ms.filter(|seen| *seen >= 0).max(before.map(|(greatest, _)| greatest));
        let Some(greatest) = greatest else {
            return;
        };
        let watermark = watermark_ms.unwrap_or(abi::NO_WATERMARK).max(self.watermark_ms());
        if before == Some((greatest, watermark)) {
            return;
        }
        let mut value = vec![0; EXPIRY_BYTES];
        value.extend_from_slice(&greatest.to_le_bytes());
        value.extend_from_slice(&watermark.to_le_bytes());
        self.change(Bytes::from_static(WATERMARK_KEY), Some(value.into()));
    }

    /// A time of the host's own, by its whole key.
    pub(crate) fn host_time(&self, key: &[u8]) -> Option<i64> {
        let value = self.entries.get(key)?.get(EXPIRY_BYTES..)?;
        value.first_chunk::<8>().map(|time| i64::from_le_bytes(*time))
    }

    pub(crate) fn set_host_time(&mut self, key: &Bytes, time_ms: i64) {
        let value = [[0; EXPIRY_BYTES], time_ms.to_le_bytes()].concat();
        self.change(key.clone(), Some(value.into()));
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
            if !Mutant::TimerTwice.is_on() {
                self.change(key, None);
            }
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
                Some((at_ms, key)) if *at_ms <= watermark && !Mutant::NoExpiry.is_on() => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;

    impl Numbers {
        fn key(&mut self) -> Vec<u8> {
            let bytes = self.below(4);
            (0..bytes).map(|_| [0, 1, b'a', 255][self.below(4) as usize]).collect()
        }
    }

    /// The same, as simply as it can be said.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Model {
        entries: BTreeMap<Vec<u8>, (i64, Vec<u8>)>,
        timers: BTreeSet<(i64, Vec<u8>)>,
        times: Option<(i64, i64)>,
    }

    impl Model {
        fn journal(&self) -> BTreeMap<Bytes, Bytes> {
            let mut all = BTreeMap::new();
            for (key, (expires, value)) in &self.entries {
                let stored = [&expires.to_le_bytes()[..], value].concat();
                all.insert([&[0], key.as_slice()].concat().into(), stored.into());
            }
            for (at_ms, key) in &self.timers {
                let time = (*at_ms as u64 ^ (1 << 63)).to_be_bytes();
                all.insert([&[1], &time[..], key].concat().into(), vec![0; 8].into());
            }
            if let Some((greatest, watermark)) = self.times {
                let value = [[0; 8], greatest.to_le_bytes(), watermark.to_le_bytes()].concat();
                all.insert(WATERMARK_KEY.into(), value.into());
            }
            all
        }
    }

    fn step(numbers: &mut Numbers, state: &mut State, model: &mut Model) {
        let key = numbers.key();
        match numbers.below(10) {
            0..=2 => {
                let value = vec![7; numbers.below(20) as usize];
                let expires = [0, 5, 50, -3][numbers.below(4) as usize];
                assert_eq!(state.put(&key, &value, expires), Ok(()));
                model.entries.insert(key, (expires, value));
            }
            3 => {
                let there = model.entries.remove(&key).is_some();
                assert_eq!(state.delete(&key), Ok(there));
            }
            4 => {
                let found = model.entries.get(&key).map(|(_, value)| value.as_slice());
                assert_eq!(state.get(&key), found);
            }
            5 => check_range(numbers, state, model),
            6 => {
                let at_ms = numbers.below(80) as i64 - 20;
                assert_eq!(state.set_timer(at_ms, &key), Ok(()));
                model.timers.insert((at_ms, key));
            }
            7 => {
                let at_ms = numbers.below(80) as i64 - 20;
                let there = model.timers.remove(&(at_ms, key.clone()));
                assert_eq!(state.delete_timer(at_ms, &key), Ok(there));
            }
            8 => {
                let seen = numbers.below(60) as i64;
                let idle = numbers.below(9);
                state.advance(Some(seen), idle, 3);
                let greatest = model.times.map_or(seen, |(greatest, _)| greatest.max(seen));
                let now = greatest + idle as i64 - 3;
                let watermark = model.times.map_or(now, |(_, watermark)| watermark.max(now));
                model.times = Some((greatest, watermark));
            }
            _ => {
                let watermark = model.times.map_or(i64::MIN, |(_, watermark)| watermark);
                let max = numbers.below(5) as usize;
                for timer in state.take_due(max) {
                    let first = model.timers.pop_first().expect("a timer");
                    assert_eq!(first, (timer.at_ms, timer.key.to_vec()));
                    assert!(timer.at_ms <= watermark);
                }
                let due = model.timers.first().is_some_and(|(at_ms, _)| *at_ms <= watermark);
                assert_eq!(state.has_due(), due);
                state.expire(usize::MAX);
                model.entries.retain(|_, (at_ms, _)| *at_ms == 0 || *at_ms > watermark);
            }
        }
    }

    fn check_range(numbers: &mut Numbers, state: &State, model: &Model) {
        let (mut from, to) = (numbers.key(), (numbers.below(4) > 0).then(|| numbers.key()));
        let mut room = vec![0; 40 + numbers.below(60) as usize];
        let expected: Vec<_> = model
            .entries
            .iter()
            .filter(|(key, _)| **key >= from && to.as_ref().is_none_or(|to| *key < to))
            .map(|(key, (_, value))| (key.clone(), value.clone()))
            .collect();
        let mut found = Vec::new();
        loop {
            let written = state.range(&from, to.as_deref(), &mut room).expect("one entry fits");
            let mut packed = &room[..written];
            while let Some((lengths, rest)) = packed.split_first_chunk::<8>() {
                let word = |at: usize| {
                    u32::from_le_bytes(lengths[at..at + 4].try_into().expect("4 bytes")) as usize
                };
                let (key, rest) = rest.split_at(word(0));
                let (value, rest) = rest.split_at(word(4));
                found.push((key.to_vec(), value.to_vec()));
                packed = rest;
            }
            match found.last().filter(|_| written > 0) {
                Some((last, _)) => from = [last.as_slice(), &[0]].concat(),
                None => break,
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn it_is_a_map_whatever_is_done_and_undone() {
        for seed in 0..200 {
            let mut numbers = Numbers(seed);
            let mut state = State::default();
            let mut model = Model::default();
            // What a log of all committed runs holds.
            let mut log = BTreeMap::new();
            for _ in 0..20 {
                state.begin_run(usize::MAX);
                let before_run = model.clone();
                for _ in 0..numbers.below(4) {
                    state.begin_call();
                    let before_call = model.clone();
                    (0..numbers.below(12)).for_each(|_| step(&mut numbers, &mut state, &mut model));
                    if numbers.below(3) == 0 {
                        state.roll_back_call();
                        model = before_call;
                    }
                }
                if numbers.below(4) == 0 {
                    state.roll_back_run();
                    model = before_run;
                } else {
                    for StateChange { key, value } in state.commit_run() {
                        let before = match value.clone() {
                            Some(value) => log.insert(key, value),
                            None => log.remove(&key),
                        };
                        assert_ne!(before, value, "seed {seed}: a change that changes nothing");
                    }
                }
                let journal = model.journal();
                assert_eq!(state.entries, journal, "seed {seed}");
                assert_eq!(log, journal, "seed {seed}");
                let bytes: usize =
                    journal.iter().map(|(key, value)| counted(key, value.len())).sum();
                assert_eq!((state.bytes(), state.changed_bytes), (bytes, 0), "seed {seed}");
                let expiring = model.entries.values().filter(|(at_ms, _)| *at_ms != 0).count();
                assert_eq!(state.expiries.len(), expiring, "seed {seed}");
                if numbers.below(5) == 0 {
                    state = State::load(log.clone(), "subject").expect("it loads");
                }
            }
        }
    }

    #[test]
    fn bounds_longer_than_any_key_bound_as_they_should() {
        let mut state = State::default();
        state.begin_run(usize::MAX);
        let longest = vec![b'k'; caps::TRANSFORM_STATE_KEY_BYTES_MAX];
        state.put(&longest, b"v", 0).expect("it fits");
        let mut room = [0; 2_000];
        let after = [longest.as_slice(), &[0]].concat();
        let far = [longest.as_slice(), &[9; 500]].concat();
        assert!(state.range(&longest, Some(&after), &mut room).is_ok_and(|bytes| bytes > 0));
        assert_eq!(state.range(&after, None, &mut room), Ok(0));
        assert_eq!(state.range(&far, None, &mut room), Ok(0));
        assert!(state.range(b"", Some(&far), &mut room).is_ok_and(|bytes| bytes > 0));
    }

    #[test]
    fn extreme_times_neither_overflow_nor_come_out_of_order() {
        let mut state = State::default();
        state.begin_run(usize::MAX);
        for at_ms in [i64::MAX, 0, i64::MIN, -1, 1] {
            state.set_timer(at_ms, b"").expect("it fits");
        }
        assert!(!state.has_due(), "there is no watermark yet");
        state.advance(Some(i64::MAX), u64::MAX, 0);
        let due: Vec<_> = state.take_due(9).into_iter().map(|timer| timer.at_ms).collect();
        assert_eq!(due, [i64::MIN, -1, 0, 1, i64::MAX]);
    }
}
