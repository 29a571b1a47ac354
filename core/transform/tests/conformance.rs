//! Our host keeps `wasm-sdk/SPEC.md`: the module `conformance` must say so of each rule that is
//! marked there, and what only the host's side can see is looked at here.

mod common;

use common::*;
use millpond_guests::CONFORMANCE;
use millpond_transform::{Chain, EngineKind, Input, OnFailure, Outcome, Report, run};
use millpond_wire::record::{Batch, BatchBuilder, Codec, Header};
use std::collections::{BTreeMap, BTreeSet};

const DELAY_MS: i64 = 7;
const STATE_BYTES: usize = 64 * 1024;

/// The rules that the specification marks.
fn marked_rules() -> BTreeSet<String> {
    let text = include_str!("../../../wasm-sdk/SPEC.md");
    let rule = |line: &str| {
        let rest = line.strip_prefix("- **")?;
        let (rule, rest) = rest.split_once("** ")?;
        rest.starts_with("**[c]**").then(|| rule.to_string())
    };
    text.lines().filter_map(rule).collect()
}

/// A partition of the module, and what it has said so far.
struct Subject {
    chain: Chain,
    sent: u64,
    said: BTreeMap<String, Vec<String>>,
}

impl Subject {
    async fn new(engine: EngineKind) -> Self {
        let chain = chain_on(engine, CONFORMANCE, |spec| {
            let delay = DELAY_MS.to_string();
            let settings =
                [("five", "value"), ("topic", TOPIC), ("partition", "3"), ("delay_ms", &delay)];
            set(spec, &settings);
            spec.outputs = vec!["elsewhere".to_string()];
            spec.on_failure = policy(OnFailure::DeadLetter);
            spec.limits.watermark_delay_ms = DELAY_MS as u64;
            spec.limits.state_bytes = STATE_BYTES;
        });
        let mut chain = chain.await;
        for stage in chain.state_wanted() {
            chain.load_state(stage, []).expect("an empty state loads");
        }
        Subject { chain, sent: 0, said: BTreeMap::new() }
    }

    /// Runs a batch and takes what the module says of rules out of what came out.
    async fn run(&mut self, records: &[Asked<'_>]) -> (Vec<Record>, Report) {
        let batch = batch_asking(records);
        let input = Input { batch: Some(&batch), input_count: self.sent, ..Input::default() };
        let report = run(&mut self.chain, input).await;
        self.sent += records.len() as u64;
        let Outcome::Changed { .. } = &report.outcome else { panic!("{:?}", report.outcome) };
        let mut rest = Vec::new();
        for record in came_out(&report.outcome) {
            match record.value.as_deref().and_then(|value| value.split_once(' ')) {
                Some((rule, verdict)) if record.key.is_none() && record.topic.is_none() => {
                    self.said.entry(rule.to_string()).or_default().push(verdict.to_string());
                }
                _ => rest.push(record),
            }
        }
        (rest, report)
    }

    async fn ask(&mut self, at_ms: i64, command: &str) -> Vec<Record> {
        self.run(&[Asked { at_ms, command, key: None, value: Some("") }]).await.0
    }

    /// Notes a rule that only the host's side can see.
    fn seen(&mut self, rule: &str) {
        self.said.entry(rule.to_string()).or_default().push("ok".to_string());
    }
}

/// A record for the module, as its `script.rs` says.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    at_ms: i64,
    command: &'a str,
    key: Option<&'a str>,
    value: Option<&'a str>,
}

fn batch_asking(records: &[Asked<'_>]) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None, None);
    for asked in records {
        let (key, value) = (asked.key.map(str::as_bytes), asked.value.map(str::as_bytes));
        let headers = [
            Header { key: b"do", value: Some(asked.command.as_bytes()) },
            Header { key: b"key", value: key },
            Header { key: b"val", value },
            Header { key: b"n", value: Some(b"1") },
            Header { key: b"n", value: Some(b"") },
        ];
        builder.push(asked.at_ms, key, value, &headers).expect("the record fits");
    }
    Batch::parse(builder.build().expect("a batch")).expect("the batch parses")
}

fn letter(records: &[Record]) -> &str {
    let letter = records.iter().find(|record| record.topic.is_some()).expect("a dead letter");
    letter.header("millpond.error").expect("why")
}

/// What the module can see of calls, records and functions.
async fn sections_2_to_5(subject: &mut Subject) {
    let look = |at_ms, key, value| Asked { at_ms, command: "look", key, value };
    let mixed = [
        look(1_000, None, None),
        look(1_003, Some(""), Some("")),
        look(990, Some("k"), Some("\u{1f600} \0 text")),
    ];
    subject.run(&mixed).await;
    // Back in time: the watermark stays.
    subject.ask(5, "look").await;
    let ask = |command| Asked { at_ms: 900, command, key: None, value: None };
    let (_, report) = subject.run(&[ask("settings"), ask("helpers")]).await;
    let logged = report.logs.iter().any(|line| line.text == "a line of the conformance module");
    assert!(logged, "{:?}", report.logs);
    subject.seen("F3");
}

/// What becomes of verdicts and emitted records.
async fn section_4(subject: &mut Subject) {
    let asked = |command, value| Asked { at_ms: 901, command, key: Some("k"), value: Some(value) };
    let batch =
        [asked("look", "dropped"), asked("emit", "kept"), asked("fail", "bad"), asked("emit", "2")];
    let (records, report) = subject.run(&batch).await;
    let shape: Vec<_> = records
        .iter()
        .filter(|record| record.topic.is_none())
        .map(|r| (r.timestamp, r.key.as_deref(), r.value.as_deref(), r.headers.len()))
        .collect();
    let made =
        [(-1, None, None, 0), (0, Some(""), Some(""), 0), (77, Some("key"), Some("made"), 3)];
    let own = |value| (901, Some("k"), Some(value), 5);
    let expected = [&[own("kept")][..], &made, &[own("2")], &made].concat();
    assert_eq!(shape, expected);
    let headers = &records.iter().find(|r| r.timestamp == 77).expect("it was made").headers;
    let text = |value: &str| Some(value.to_string());
    let expected = [("h", text("1")), ("h", None), ("", text(""))];
    assert_eq!(*headers, expected.map(|(name, value)| (name.to_string(), value)));
    assert_eq!(letter(&records), "as asked");
    assert_eq!((report.stages[0].kept, report.stages[0].dropped), (2, 1));
    for rule in ["O2", "O3", "O4"] {
        subject.seen(rule);
    }
    let (records, _) = subject.run(&[asked("send", "elsewhere"), asked("send", "secret")]).await;
    assert_eq!(records.iter().filter(|r| r.topic.as_deref() == Some("elsewhere")).count(), 1);
    let refused = records.iter().find(|r| r.topic.as_deref() != Some("elsewhere"));
    let refused = refused.expect("a dead letter").header("millpond.error");
    assert_eq!(refused, Some("sent to `secret`, which is not among the outputs"));
    subject.seen("O5");
}

async fn section_6(subject: &mut Subject) {
    subject.ask(902, "state").await;
    subject.ask(903, "failed").await;
    let letters = subject.ask(904, "abort").await;
    assert!(letter(&letters).contains("stopped here"), "{letters:?}");
    subject.seen("F4");
    subject.ask(905, "aborted").await;
    subject.ask(2_000, "expire").await;
    for at_ms in [2_049, 2_050, 2_051] {
        subject.ask(at_ms, "expired").await;
    }
    for step in ["size1", "size2", "size3", "size3"] {
        subject.ask(2_060, step).await;
    }
}

/// Timers are set for 5 and 10 ms beyond the watermark that their record's time makes.
async fn section_7(subject: &mut Subject) {
    subject.ask(3_000, "timers").await;
    for (at_ms, timers) in [(3_004, 0), (3_005, 1), (3_009, 0), (3_010, 3)] {
        let look = Asked { at_ms, command: "look", key: None, value: None };
        let (_, report) = subject.run(&[look]).await;
        assert_eq!(report.stages[0].timers, timers, "at {at_ms}");
    }
    subject.ask(3_011, "fired").await;
}

async fn run_all(engine: EngineKind) {
    let mut subject = Subject::new(engine).await;
    sections_2_to_5(&mut subject).await;
    section_4(&mut subject).await;
    section_6(&mut subject).await;
    section_7(&mut subject).await;
    let broken: Vec<_> = subject
        .said
        .iter()
        .flat_map(|(rule, said)| said.iter().map(move |verdict| (rule, verdict)))
        .filter(|(_, verdict)| *verdict != "ok")
        .collect();
    assert!(broken.is_empty(), "{engine:?}: {broken:#?}");
    let said: BTreeSet<String> = subject.said.into_keys().collect();
    assert_eq!(said, marked_rules(), "{engine:?}: what was said, and what the text marks");
}

#[tokio::test]
async fn compiled_code_keeps_every_rule_that_the_specification_marks() {
    run_all(EngineKind::Native).await;
}

#[tokio::test]
async fn the_interpreter_keeps_every_rule_that_the_specification_marks() {
    run_all(EngineKind::Interpreter).await;
}

#[test]
fn the_specification_marks_rules_of_every_kind() {
    let marked = marked_rules();
    assert!(marked.len() > 35, "{marked:?}");
    for first in "CIOFST".chars() {
        assert!(marked.iter().any(|rule| rule.starts_with(first)), "{first}");
    }
}
