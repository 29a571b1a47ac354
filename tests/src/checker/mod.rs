//! Judges what clients were told, all of them together, in time that grows with the history and no
//! faster: the broker hands out the order of records, hence nothing has to be searched. History in,
//! violations out; each names the events that contradict each other. Never talks to a broker.
//!
//! | rule | what must hold |
//! |---|---|
//! | `OneValue` | an offset has one value, for whoever reads it, for ever |
//! | `Stands` | an acknowledged record stands at its offset; one that was refused for good counts nowhere |
//! | `Twice` | no record counts twice |
//! | `Order` | a record that was acknowledged before another was sent stands before it |
//! | `Gap` | a poll brings all that counts between where it began and where it ended, and no more |
//! | `Aborted` | nobody who reads committed data is shown a record of a transaction that is not committed |
//! | `Torn` | a transaction counts as a whole or not at all, over all partitions |
//! | `Zombie` | an instance whose successor was told that it is one commits nothing |
//! | `Consumed` | what a group consumed in transactions was used once, no more and no less |
//! | `Back` | a committed offset never goes back, and is one that somebody committed |
//! | `Stale` | a member of an older generation commits nothing |
//! | `Owners` | a partition has one owner in a generation |
//! | `Skipped` | what lies below a group's committed offset was polled by one of its members |

pub mod event;
mod groups;
mod records;
#[cfg(test)]
mod stories;
mod transactions;

use event::{Event, History};
use std::fmt;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table above says what each is")]
pub enum Rule {
    OneValue,
    Stands,
    Twice,
    Order,
    Gap,
    Aborted,
    Torn,
    Zombie,
    Consumed,
    Back,
    Stale,
    Owners,
    Skipped,
}

/// A contradiction, and the events that it is made of.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// In a sentence.
    pub what: String,
    /// Who said what.
    pub events: Vec<Event>,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.rule, self.what)?;
        for event in &self.events {
            write!(out, "\n      {event:?}")?;
        }
        Ok(())
    }
}

/// Where violations are gathered.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, rule: Rule, what: String, events: &[&Event]) {
        let events = events.iter().map(|event| (*event).clone()).collect();
        self.0.push(Violation { rule, what, events });
    }
}

/// Everything that does not hold.
pub fn check(history: &History) -> Vec<Violation> {
    let mut findings = Findings::default();
    records::check(history, &mut findings);
    transactions::check(history, &mut findings);
    groups::check(history, &mut findings);
    findings.0
}
