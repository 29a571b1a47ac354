//! The rules of records: one value for ever, acknowledged ones where they were acknowledged, none
//! twice, in the order of real time, polls without gaps.

use super::event::{Event, History, Outcome, Place, What};
use super::{Findings, Rule};
use std::collections::{BTreeMap, HashMap};

pub(super) fn check(history: &History, findings: &mut Findings) {
    one_value(history, findings);
    stands(history, findings);
    twice(history, findings);
    order(history, findings);
    gaps(history, findings);
}

/// All that anybody was told of an offset, and what is there in the end, agree.
fn one_value(history: &History, findings: &mut Findings) {
    let mut known: HashMap<(&Place, i64), (&str, Option<&Event>)> = HashMap::new();
    for (place, log) in &history.logs {
        known.extend(log.all.iter().map(|(at, value)| ((place, *at), (value.as_str(), None))));
        for (at, value) in &log.committed {
            if log.all.get(at) != Some(value) {
                let what = format!("{place:?} at {at}: {value} counts and does not stand there");
                findings.add(Rule::OneValue, what, &[]);
            }
        }
    }
    let mut told = |place, at, value, event| {
        let (before, by) = *known.entry((place, at)).or_insert((value, Some(event)));
        if before != value {
            let what = format!("{place:?} at {at}: {before} and {value}");
            let both: Vec<&Event> = by.into_iter().chain([event]).collect();
            findings.add(Rule::OneValue, what, &both);
        }
    };
    for event in &history.events {
        match &event.what {
            What::Poll { place, records, .. } => {
                records.iter().for_each(|(at, value)| told(place, *at, value, event));
            }
            What::Send { place, value, offset: Some(at), outcome: Outcome::Ok, .. } => {
                told(place, *at, value, event);
            }
            _ => {}
        }
    }
}

fn stands(history: &History, findings: &mut Findings) {
    let mut counting: HashMap<&str, (&Place, i64)> = HashMap::new();
    for (place, log) in &history.logs {
        counting.extend(log.committed.iter().map(|(at, value)| (value.as_str(), (place, *at))));
    }
    for event in &history.events {
        match &event.what {
            What::Send { place, value, outcome: Outcome::Ok, offset: Some(at), .. } => {
                let found = history.logs.get(place).and_then(|log| log.all.get(at));
                if found.is_none() {
                    let what = format!("{place:?} at {at}: {value} was acknowledged and is lost");
                    findings.add(Rule::Stands, what, &[event]);
                }
            }
            What::Send { value, outcome: Outcome::Failed, .. } => {
                if let Some((place, at)) = counting.get(value.as_str()) {
                    let what = format!("{value} was refused and stands in {place:?} at {at}");
                    findings.add(Rule::Stands, what, &[event]);
                }
            }
            _ => {}
        }
    }
    let polled = history.events.iter().filter_map(|event| match &event.what {
        What::Poll { place, records, .. } => Some((event, place, records)),
        _ => None,
    });
    for (event, place, records) in polled {
        let log = history.logs.get(place);
        let gone = records.iter().find(|(at, _)| log.is_none_or(|log| !log.all.contains_key(at)));
        if let Some((at, value)) = gone {
            let what = format!("{place:?} at {at}: {value} was shown and is not there");
            findings.add(Rule::Stands, what, &[event]);
        }
    }
}

/// Values are like no other, so that one that stands twice is one that was written twice.
fn twice(history: &History, findings: &mut Findings) {
    let mut places: HashMap<&str, (&Place, i64)> = HashMap::new();
    for (place, log) in &history.logs {
        for (at, value) in &log.committed {
            if let Some((first, offset)) = places.insert(value, (place, *at)) {
                let what = format!("{value} stands in {first:?} at {offset}, in {place:?} at {at}");
                findings.add(Rule::Twice, what, &[]);
            }
        }
    }
}

/// From the end of the log backwards: who was sent last of those that stand behind?
fn order(history: &History, findings: &mut Findings) {
    let mut sends: BTreeMap<&Place, Vec<(i64, &Event)>> = BTreeMap::new();
    for event in &history.events {
        if let What::Send { place, outcome: Outcome::Ok, offset: Some(at), .. } = &event.what {
            sends.entry(place).or_default().push((*at, event));
        }
    }
    for (place, mut sends) in sends {
        sends.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut first_ended: Option<(i64, &Event)> = None;
        for (at, event) in sends {
            if let Some((behind, earlier)) = first_ended
                && earlier.end_ns < event.begin_ns
            {
                let what =
                    format!("{place:?}: what was sent later stands at {at}, not behind {behind}");
                findings.add(Rule::Order, what, &[earlier, event]);
            }
            if first_ended.is_none_or(|(_, earlier)| event.end_ns < earlier.end_ns) {
                first_ended = Some((at, event));
            }
        }
    }
}

fn gaps(history: &History, findings: &mut Findings) {
    for event in &history.events {
        let What::Poll { place, is_committed, from, next, records, .. } = &event.what else {
            continue;
        };
        let Some(log) = history.logs.get(place) else { continue };
        let view = if *is_committed { &log.committed } else { &log.all };
        let due = view.range(*from..(*next).max(*from));
        let given = records.iter().map(|(at, value)| (at, value));
        if !due.clone().eq(given) {
            let missing = due.clone().find(|(at, _)| records.iter().all(|(there, _)| there != *at));
            let strange = records.iter().find(|(at, _)| !view.contains_key(at));
            let what = format!(
                "{place:?} from {from} to {next}, committed {is_committed}: {} of {} records; \
                 missing {missing:?}, does not belong there {strange:?}",
                records.len(),
                due.count()
            );
            findings.add(Rule::Gap, what, &[event]);
        }
    }
}
