//! The newest log lines of each transform, in memory. Older ones go first; nothing is written to
//! flash.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// Wall clock, milliseconds since 1970.
    pub(crate) wall_ms: i64,
    /// The partition that it worked for.
    pub(crate) partition: i32,
    /// "error", "warn", "info" or "debug".
    pub(crate) level: String,
    /// What was said.
    pub(crate) text: String,
}

/// A bounded log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: VecDeque<LogLine>,
    lines_max: usize,
}

impl Log {
    pub(crate) fn new(lines_max: usize) -> Self {
        Self { lines: VecDeque::new(), lines_max }
    }

    pub(crate) fn push(&mut self, line: LogLine) {
        if self.lines_max == 0 {
            return;
        }
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The newest `count` lines, oldest first.
    pub(crate) fn newest(&self, count: usize) -> Vec<LogLine> {
        let skip = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skip).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay() {
        let mut log = Log::new(3);
        for wall_ms in 0..5 {
            log.push(LogLine { wall_ms, partition: 0, level: "info".into(), text: String::new() });
        }
        let times = |count| log.newest(count).iter().map(|l| l.wall_ms).collect::<Vec<_>>();
        assert_eq!(times(10), [2, 3, 4]);
        assert_eq!(times(1), [4]);
    }
}
