//! The same batches give the same bytes, whatever is thrown away between them; and what a guest
//! sees of its state is a map, whatever fails on the way.

mod common;

use bytes::Bytes;
use common::*;
use millpond_guests::HOSTILE_STATE;
use millpond_transform::{Chain, EngineKind, Input, OnFailure, Outcome, Report, StageChanges, run};
use millpond_wire::record::Batch;
use std::collections::BTreeMap;

#[path = "../src/numbers.rs"]
mod numbers;

use numbers::Numbers;

/// What one run is given: records, or idle time.
enum Step {
    Batch(Batch),
    Idle(u64),
}

/// State, timers, randomness, expiry, traps and failures in no order.
fn steps(seed: u64) -> Vec<Step> {
    let mut numbers = Numbers(seed);
    let mut now = 1_000;
    let mut steps = Vec::new();
    for _ in 0..30 {
        if numbers.below(6) == 0 {
            steps.push(Step::Idle(numbers.below(40)));
            continue;
        }
        let mut records = Vec::new();
        for _ in 0..1 + numbers.below(12) {
            now += numbers.below(5) as i64;
            records.push((now - numbers.below(20) as i64, commands(&mut numbers, now)));
        }
        steps.push(Step::Batch(batch_at(&records)));
    }
    steps
}

fn commands(numbers: &mut Numbers, now: i64) -> String {
    let mut lines = Vec::new();
    for _ in 0..1 + numbers.below(5) {
        let key = format!("k{}", numbers.below(8));
        let later = now + numbers.below(30) as i64;
        lines.push(match numbers.below(16) {
            0..=2 => format!("count {key}"),
            3 => format!("put {key} v{} {later}", numbers.below(100)),
            4 => format!("put {key} count_x;random;get_{key} 0"),
            5 => format!("put {key} count_y;trap 0"),
            6 => format!("del {key}"),
            7 => format!("range k{} * {}", numbers.below(8), numbers.below(200)),
            8 | 9 => format!("timer {later} {key}"),
            10 => format!("untimer {later} {key}"),
            11 => "random".to_string(),
            12 => "watermark\nused".to_string(),
            13 => "trap".to_string(),
            14 => "fail".to_string(),
            _ => format!("get {key}"),
        });
    }
    lines.join("\n")
}

async fn two_stages(engine: EngineKind) -> Chain {
    let first = deploy_on(engine, HOSTILE_STATE, |spec| spec.name = "first".into()).await;
    let second = deploy_on(engine, HOSTILE_STATE, |spec| {
        spec.name = "second".into();
        spec.on_failure = policy(OnFailure::Skip);
        spec.limits.watermark_delay_ms = 7;
    })
    .await;
    Chain::new(vec![first, second], TOPIC, 5).unwrap()
}

type Changelog = BTreeMap<usize, BTreeMap<Bytes, Bytes>>;

fn append(log: &mut Changelog, all: &[StageChanges]) {
    for StageChanges { stage, changes } in all {
        for change in changes {
            match change.value.clone() {
                Some(value) => log.entry(*stage).or_default().insert(change.key.clone(), value),
                None => log.entry(*stage).or_default().remove(&change.key),
            };
        }
    }
}

fn load(chain: &mut Chain, log: &Changelog) {
    for stage in chain.state_wanted() {
        chain.load_state(stage, log.get(&stage).cloned().unwrap_or_default()).unwrap();
    }
}

async fn step(chain: &mut Chain, step: &Step, input_count: &mut u64) -> Report {
    let input = match step {
        Step::Batch(batch) => {
            Input { batch: Some(batch), input_count: *input_count, ..Input::default() }
        }
        Step::Idle(ms) => {
            Input { input_count: *input_count, idle_ms: Some(*ms), ..Input::default() }
        }
    };
    if let Some(batch) = input.batch {
        *input_count += u64::from(batch.records_count());
    }
    run(chain, input).await
}

/// Every byte that would be stored.
fn stored(report: &Report) -> (Vec<Bytes>, Vec<StageChanges>) {
    let batches = match &report.outcome {
        Outcome::Changed { outputs } => {
            outputs.iter().map(|output| output.batch.raw().clone()).collect()
        }
        _ => Vec::new(),
    };
    (batches, report.state.clone())
}

#[tokio::test]
async fn instances_and_state_thrown_away_after_each_batch_change_no_byte() {
    let (mut timers, mut traps, mut expired, mut bytes) = (0, 0, 0, 0);
    for seed in 0..12 {
        let mut kept = two_stages(EngineKind::Native).await;
        let mut fresh = two_stages(EngineKind::Native).await;
        let mut other = two_stages(EngineKind::Interpreter).await;
        let mut log = Changelog::new();
        load(&mut kept, &log);
        load(&mut other, &log);
        let mut counts = [0; 3];
        for (number, given) in steps(seed).iter().enumerate() {
            fresh.discard_instances();
            fresh.forget_state();
            load(&mut fresh, &log);
            let first = step(&mut kept, given, &mut counts[0]).await;
            let second = step(&mut fresh, given, &mut counts[1]).await;
            let third = step(&mut other, given, &mut counts[2]).await;
            assert_eq!(stored(&first), stored(&second), "seed {seed}, step {number}");
            assert_eq!(stored(&first), stored(&third), "seed {seed}, step {number}: engines");
            append(&mut log, &first.state);
            bytes += stored(&first).0.iter().map(Bytes::len).sum::<usize>();
            for stage in &first.stages {
                timers += stage.timers;
                traps += stage.faults;
                expired += stage.expired;
            }
        }
        assert_eq!(kept.state_bytes(), fresh.state_bytes(), "seed {seed}");
    }
    assert!(
        timers > 100 && traps > 100 && expired > 20 && bytes > 10_000,
        "{timers} {traps} {expired}"
    );
}

/// Does what a record says to a plain map; gives its answers, `None` if it fails.
fn model(map: &mut BTreeMap<String, String>, commands: &str) -> Option<String> {
    let before = map.clone();
    let mut answers = Vec::new();
    for line in commands.lines() {
        let words: Vec<_> = line.split(' ').collect();
        match *words {
            ["put", key, value, _] => {
                map.insert(key.into(), value.into());
                answers.push("0".to_string());
            }
            ["get", key] => answers.push(map.get(key).map_or("-", String::as_str).to_string()),
            ["del", key] => answers.push(u8::from(map.remove(key).is_some()).to_string()),
            ["range", from, "*", _] => {
                let found = map.range(from.to_string()..);
                let bytes: usize = found.clone().map(|(k, v)| 8 + k.len() + v.len()).sum();
                let entries = found.map(|(key, value)| format!(",{key}={value}"));
                answers.push(format!("{bytes}{}", entries.collect::<String>()));
            }
            _ => {
                *map = before;
                return None;
            }
        }
    }
    Some(answers.join(" "))
}

#[tokio::test]
async fn what_guests_see_is_a_map_whatever_traps_between() {
    for seed in 0..30 {
        let mut numbers = Numbers(seed);
        let mut map = BTreeMap::new();
        let mut chain = chain(HOSTILE_STATE, |_| {}).await;
        chain.load_state(0, []).unwrap();
        for round in 0..12 {
            let mut records = Vec::new();
            let mut expected = Vec::new();
            let mut failed = 0;
            if numbers.below(2) == 0 {
                records.push("say blind".to_string());
                expected.push("blind".to_string());
            }
            for _ in 0..1 + numbers.below(30) {
                let mut lines = Vec::new();
                for _ in 0..1 + numbers.below(5) {
                    let key = format!("k{}", numbers.below(9));
                    lines.push(match numbers.below(21) {
                        0..=7 => format!("put {key} {} 0", numbers.below(1_000)),
                        8..=13 => format!("get {key}"),
                        14..=17 => format!("del {key}"),
                        18 | 19 => format!("range {key} * 4000"),
                        _ => "trap".to_string(),
                    });
                }
                let record = lines.join("\n");
                match model(&mut map, &record) {
                    Some(answers) => expected.push(answers),
                    None => failed += 1,
                }
                records.push(record);
            }
            let report = run_once(&mut chain, &batch(&records)).await;
            assert_eq!(values(&report.outcome), expected, "seed {seed}, round {round}");
            assert_eq!(report.stages[0].failed, failed, "seed {seed}, round {round}");
        }
    }
}
