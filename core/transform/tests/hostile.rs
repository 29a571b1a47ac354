//! Modules that loop, trap, exhaust memory, lie and flood: only their own record pays.

mod common;

use common::*;
use millpond_guests::{
    HOSTILE_LIES, HOSTILE_LOG, HOSTILE_LOOP, HOSTILE_MEMORY, HOSTILE_TRAP, THRESHOLD,
};
use millpond_transform::{FailurePolicy, FailureReason, OnFailure, Outcome};
use millpond_wire::ErrorCode;
use millpond_wire::limits as caps;
use std::time::Duration;

const LETTERS: &str = "readings.dead-letter";

/// 40 good records with bad ones at three places, the ends among them.
fn with_bad(bad: &str) -> Vec<String> {
    let mut values: Vec<_> = (0..40).map(|index| format!("good {index}")).collect();
    for place in [0, 17, 39] {
        values[place] = format!("{bad} {place}");
    }
    values
}

fn good() -> Vec<String> {
    with_bad("bad").into_iter().filter(|value| value.starts_with("good")).collect()
}

/// Runs a hostile module under each policy and checks that only the bad records are touched.
async fn each_policy(wasm: &[u8], bad: &str, cpu_ms: u64, error: &str) {
    let came = batch(&with_bad(bad));
    for then in [OnFailure::DeadLetter, OnFailure::Skip, OnFailure::Pass] {
        let mut chain = chain(wasm, |spec| {
            spec.on_failure = policy(then);
            spec.limits.cpu_ms_per_batch = cpu_ms;
        })
        .await;
        let report = run_once(&mut chain, &came).await;
        let stats = &report.stages[0];
        assert_eq!((stats.kept, stats.failed), (37, 3), "{then:?} {bad}: {stats:?}");
        match then {
            OnFailure::DeadLetter => {
                assert_eq!(values(&report.outcome), good());
                let letters = sent_to(&report.outcome, LETTERS);
                let bad_ones: Vec<_> = letters.iter().filter_map(|r| r.value.clone()).collect();
                assert_eq!(bad_ones, [0, 17, 39].map(|place| format!("{bad} {place}")));
                for letter in &letters {
                    let found = letter.header("millpond.error").unwrap();
                    assert!(found.contains(error), "{found} is not {error}");
                }
            }
            OnFailure::Skip => assert_eq!(values(&report.outcome), good()),
            OnFailure::Pass => assert_eq!(report.outcome, Outcome::Untouched),
            OnFailure::Reject => unreachable!(),
        }
    }
    let mut chain = chain(wasm, |spec| {
        spec.on_failure = policy(OnFailure::Reject);
        spec.limits.cpu_ms_per_batch = cpu_ms;
    })
    .await;
    let report = run_once(&mut chain, &came).await;
    let Outcome::Rejected { code, message } = report.outcome else { panic!("{report:?}") };
    assert_eq!(code, ErrorCode::InvalidRecord);
    assert!(message.contains(error), "{message}");
    // And the chain still works.
    let report = run_once(&mut chain, &batch(&good())).await;
    assert_eq!(report.outcome, Outcome::Untouched);
}

#[tokio::test]
async fn a_trap_costs_its_own_record_only() {
    each_policy(HOSTILE_TRAP, "trap", 400, "unreachable").await;
}

#[tokio::test]
async fn a_panic_brings_its_message() {
    each_policy(HOSTILE_TRAP, "panic", 400, "told to").await;
}

#[tokio::test]
async fn an_endless_recursion_costs_its_own_record_only() {
    each_policy(HOSTILE_TRAP, "stack", 400, "stack").await;
}

#[tokio::test]
async fn a_failure_in_order_costs_its_own_record_only() {
    each_policy(HOSTILE_TRAP, "fail", 400, "told to fail").await;
}

#[tokio::test]
async fn a_loop_costs_its_own_record_only() {
    each_policy(HOSTILE_LOOP, "loop", 40, "CPU time").await;
}

#[tokio::test]
async fn a_memory_hog_costs_its_own_record_only() {
    each_policy(HOSTILE_MEMORY, "memory", 4_000, "out of memory").await;
}

const LIES: [&str; 26] = [
    "output-pointer",
    "output-length",
    "output-short",
    "output-null",
    "magic",
    "header-length",
    "verdicts-more",
    "verdicts-none",
    "verdicts-huge",
    "verdicts-pointer",
    "verdicts-overlap",
    "verdict-kind",
    "verdict-emits",
    "verdict-emits-huge",
    "message-pointer",
    "message-huge",
    "emits-huge",
    "emits-pointer",
    "emits-overlap",
    "value-pointer",
    "value-huge",
    "headers-huge",
    "headers-pointer",
    "topic-pointer",
    "topic-binary",
    "amplify",
];

#[tokio::test]
async fn every_lie_is_refused_and_costs_its_own_record_only() {
    for lie in LIES {
        let mut values: Vec<_> = (0..9).map(|index| format!("good {index}")).collect();
        values[4] = format!("lie {lie}");
        let mut chain = chain(HOSTILE_LIES, |_| {}).await;
        let report = run_once(&mut chain, &batch(&values)).await;
        let letters = sent_to(&report.outcome, LETTERS);
        assert_eq!(letters.len(), 1, "{lie}: {report:?}");
        assert_eq!(letters[0].value, Some(values.remove(4)), "{lie}");
        assert_eq!(common::values(&report.outcome), values, "{lie}");
        let error = letters[0].header("millpond.error").unwrap();
        assert!(!error.is_empty() && !error.contains('\n'), "{lie}: {error}");
    }
}

#[tokio::test]
async fn a_message_of_any_bytes_is_made_fit_to_be_read() {
    let mut chain = chain(HOSTILE_LIES, |_| {}).await;
    let report = run_once(&mut chain, &batch(&["lie message-binary", "good"])).await;
    assert_eq!(values(&report.outcome), ["good"]);
    let letters = sent_to(&report.outcome, LETTERS);
    let error = letters[0].header("millpond.error").unwrap();
    assert!(!error.chars().any(char::is_control), "{error}");
}

#[tokio::test]
async fn amplified_output_stays_below_its_limit() {
    let mut chain = chain(HOSTILE_LIES, |_| {}).await;
    let report = run_once(&mut chain, &batch(&vec!["lie amplify"; 50])).await;
    assert_eq!(sent_to(&report.outcome, LETTERS).len(), 50);
    assert_eq!(report.stages[0].emitted, 0);
    assert!(report.stages[0].calls < 200);
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_counted() {
    let mut chain = chain(HOSTILE_LOG, |_| {}).await;
    let report = run_once(&mut chain, &batch(&["log", "fine"])).await;
    assert_eq!(report.outcome, Outcome::Untouched);
    assert!(report.logs.len() <= caps::TRANSFORM_LOG_LINES_PER_BATCH_MAX);
    assert!(
        report.logs.iter().all(|line| line.text.len() <= caps::TRANSFORM_LOG_LINE_BYTES_MAX + 3)
    );
    assert_eq!(report.stages[0].log_lines_dropped + report.logs.len() as u64, 10_000);
}

#[tokio::test]
async fn a_loop_is_stopped_within_its_budget() {
    let mut chain = chain(HOSTILE_LOOP, |spec| spec.limits.cpu_ms_per_batch = 50).await;
    let report = run_once(&mut chain, &batch(&["loop"])).await;
    let stats = &report.stages[0];
    assert_eq!((stats.overruns, stats.calls), (1, 1));
    // Beats are of a millisecond; a machine under load may stretch each of them.
    assert!(stats.cpu >= Duration::from_millis(25), "{:?}", stats.cpu);
    assert!(stats.cpu < Duration::from_secs(5), "{:?}", stats.cpu);
    let letters = sent_to(&report.outcome, LETTERS);
    let error = letters[0].header("millpond.error");
    assert_eq!(error, Some("stopped after 50 ms of CPU time"));
}

#[tokio::test]
async fn a_batch_full_of_loops_ends_in_bounded_time() {
    let mut chain = chain(HOSTILE_LOOP, |spec| spec.limits.cpu_ms_per_batch = 20).await;
    let report = run_once(&mut chain, &batch(&vec!["loop"; 2_000])).await;
    assert_eq!(sent_to(&report.outcome, LETTERS).len(), 2_000);
    // 20 ms for the batch and eight times that to find culprits, of 5 ms each at least.
    assert!(report.stages[0].calls <= 1 + 8 * 20 / 5 + 1, "{:?}", report.stages[0]);
}

#[tokio::test]
async fn memory_stays_below_the_limit_and_is_given_back() {
    let mut chain = chain(HOSTILE_MEMORY, |spec| spec.limits.memory_bytes = 4 << 20).await;
    let report = run_once(&mut chain, &batch(&["memory", "fine"])).await;
    assert_eq!(values(&report.outcome), ["fine"]);
    let letters = sent_to(&report.outcome, LETTERS);
    let error = letters[0].header("millpond.error");
    assert_eq!(error, Some("out of memory: the limit is 4194304 bytes"));
}

#[tokio::test]
async fn what_ran_out_of_time_is_retried_in_fresh_instances_and_that_ends() {
    let mut chain = chain(HOSTILE_LOOP, |spec| {
        spec.on_failure = FailurePolicy { retries: 3, then: OnFailure::Skip };
        spec.limits.cpu_ms_per_batch = 20;
    })
    .await;
    let report = run_once(&mut chain, &batch(&["loop"])).await;
    assert_eq!(values(&report.outcome), [""; 0]);
    let stats = &report.stages[0];
    assert_eq!((stats.calls, stats.retries), (4, 3));
    assert_eq!((stats.instances_started, stats.instances_restarted), (4, 3));
    assert_eq!(stats.failures.of(FailureReason::Overrun), 1);
}

#[tokio::test]
async fn what_would_fail_again_is_not_retried() {
    for (value, reason) in [
        ("trap", FailureReason::Trap),
        ("panic", FailureReason::Abort),
        ("fail", FailureReason::Verdict),
    ] {
        let mut chain = chain(HOSTILE_TRAP, |spec| {
            spec.on_failure = FailurePolicy { retries: 3, then: OnFailure::Skip };
        })
        .await;
        let report = run_once(&mut chain, &batch(&[value])).await;
        assert_eq!((report.stages[0].calls, report.stages[0].retries), (1, 0), "{value}");
        let failures = report.stages[0].failures;
        assert_eq!((failures.of(reason), failures.iter().map(|(_, n)| n).sum()), (1, 1), "{value}");
    }
}

#[tokio::test]
async fn finding_a_culprit_takes_few_calls() {
    let mut chain = chain(HOSTILE_TRAP, |_| {}).await;
    let mut values = vec!["good".to_string(); 1_000];
    values[777] = "trap".to_string();
    let report = run_once(&mut chain, &batch(&values)).await;
    assert_eq!(sent_to(&report.outcome, LETTERS).len(), 1);
    assert_eq!(report.stages[0].calls, 4);
}

#[tokio::test(flavor = "current_thread")]
async fn other_batches_run_while_a_guest_loops() {
    let mut looping = chain(HOSTILE_LOOP, |spec| spec.limits.cpu_ms_per_batch = 300).await;
    let mut filter = chain(THRESHOLD, |spec| set(spec, &[("field", "t"), ("min", "0")])).await;
    let bad = batch(&["loop"]);
    let fine = batch(&["{\"t\":1}"]);
    let loops = async {
        run_once(&mut looping, &bad).await;
    };
    let mut runs = 0;
    let others = async {
        loop {
            assert_eq!(run_once(&mut filter, &fine).await.outcome, Outcome::Untouched);
            runs += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = loops => {}
        () = others => {}
    }
    assert!(runs >= 50, "{runs} other batches in 300 slices of a loop");
}

#[tokio::test]
async fn a_run_can_move_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let mut chain = chain(HOSTILE_TRAP, |_| {}).await;
    let came = batch(&["good"]);
    let report = is_send(run_once(&mut chain, &came)).await;
    assert_eq!(report.outcome, Outcome::Untouched);
}

#[tokio::test]
async fn a_run_that_is_given_up_leaves_the_chain_usable() {
    let mut chain = chain(HOSTILE_LOOP, |spec| spec.limits.cpu_ms_per_batch = 10_000).await;
    let bad = batch(&["loop"]);
    {
        let mut run = Box::pin(run_once(&mut chain, &bad));
        // A few slices, then it is dropped in the midst of the loop.
        for _ in 0..3 {
            assert!(futures::poll!(&mut run).is_pending());
        }
    }
    assert_eq!(chain.live_instances(), 0);
    let report = run_once(&mut chain, &batch(&["good"])).await;
    assert_eq!(report.outcome, Outcome::Untouched);
}
