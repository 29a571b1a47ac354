//! The newest log lines of each transform, in memory. Older ones go first; nothing is written to
//! flash.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// Which start of the node it is of: numbers begin anew with each.
    #[serde(default)]
    pub(crate) start: String,
    /// Of the transform's lines since then, from 1: to ask for what follows.
    #[serde(default)]
    pub(crate) number: u64,
    /// Wall clock, milliseconds since 1970.
    pub(crate) wall_ms: i64,
    /// The partition that it worked for; -1: none.
    pub(crate) partition: i32,
    /// "error", "warn", "info" or "debug".
    pub(crate) level: String,
    /// What was said.
    pub(crate) text: String,
}

impl LogLine {
    /// What the node itself says of a transform; partition -1: of all of them.
    pub(crate) fn of_node(level: &str, partition: i32, text: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let (start, level) = (String::new(), level.to_owned());
        Self { start, number: 0, wall_ms, partition, level, text }
    }
}

/// A bounded log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: VecDeque<LogLine>,
    lines_max: usize,
    /// Of the node.
    start: String,
    /// Of the newest line.
    number: u64,
}

impl Log {
    pub(crate) fn new(lines_max: usize, start: &str) -> Self {
        Self { lines: VecDeque::new(), lines_max, start: start.to_owned(), number: 0 }
    }

    /// Gives the line its number and its start.
    pub(crate) fn push(&mut self, mut line: LogLine) {
        self.number += 1;
        line.number = self.number;
        line.start.clone_from(&self.start);
        if self.lines_max == 0 {
            return;
        }
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The newest `count` lines of those behind line number `after`, oldest first.
    pub(crate) fn newest(&self, count: usize, after: u64) -> Vec<LogLine> {
        let behind = self.lines.partition_point(|line| line.number <= after);
        let skip = behind.max(self.lines.len().saturating_sub(count));
        self.lines.iter().skip(skip).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay() {
        let mut log = Log::new(3, "first");
        for wall_ms in 0..5 {
            log.push(LogLine { wall_ms, ..LogLine::of_node("info", 0, String::new()) });
        }
        assert!(log.newest(9, 0).iter().all(|line| line.start == "first"));
        let times = |count, after| {
            log.newest(count, after).iter().map(|line| line.wall_ms).collect::<Vec<_>>()
        };
        assert_eq!(times(10, 0), [2, 3, 4]);
        assert_eq!(times(1, 0), [4]);
        assert_eq!(times(10, 4), [4], "what follows line 4");
        assert!(times(10, 5).is_empty());
    }
}
