//! What clients did and were told, as events: begun, ended, with an outcome of which the client may
//! not know (Jepsen's ok, fail and info). Clients in other languages write them as JSON lines. Never
//! judges anything.
//!
//! ```text
//! {"client": "..", "begin": ns, "end": ns, "op": ..}     times by the wall clock of one machine
//! op      further keys
//! send    topic partition value outcome [offset] [txn] [source: {group topic partition offset}]
//! poll    topic partition committed from next records: [[offset, value]..] [group]
//! init    id instance
//! endtxn  id instance txn commit outcome
//! commit  group topic partition offset outcome [member generation]
//! fetched group topic partition offset                   what OffsetFetch gave, -1: none
//! own     group generation member partitions: [[topic, partition]..]
//! ```

use serde_json::Value;
use std::collections::BTreeMap;

/// A topic's partition.
pub type Place = (String, i32);

/// What became of an operation, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was not done, and never will be.
    Failed,
    /// It may be done, or not, or later.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub client: String,
    /// When it was begun, nanoseconds since 1970.
    pub begin_ns: u64,
    /// When its client knew the outcome, or gave up.
    pub end_ns: u64,
    /// What it was.
    pub what: What,
}

/// The record that another one was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// For which group it was consumed.
    pub group: String,
    /// Where it stands.
    pub place: Place,
    /// At which offset.
    pub offset: i64,
}

/// What an operation was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the table above")]
pub enum What {
    /// A record was sent; its value is like no other.
    Send {
        place: Place,
        value: String,
        outcome: Outcome,
        offset: Option<i64>,
        txn: Option<String>,
        source: Option<Source>,
    },
    /// A reader that stood at `from` was given these records, and stands at `next`.
    Poll {
        place: Place,
        is_committed: bool,
        from: i64,
        next: i64,
        records: Vec<(i64, String)>,
        group: Option<String>,
    },
    /// A new instance of a transactional producer; those of one id are counted upwards.
    Init { id: String, instance: u64 },
    /// The end of a transaction was asked for.
    EndTxn { id: String, instance: u64, txn: String, is_commit: bool, outcome: Outcome },
    /// An offset was to be committed, by a member of a generation or by nobody's.
    Commit { group: String, place: Place, offset: i64, by: Option<(String, i32)>, outcome: Outcome },
    /// A committed offset was asked for.
    Fetched { group: String, place: Place, offset: i64 },
    /// A member was told what it owns.
    Own { group: String, generation: i32, member: String, places: Vec<Place> },
}

/// What stands in a partition at the end, by offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Every record.
    pub all: BTreeMap<i64, String>,
    /// What counts for who reads committed data.
    pub committed: BTreeMap<i64, String>,
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In any order.
    pub events: Vec<Event>,
    /// What is left.
    pub logs: BTreeMap<Place, Log>,
}

impl History {
    /// Adds the events of a client that wrote them as JSON lines; a last line that is cut off is
    /// left out, for its writer may have been killed.
    ///
    /// # Errors
    /// The line that is none, and why.
    pub fn add_lines(&mut self, text: &str) -> Result<usize, String> {
        let mut count = 0;
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let event = Event::of_line(line).map_err(|what| format!("{what}: {line}"))?;
            self.events.push(event);
            count += 1;
        }
        Ok(count)
    }
}

impl Event {
    fn of_line(line: &str) -> Result<Event, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let fields = Fields(&value);
        Ok(Event {
            client: fields.text("client")?,
            begin_ns: fields.number("begin")? as u64,
            end_ns: fields.number("end")? as u64,
            what: fields.what()?,
        })
    }
}

struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn text(&self, name: &str) -> Result<String, String> {
        let text = self.0[name].as_str().map(str::to_owned);
        text.ok_or_else(|| format!("no text {name}"))
    }

    fn number(&self, name: &str) -> Result<i64, String> {
        self.0[name].as_i64().ok_or_else(|| format!("no number {name}"))
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        self.0[name].as_bool().ok_or_else(|| format!("no flag {name}"))
    }

    fn place(&self) -> Result<Place, String> {
        Ok((self.text("topic")?, self.number("partition")? as i32))
    }

    fn outcome(&self) -> Result<Outcome, String> {
        match self.text("outcome")?.as_str() {
            "ok" => Ok(Outcome::Ok),
            "failed" => Ok(Outcome::Failed),
            "unknown" => Ok(Outcome::Unknown),
            other => Err(format!("no outcome {other}")),
        }
    }

    fn what(&self) -> Result<What, String> {
        Ok(match self.text("op")?.as_str() {
            "send" => What::Send {
                place: self.place()?,
                value: self.text("value")?,
                outcome: self.outcome()?,
                offset: self.number("offset").ok(),
                txn: self.text("txn").ok(),
                source: self.source()?,
            },
            "poll" => What::Poll {
                place: self.place()?,
                is_committed: self.flag("committed")?,
                from: self.number("from")?,
                next: self.number("next")?,
                records: self.records()?,
                group: self.text("group").ok(),
            },
            "init" => {
                What::Init { id: self.text("id")?, instance: self.number("instance")? as u64 }
            }
            "endtxn" => What::EndTxn {
                id: self.text("id")?,
                instance: self.number("instance")? as u64,
                txn: self.text("txn")?,
                is_commit: self.flag("commit")?,
                outcome: self.outcome()?,
            },
            "commit" => What::Commit {
                group: self.text("group")?,
                place: self.place()?,
                offset: self.number("offset")?,
                by: self.text("member").ok().zip(self.number("generation").ok().map(|n| n as i32)),
                outcome: self.outcome()?,
            },
            "fetched" => What::Fetched {
                group: self.text("group")?,
                place: self.place()?,
                offset: self.number("offset")?,
            },
            "own" => What::Own {
                group: self.text("group")?,
                generation: self.number("generation")? as i32,
                member: self.text("member")?,
                places: self.places()?,
            },
            other => return Err(format!("no operation {other}")),
        })
    }

    fn source(&self) -> Result<Option<Source>, String> {
        let value = &self.0["source"];
        if value.is_null() {
            return Ok(None);
        }
        let fields = Fields(value);
        let (group, offset) = (fields.text("group")?, fields.number("offset")?);
        Ok(Some(Source { group, place: fields.place()?, offset }))
    }

    fn records(&self) -> Result<Vec<(i64, String)>, String> {
        let records = self.0["records"].as_array().ok_or("no records")?;
        let record = |pair: &Value| Some((pair[0].as_i64()?, pair[1].as_str()?.to_owned()));
        records.iter().map(|pair| record(pair).ok_or_else(|| "a bad record".to_owned())).collect()
    }

    fn places(&self) -> Result<Vec<Place>, String> {
        let places = self.0["partitions"].as_array().ok_or("no partitions")?;
        let place = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_i64()? as i32));
        places.iter().map(|pair| place(pair).ok_or_else(|| "a bad place".to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_become_events_and_a_cut_line_is_left_out() {
        let text = concat!(
            r#"{"client":"c","begin":1,"end":2,"op":"send","topic":"t","partition":0,"#,
            r#""value":"v","outcome":"ok","offset":7}"#,
            "\n",
            r#"{"client":"c","begin":3,"end":4,"op":"own","group":"g","generation":2,"#,
            r#""member":"m","partitions":[["t",0]]}"#,
            "\n",
            r#"{"client":"c","beg"#
        );
        let mut history = History::default();
        assert_eq!(history.add_lines(text), Ok(2));
        let What::Send { value, offset, txn, .. } = &history.events[0].what else {
            panic!("{history:?}")
        };
        assert_eq!((value.as_str(), *offset, txn), ("v", Some(7), &None));
        assert!(history.add_lines("{}\n").is_err());
    }
}
