//! Limits that change while a chain lives, and what its runs are counted with.

mod common;

use common::*;
use millpond_guests::{HOSTILE_LOOP, HOSTILE_MEMORY, HOSTILE_STATE, ROUTE, SPLIT};
use millpond_transform::{Chain, DeployError, FailureReason, Outcome, StageTotals};

#[tokio::test]
async fn limits_are_replaced_between_two_batches_without_compiling() {
    let transform = deploy(HOSTILE_STATE, |_| {}).await;
    let mut chain = Chain::new(vec![transform.clone()], TOPIC, 0).unwrap();
    chain.load_state(0, []).unwrap();
    let ask = batch(&["fill k 5000"]);
    assert_eq!(values(&run_once(&mut chain, &ask).await.outcome), ["0"]);
    let mut limits = transform.limits();
    limits.state_bytes = 1_000;
    transform.set_limits(limits).unwrap();
    // What is there stays, and may be made smaller.
    assert_eq!(
        values(&run_once(&mut chain, &batch(&["fill j 10\nfill k 4000"])).await.outcome),
        ["1 0"]
    );
    let report = run_once(&mut chain, &batch(&["fill k 10\nfill j 10"])).await;
    assert_eq!(values(&report.outcome), ["0 0"]);
    assert_eq!(report.stages[0].instances_started, 0, "the instance goes on");
}

#[tokio::test]
async fn a_memory_limit_is_replaced_for_live_instances() {
    let transform = deploy(HOSTILE_MEMORY, |spec| spec.limits.memory_bytes = 4 << 20).await;
    let mut chain = Chain::new(vec![transform.clone()], TOPIC, 0).unwrap();
    run_once(&mut chain, &batch(&["fine"])).await;
    let mut limits = transform.limits();
    limits.memory_bytes = 6 << 20;
    transform.set_limits(limits).unwrap();
    let report = run_once(&mut chain, &batch(&["memory"])).await;
    let letters = sent_to(&report.outcome, "readings.dead-letter");
    let error = letters[0].header("millpond.error").unwrap();
    assert_eq!(error, "out of memory: the limit is 6291456 bytes");
}

#[tokio::test]
async fn a_cpu_limit_is_replaced() {
    let transform = deploy(HOSTILE_LOOP, |spec| spec.limits.cpu_ms_per_batch = 5_000).await;
    let mut chain = Chain::new(vec![transform.clone()], TOPIC, 0).unwrap();
    let mut limits = transform.limits();
    limits.cpu_ms_per_batch = 7;
    transform.set_limits(limits).unwrap();
    let report = run_once(&mut chain, &batch(&["loop"])).await;
    let letters = sent_to(&report.outcome, "readings.dead-letter");
    assert_eq!(letters[0].header("millpond.error"), Some("stopped after 7 ms of CPU time"));
}

#[tokio::test]
async fn limits_that_cannot_be_kept_are_refused_and_change_nothing() {
    let wasm = wat::parse_str(
        "(module (memory (export \"memory\") 64)
           (func (export \"millpond_alloc\") (param i32) (result i32) (i32.const 1024))
           (func (export \"millpond_transform_v1\") (param i32 i32) (result i64) (i64.const 0)))",
    )
    .unwrap();
    let transform = deploy(&wasm, |_| {}).await;
    let before = transform.limits();
    for (name, value) in [
        ("memory_bytes", 1),
        ("memory_bytes", u64::MAX),
        ("cpu_ms_per_batch", 0),
        ("output_ratio", 0),
        ("state_bytes", u64::MAX),
        ("watermark_delay_ms", u64::MAX),
        ("idle_timeout_ms", u64::MAX),
        ("watermark_ahead_ms_max", u64::MAX),
    ] {
        let mut limits = before;
        assert!(limits.set(name, value), "{name}");
        let refused = transform.set_limits(limits).unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
    }
    let mut limits = before;
    assert!(limits.set("memory_bytes", 3 << 20) && !limits.set("memory", 1));
    let refused = transform.set_limits(limits).unwrap_err();
    assert!(matches!(refused, DeployError::Memory { .. }), "{refused}");
    assert_eq!(transform.limits(), before);
}

#[tokio::test]
async fn a_run_counts_bytes_routes_and_replacements() {
    let cases = [("field", "kind"), ("cases", "alarm=alarms")];
    let split = deploy(SPLIT, |spec| spec.name = "split".into()).await;
    let route = deploy(ROUTE, |spec| {
        set(spec, &cases);
        spec.outputs.push("alarms".to_string());
    })
    .await;
    let mut chain = Chain::new(vec![split, route], TOPIC, 0).unwrap();
    let (alarm, other) = (r#"{"kind":"alarm"}"#, r#"{"kind":"other"}"#);
    let came = batch_at(&[(0, format!("{alarm}\n{other}")), (0, other.to_string())]);
    let report = run_once(&mut chain, &came).await;
    let [split, route] = &report.stages[..] else { panic!() };
    // Keys of one byte: "0" and "1".
    let payload = |records: &[&str]| records.iter().map(|text| text.len() as u64 + 1).sum::<u64>();
    assert_eq!(split.bytes_in, payload(&[alarm, other, other]));
    assert_eq!(split.bytes_out, payload(&[alarm, other, other]));
    assert_eq!((split.replaced, split.emitted, split.routed), (1, 2, 0));
    assert_eq!((route.bytes_in, route.bytes_out), (split.bytes_out, split.bytes_out));
    assert_eq!((route.kept, route.routed), (2, 1));
    assert!(split.memory_bytes >= 64 << 10);
    assert_eq!(split.memory_bytes + route.memory_bytes, chain.memory_bytes() as u64);
}

#[tokio::test]
async fn failures_are_counted_by_their_reasons() {
    let mut chain = chain(HOSTILE_STATE, |_| {}).await;
    chain.load_state(0, []).unwrap();
    let mut totals = StageTotals::default();
    for _ in 0..2 {
        let came = batch(&["trap", "fail", "far get-key", "count n"]);
        totals.add(&run_once(&mut chain, &came).await.stages[0]);
    }
    let of = |reason| totals.stats.failures.of(reason);
    assert_eq!(of(FailureReason::Trap), 2);
    assert_eq!(of(FailureReason::Verdict), 2);
    assert_eq!(of(FailureReason::Lie), 2);
    assert_eq!((totals.stats.failed, totals.stats.records_in, totals.runs), (6, 8, 2));
    assert_eq!(totals.latency.count(), 2);
    assert!(totals.stats.instances_restarted >= 4);
    assert_eq!(totals.stats.state_bytes as usize, chain.state_bytes());
    assert!(totals.stats.state_changes >= 2);
    let untouched = run_once(&mut chain, &batch(&["none"])).await;
    assert_ne!(untouched.outcome, Outcome::Untouched, "a record without an answer is dropped");
}
