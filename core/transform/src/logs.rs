//! What guests say, and how much of it is heard.
//!
//! It must never grow by what a guest writes: lines, their length, their number for a batch and
//! for a second are capped; the rest is counted.

use millpond_wire::limits as caps;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever writes the module.
    Debug,
    /// What an operator may want to know.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

impl Level {
    pub(crate) fn from_number(number: u32) -> Self {
        match number {
            0 => Level::Debug,
            1 => Level::Info,
            2 => Level::Warn,
            _ => Level::Error,
        }
    }

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// One line of a transform's log, by the guest or about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important.
    pub level: Level,
    /// The name of the transform.
    pub transform: String,
    /// The partition in hand.
    pub partition: i32,
    /// The text: one line, no control characters.
    pub text: String,
}

/// Lines of one stage for one batch.
#[derive(Debug, Default)]
pub(crate) struct LogBuffer {
    pub(crate) lines: Vec<(Level, String)>,
    pub(crate) dropped: u64,
}

impl LogBuffer {
    pub(crate) fn push(&mut self, level: Level, text: &[u8], quota: &LogQuota) {
        let full = self.lines.len() >= caps::TRANSFORM_LOG_LINES_PER_BATCH_MAX;
        if full || !quota.take() {
            self.dropped += 1;
            return;
        }
        self.lines.push((level, printable(text, caps::TRANSFORM_LOG_LINE_BYTES_MAX)));
    }

    /// Takes over what was logged elsewhere, as far as there is room.
    pub(crate) fn append(&mut self, mut other: LogBuffer) {
        let room = caps::TRANSFORM_LOG_LINES_PER_BATCH_MAX.saturating_sub(self.lines.len());
        self.dropped += other.dropped + other.lines.len().saturating_sub(room) as u64;
        other.lines.truncate(room);
        self.lines.append(&mut other.lines);
    }
}

/// Lines that one transform may still write in this second, all partitions together.
#[derive(Debug)]
pub(crate) struct LogQuota {
    second: Mutex<(Instant, u32)>,
}

impl LogQuota {
    pub(crate) fn new() -> Self {
        LogQuota { second: Mutex::new((Instant::now(), 0)) }
    }

    fn take(&self) -> bool {
        let Ok(mut second) = self.second.lock() else {
            return false;
        };
        let now = Instant::now();
        if now.duration_since(second.0) >= Duration::from_secs(1) {
            *second = (now, 0);
        }
        second.1 += 1;
        second.1 <= caps::TRANSFORM_LOG_LINES_PER_SECOND_MAX
    }
}

/// Text of a guest made fit for a terminal and a header: one line, cut to a length.
pub(crate) fn printable(text: &[u8], bytes_max: usize) -> String {
    let cut = text.get(..bytes_max).unwrap_or(text);
    let mut line: String = String::from_utf8_lossy(cut)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.len() > bytes_max {
        // What the cut made of half a character.
        while line.ends_with(char::REPLACEMENT_CHARACTER) {
            line.pop();
        }
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_and_made_one_line() {
        assert_eq!(printable(b"a\nb\x1b[31m\xff", 100), "a b [31m\u{fffd}");
        assert_eq!(printable("\u{e9}\u{e9}".as_bytes(), 3), "\u{e9}...");
    }

    #[test]
    fn a_flood_is_counted_not_kept() {
        let quota = LogQuota::new();
        let mut logs = LogBuffer::default();
        for _ in 0..100_000 {
            logs.push(Level::Info, &[b'x'; 10_000], &quota);
        }
        assert!(logs.lines.len() <= caps::TRANSFORM_LOG_LINES_PER_BATCH_MAX);
        assert_eq!(logs.lines.len() as u64 + logs.dropped, 100_000);
        let longest = logs.lines.iter().map(|(_, text)| text.len()).max();
        assert!(longest <= Some(caps::TRANSFORM_LOG_LINE_BYTES_MAX + 3));
    }
}
