//! A witness of what is committed: confluent-kafka with `read_committed`, in a process of its own,
//! which lives through whatever becomes of the broker. Never says what ought to be there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker::Broker;
use crate::clients::{home, require};
use crate::log::Log;

const END_TIME: Duration = Duration::from_secs(60);

/// A record that it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which topic.
    pub topic: String,
    /// Which partition.
    pub partition: i64,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its key, empty for none.
    pub key: String,
    /// Its value, empty for none.
    pub value: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
}

/// What it has seen, shared with the thread that reads it.
#[derive(Default)]
struct Notes {
    noted: Mutex<Noted>,
    more: Condvar,
}

#[derive(Default)]
struct Noted {
    seen: Vec<Seen>,
    /// It will not see more.
    ended: bool,
}

/// The witness, at work.
pub struct Witness {
    child: Child,
    notes: Arc<Notes>,
    troubles: Log,
}

impl Witness {
    /// Let it watch these topics, which must be there.
    #[track_caller]
    pub fn watch(broker: &Broker, topics: &[&str]) -> Witness {
        Witness::send(broker, "live", topics)
    }

    #[track_caller]
    fn send(broker: &Broker, until: &str, topics: &[&str]) -> Witness {
        let python = home().join(".venv/bin/python");
        require(python.is_file(), "the Python clients");
        let mut command = Command::new(python);
        command.arg(home().join("python/witness.py")).arg(broker.bootstrap()).arg(until);
        command.args(topics).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("the witness: {error}"),
        };
        let (notes, troubles) = (Arc::new(Notes::default()), Log::default());
        if let Some(pipe) = child.stderr.take() {
            troubles.follow(pipe);
        }
        if let Some(pipe) = child.stdout.take() {
            let notes = notes.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    notes.now().seen.extend(seen(&line));
                    notes.more.notify_all();
                }
                notes.now().ended = true;
                notes.more.notify_all();
            });
        }
        Witness { child, notes, troubles }
    }

    /// Everything that it saw, in its order.
    pub fn seen(&self) -> Vec<Seen> {
        self.notes.now().seen.clone()
    }

    /// How much it saw.
    pub fn count(&self) -> usize {
        self.notes.now().seen.len()
    }

    /// Wait until this holds; an error says how far it came. It must not have ended.
    #[track_caller]
    pub fn wait_until(
        &mut self,
        patience: Duration,
        holds: impl Fn(&[Seen]) -> bool,
    ) -> Result<(), String> {
        let waited = self.wait(patience, |noted| noted.ended || holds(&noted.seen));
        assert!(!self.notes.now().ended, "the witness ended: {}", self.troubles.tail(20));
        waited
    }

    fn wait(&mut self, patience: Duration, holds: impl Fn(&Noted) -> bool) -> Result<(), String> {
        let give_up = Instant::now() + patience;
        let mut noted = self.notes.now();
        while !holds(&noted) {
            let Some(left) = give_up.checked_duration_since(Instant::now()) else {
                let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
                noted.seen.iter().for_each(|one| *counts.entry(&one.topic).or_default() += 1);
                let troubles = self.troubles.tail(20);
                return Err(format!("after {patience:?} seen: {counts:?} {troubles}"));
            };
            noted = match self.notes.more.wait_timeout(noted, left) {
                Ok((noted, _)) => noted,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(())
    }
}

impl Notes {
    fn now(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a witness who comes at the end sees of these topics: everything from their start.
#[track_caller]
pub fn look(broker: &Broker, topics: &[&str]) -> Vec<Seen> {
    let mut witness = Witness::send(broker, "end", topics);
    let ended = witness.wait(END_TIME, |noted| noted.ended);
    ended.unwrap_or_else(|error| panic!("the witness did not come to the end: {error}"));
    let status = witness.child.wait();
    let well = status.as_ref().is_ok_and(std::process::ExitStatus::success);
    assert!(well, "the witness: {status:?} {}", witness.troubles.tail(20));
    witness.seen()
}

fn seen(line: &str) -> Option<Seen> {
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers = line.get(6)?.as_array()?.iter();
    Some(Seen {
        topic: text(line.get(0)?),
        partition: line.get(1)?.as_i64()?,
        offset: line.get(2)?.as_i64()?,
        timestamp_ms: line.get(3)?.as_i64()?,
        key: text(line.get(4)?),
        value: text(line.get(5)?),
        headers: headers
            .filter_map(|pair| Some((text(pair.get(0)?), text(pair.get(1)?))))
            .collect(),
    })
}
