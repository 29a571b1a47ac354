//! What a child process printed: kept, waited on, shown when a test fails. Bounded: the oldest
//! lines go first.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LINES_MAX: usize = 5_000;

/// A growing log, shared with the threads that read the child's pipes.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    /// How many lines were ever read.
    total: usize,
}

impl Log {
    /// Follow a pipe in a thread of its own until it closes.
    pub fn follow(&self, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                log.push(without_colour(String::from_utf8_lossy(&line).trim_end()));
                line.clear();
            }
        })
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&self, line: String) {
        let mut lines = self.lines();
        if lines.kept.len() == LINES_MAX {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line);
        lines.total += 1;
        self.0.1.notify_all();
    }

    /// Everything that is kept, as one text.
    pub fn text(&self) -> String {
        let lines = self.lines();
        lines.kept.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// The last lines, for a failure's report.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        let skip = lines.kept.len().saturating_sub(count);
        let tail: Vec<_> = lines.kept.iter().skip(skip).map(|line| line.as_str()).collect();
        tail.join("\n")
    }

    /// Wait for a line that contains `needle`; the line, or None when the time is over.
    pub fn wait_for(&self, needle: &str, patience: Duration) -> Option<String> {
        self.wait_until(patience, |line| line.contains(needle).then(|| line.to_owned()))
    }

    /// Wait for a line that `find` finds something in; what it found, or None when the time is
    /// over. A pipe is read a little after it was written, so a log is awaited, never just looked
    /// at.
    pub fn wait_until<T>(&self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let give_up = Instant::now() + patience;
        let mut lines = self.lines();
        loop {
            if let Some(found) = lines.kept.iter().find_map(|line| find(line)) {
                return Some(found);
            }
            let left = give_up.checked_duration_since(Instant::now())?;
            lines = self.wait(lines, left);
        }
    }

    /// Wait until anything is printed, but not longer than `at_most`.
    pub fn wait_for_news(&self, at_most: Duration) {
        let lines = self.lines();
        drop(self.wait(lines, at_most));
    }

    fn wait<'a>(&self, lines: MutexGuard<'a, Lines>, at_most: Duration) -> MutexGuard<'a, Lines> {
        match self.0.1.wait_timeout(lines, at_most) {
            Ok((lines, _)) => lines,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}

/// A line without terminal colours.
fn without_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_awaited_and_colours_are_gone() {
        let log = Log::default();
        let reader =
            log.follow(std::io::Cursor::new(b"one\n\x1b[32m INFO\x1b[0m ready\n".to_vec()));
        assert_eq!(log.wait_for("ready", Duration::from_secs(5)).as_deref(), Some(" INFO ready"));
        assert_eq!(log.wait_for("absent", Duration::from_millis(1)), None);
        reader.join().unwrap();
        assert_eq!(log.tail(1), " INFO ready");
    }
}
