//! The files of a spill: appended to, read from the oldest undone record on, removed when done.
//!
//! It blocks, and is called from threads where that is allowed. What it never does: tell of a record as
//! taken before it is synced, remove a file before what makes it needless is synced, or go on after a
//! write or a sync has failed.

use super::format::{Frame, MAGIC, Numbered, Scan, decode, encode, scan};
use super::ledger::{Ledger, Outcome, Window};
use super::{SpillError, WhenFull};
use crate::producer::{ProducerId, Record};
use bytes::Bytes;
use millpond_wire::limits;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// About what one partition takes in a State.
const STATE_ENTRY_BYTES: u64 = 64;

/// What a spill may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) max_bytes: u64,
    pub(super) when_full: WhenFull,
}

impl Room {
    /// The size at which a new file is begun.
    pub(super) fn file_bytes(self) -> u64 {
        self.max_bytes / limits::CLIENT_SPILL_FILES
    }

    /// One file's worth stays free for what sending itself writes.
    fn for_records(self) -> u64 {
        self.max_bytes - self.file_bytes()
    }
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    bytes: u64,
    /// Frame numbers of its first and last record; 0: it has none.
    first_record: u64,
    last_record: u64,
    records: u64,
}

impl Part {
    fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes, first_record: 0, last_record: 0, records: 0 }
    }

    fn took(&mut self, number: u64) {
        if self.records == 0 {
            self.first_record = number;
        }
        self.last_record = number;
        self.records += 1;
    }

    /// How many of its records are not done.
    fn waiting(&self, done_through: u64) -> io::Result<u64> {
        if self.records == 0 || self.last_record <= done_through {
            return Ok(0);
        }
        if self.first_record > done_through {
            return Ok(self.records);
        }
        let file = Bytes::from(std::fs::read(&self.path)?);
        let is_waiting =
            |n: &Numbered| matches!(n.frame, Frame::Record(_)) && n.number > done_through;
        let frames = scan(&file, 0).frames;
        Ok(frames.iter().filter(|(_, numbered)| is_waiting(numbered)).count() as u64)
    }
}

/// What has happened to records here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) waiting: u64,
    pub(super) dropped: u64,
    pub(super) cut_bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    room: Room,
    /// Oldest first; the last one is appended to.
    parts: VecDeque<Part>,
    active: File,
    next_number: u64,
    pub(super) ledger: Ledger,
    /// Where the first record may stand that is not done: a file and an offset in it.
    cursor: (PathBuf, u64),
    /// How often records were dropped for room.
    drops: u64,
    pub(super) tally: Tally,
    broken: Option<Arc<str>>,
    lock: File,
}

/// Records that belong together, and where the next ones begin.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<(u64, Record)>,
    pub(super) end: (PathBuf, u64),
    pub(super) drops: u64,
}

impl Store {
    /// Opens a directory, makes it if it is not there, and cuts what a power cut left half.
    pub(super) fn open(dir: &Path, room: Room) -> Result<Self, SpillError> {
        Self::try_open(dir, room).map_err(|error| SpillError::io(dir, &error))
    }

    fn try_open(dir: &Path, room: Room) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let lock = File::create(dir.join("lock"))?;
        lock.try_lock().map_err(|_| io::Error::other("another program has it open"))?;
        let mut found = Found::default();
        for path in files(dir)? {
            found.take(path)?;
        }
        let Found { mut parts, mut ledger, last_number, cut_bytes } = found;
        if let Some(window) = &ledger.window {
            let is_there = |number| {
                parts.iter().any(|part| part.first_record <= number && number <= part.last_record)
            };
            if !is_there(window.first) || !is_there(window.last) {
                ledger.abandon();
            }
        }
        let mut tally = Tally { cut_bytes, ..Tally::default() };
        for part in &parts {
            tally.waiting += part.waiting(ledger.done_through)?;
        }
        let next_number = last_number + 1;
        let (active, part) = begin_file(dir, next_number, &ledger)?;
        let oldest = parts.front().unwrap_or(&part);
        let cursor = (oldest.path.clone(), 0);
        parts.push_back(part);
        let mut store = Self {
            dir: dir.to_path_buf(),
            room,
            parts,
            active,
            next_number: next_number + 1,
            ledger,
            cursor,
            drops: 0,
            tally,
            broken: None,
            lock,
        };
        store.remove_done()?;
        Ok(store)
    }

    /// Takes records: for each its frame number, or that there is no room. All that are taken are on
    /// flash when this returns.
    pub(super) fn append(&mut self, records: &[Record]) -> Vec<Result<u64, SpillError>> {
        let mut taken = Vec::with_capacity(records.len());
        for record in records {
            taken.push(self.append_one(record));
        }
        if let Err(error) = self.sync() {
            return records.iter().map(|_| Err(error.clone())).collect();
        }
        taken
    }

    fn append_one(&mut self, record: &Record) -> Result<u64, SpillError> {
        let number = self.next_number;
        let mut bytes = Vec::new();
        encode(number, &Frame::Record(record.clone()), &mut bytes);
        let size = bytes.len() as u64;
        let limit = self.room.file_bytes().min(limits::CLIENT_SPILL_FRAME_BYTES_MAX as u64);
        if size > limit {
            return Err(SpillError::TooLarge { record_bytes: size, limit_bytes: limit });
        }
        while self.bytes() + size > self.room.for_records() {
            let is_dropped = self.room.when_full == WhenFull::DropOldest
                && self.guard(|store| store.drop_oldest())?;
            if !is_dropped {
                return Err(SpillError::Full { max_bytes: self.room.max_bytes });
            }
        }
        // A new file takes a number of its own for its State.
        let has_moved = self.guard(|store| store.make_way(size))?;
        if has_moved {
            return self.append_one(record);
        }
        self.guard(|store| store.write(&bytes))?;
        self.next_number += 1;
        self.tally.waiting += 1;
        if let Some(part) = self.parts.back_mut() {
            part.took(number);
        }
        Ok(number)
    }

    /// The next records to send, or those of the window that was under way; empty if there are none.
    pub(super) fn next_batch(&self) -> Result<Batch, SpillError> {
        self.check()?;
        let result = self.read_batch();
        result.map_err(|error| SpillError::io(&self.dir, &error))
    }

    fn read_batch(&self) -> io::Result<Batch> {
        let (first, last) = match &self.ledger.window {
            Some(window) => (window.first, Some(window.last)),
            None => (self.ledger.done_through + 1, None),
        };
        let mut batch = Batch { records: Vec::new(), end: self.cursor.clone(), drops: self.drops };
        let mut bytes_left = limits::CLIENT_SPILL_WINDOW_BYTES as u64;
        let parts = self.parts.iter().skip_while(|part| part.path != self.cursor.0);
        for part in parts {
            let start = if part.path == self.cursor.0 { self.cursor.1 } else { 0 };
            let mut at = start.max(MAGIC.len() as u64);
            while at < part.bytes {
                let mut rest = read_from(&part.path, at)?;
                let chunk_at = at;
                while let Some((Numbered { number, frame }, size)) = decode(&rest) {
                    let size_bytes = size as u64;
                    if let Frame::Record(record) = frame
                        && number >= first
                    {
                        let is_full = batch.records.len() >= limits::CLIENT_SPILL_WINDOW_RECORDS
                            || (!batch.records.is_empty() && size_bytes > bytes_left);
                        if last.map_or(is_full, |last| number > last) {
                            return Ok(batch);
                        }
                        batch.records.push((number, record));
                        bytes_left = bytes_left.saturating_sub(size_bytes);
                    }
                    at += size_bytes;
                    batch.end = (part.path.clone(), at);
                    rest = rest.slice(size..);
                }
                if at == chunk_at {
                    // Damaged since it was opened: the next file goes on.
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// The producer to go on with; none where a new one is needed.
    pub(super) fn usable_producer(&self) -> Option<ProducerId> {
        // What is remembered of partitions stands at the head of every file.
        let remembered = self.ledger.sequences.len();
        let fits = remembered < limits::CLIENT_SPILL_PARTITIONS_MAX
            && remembered as u64 * STATE_ENTRY_BYTES < self.room.file_bytes() / 2;
        self.ledger.producer.filter(|_| fits)
    }

    /// Makes a window durable: after this it may be sent. `drops` is that of its batch. False: records
    /// were dropped for room since it was read, and may be among its own.
    pub(super) fn stamp(&mut self, window: Window, drops: u64) -> Result<bool, SpillError> {
        // A window that is on flash already keeps its records.
        if self.ledger.window.is_none() && drops != self.drops {
            return Ok(false);
        }
        self.note(Frame::Window(window.clone()))?;
        self.sync()?;
        self.ledger.stamped(window);
        Ok(true)
    }

    /// The window is over; `end` is where its records end. Gives room back.
    pub(super) fn done(
        &mut self,
        outcomes: &[Outcome],
        records: u64,
        end: (PathBuf, u64),
    ) -> Result<(), SpillError> {
        self.note(Frame::Done(outcomes.to_vec()))?;
        self.ledger.done(outcomes);
        self.tally.waiting = self.tally.waiting.saturating_sub(records);
        self.cursor = end;
        // Not synced by itself: a window that is sent again is told to be a duplicate.
        self.guard(Self::remove_done)
    }

    /// Writes nothing any more and lets others open the directory.
    pub(super) fn close(&mut self) -> Result<(), SpillError> {
        self.broken = Some("it is closed".into());
        self.lock.unlock().map_err(|error| SpillError::io(&self.dir, &error))
    }

    fn note(&mut self, frame: Frame) -> Result<(), SpillError> {
        let mut bytes = Vec::new();
        encode(self.next_number, &frame, &mut bytes);
        if self.guard(|store| store.make_way(bytes.len() as u64))? {
            bytes.clear();
            encode(self.next_number, &frame, &mut bytes);
        }
        self.guard(|store| store.write(&bytes))?;
        self.next_number += 1;
        Ok(())
    }

    /// Begins a new file if the present one would grow too large. True: it did.
    fn make_way(&mut self, bytes: u64) -> io::Result<bool> {
        let Some(part) = self.parts.back() else { return Ok(false) };
        if part.last_record == 0 || part.bytes + bytes <= self.room.file_bytes() {
            return Ok(false);
        }
        self.active.sync_data()?;
        let (active, part) = begin_file(&self.dir, self.next_number, &self.ledger)?;
        self.next_number += 1;
        self.active = active;
        self.parts.push_back(part);
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.active.write_all(bytes)?;
        if let Some(part) = self.parts.back_mut() {
            part.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SpillError> {
        self.guard(|store| store.active.sync_data())
    }

    /// Removes files whose records are all done, once what says so is synced.
    fn remove_done(&mut self) -> io::Result<()> {
        let done_through = self.ledger.done_through;
        let is_done = |part: &Part| part.last_record <= done_through;
        let mut is_synced = false;
        while self.parts.len() > 1 && self.parts.front().is_some_and(is_done) {
            if !is_synced {
                self.active.sync_data()?;
                is_synced = true;
            }
            self.remove(0)?;
        }
        Ok(())
    }

    /// Drops the oldest file that is not under way; false if there is none.
    fn drop_oldest(&mut self) -> io::Result<bool> {
        let under_way = self.ledger.window.as_ref().map_or(0, |window| window.last);
        let done_through = self.ledger.done_through.max(under_way);
        let last = self.parts.len().saturating_sub(1);
        // Also the file in which the window ends: its records stand there.
        let spared = self.parts.iter().position(|part| part.last_record > done_through);
        let spared = spared.unwrap_or(last) + usize::from(under_way > 0);
        if spared >= last {
            return Ok(false);
        }
        let Some(part) = self.parts.get(spared) else { return Ok(false) };
        let lost = part.waiting(done_through)?;
        self.drops += 1;
        self.tally.dropped += lost;
        self.tally.waiting = self.tally.waiting.saturating_sub(lost);
        self.remove(spared)?;
        Ok(true)
    }

    fn remove(&mut self, at: usize) -> io::Result<()> {
        let Some(part) = self.parts.remove(at) else { return Ok(()) };
        std::fs::remove_file(&part.path)?;
        if self.cursor.0 == part.path
            && let Some(next) = self.parts.get(at)
        {
            self.cursor = (next.path.clone(), 0);
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    fn check(&self) -> Result<(), SpillError> {
        match &self.broken {
            Some(reason) => Err(SpillError::Broken { reason: Arc::clone(reason) }),
            None => Ok(()),
        }
    }

    /// Does something to the files; after a failure nothing is done any more.
    fn guard<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> Result<T, SpillError> {
        self.check()?;
        act(self).map_err(|error| {
            self.broken = Some(error.to_string().into());
            SpillError::io(&self.dir, &error)
        })
    }
}

/// What a directory holds.
#[derive(Default)]
struct Found {
    parts: VecDeque<Part>,
    ledger: Ledger,
    last_number: u64,
    cut_bytes: u64,
}

impl Found {
    fn take(&mut self, path: PathBuf) -> io::Result<()> {
        let file = Bytes::from(std::fs::read(&path)?);
        let size = file.len() as u64;
        let Scan { frames, good_bytes } = scan(&file, self.last_number);
        if frames.is_empty() {
            // The power went before it was begun: nothing was ever promised of it.
            self.cut_bytes += size;
            return std::fs::remove_file(&path);
        }
        let mut part = Part::new(path.clone(), good_bytes);
        for (_, Numbered { number, frame }) in frames {
            self.last_number = number;
            match frame {
                Frame::Record(_) => part.took(number),
                Frame::Window(window) => self.ledger.stamped(window),
                Frame::Done(outcomes) => self.ledger.done(&outcomes),
                Frame::State(ledger) => self.ledger = ledger,
            }
        }
        if good_bytes < size {
            self.cut_bytes += size - good_bytes;
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(good_bytes)?;
            file.sync_all()?;
        }
        self.parts.push_back(part);
        Ok(())
    }
}

/// The files of a spill, oldest first.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "spill") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A new file that begins with all that is known, on flash with its name.
fn begin_file(dir: &Path, number: u64, ledger: &Ledger) -> io::Result<(File, Part)> {
    let path = dir.join(format!("{number:016x}.spill"));
    let mut bytes = MAGIC.to_vec();
    encode(number, &Frame::State(ledger.clone()), &mut bytes);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok((file, Part::new(path, bytes.len() as u64)))
}

/// A piece of a file from `at` on that holds one frame at least.
fn read_from(path: &Path, at: u64) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    let most = limits::CLIENT_SPILL_WINDOW_BYTES + limits::CLIENT_SPILL_FRAME_BYTES_MAX;
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(Bytes::from(bytes))
}
