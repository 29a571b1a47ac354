//! What a system without room for machine code, or with little address space, can still run; and
//! what each engine takes.

mod common;

use common::*;
use millpond_guests::THRESHOLD;
use millpond_guests::{
    HOSTILE_LOOP, HOSTILE_MEMORY, HOSTILE_STATE, HOSTILE_TRAP, PROJECTION, SPLIT,
};
use millpond_transform::{Chain, EngineKind, Host, HostConfig, OnFailure, Outcome, Sha256};
use std::process::Command;

const BOTH: [EngineKind; 2] = [EngineKind::Native, EngineKind::Interpreter];

#[tokio::test]
async fn a_chain_does_the_same_on_both_engines() {
    let came = batch(&["{\"t\":1}\n{\"t\":2}", "{\"t\":3}", "nonsense", "{\"t\":4.5}"]);
    let mut reports = Vec::new();
    for engine in BOTH {
        let split = deploy_on(engine, SPLIT, |spec| spec.name = "split".into()).await;
        let settings = [("field", "t"), ("min", "2")];
        let filter = deploy_on(engine, THRESHOLD, |spec| set(spec, &settings)).await;
        let project =
            deploy_on(engine, PROJECTION, |spec| set(spec, &[("fields", "t as x * 2")])).await;
        let mut chain = Chain::new(vec![split, filter, project], TOPIC, 0).unwrap();
        let report = run_once(&mut chain, &came).await;
        assert_eq!(values(&report.outcome), [r#"{"x":4}"#, r#"{"x":6}"#, r#"{"x":9}"#]);
        reports.push(report.outcome);
    }
    assert_eq!(reports[0], reports[1]);
}

#[tokio::test]
async fn the_interpreter_holds_guests_to_their_limits() {
    for (wasm, bad, cpu_ms, error) in [
        (HOSTILE_TRAP, "trap", 2_000, "unreachable"),
        (HOSTILE_TRAP, "panic", 2_000, "told to"),
        (HOSTILE_TRAP, "stack", 2_000, "stack"),
        (HOSTILE_LOOP, "loop", 40, "CPU time"),
        (HOSTILE_MEMORY, "memory", 10_000, "out of memory"),
    ] {
        let mut chain = chain_on(EngineKind::Interpreter, wasm, |spec| {
            spec.limits.cpu_ms_per_batch = cpu_ms;
            spec.on_failure = policy(OnFailure::DeadLetter);
        })
        .await;
        let report = run_once(&mut chain, &batch(&["good 1", bad, "good 2"])).await;
        assert_eq!(values(&report.outcome), ["good 1", "good 2"], "{bad}");
        let letters = sent_to(&report.outcome, "readings.dead-letter");
        let found = letters[0].header("millpond.error").unwrap();
        assert!(found.contains(error), "{bad}: {found}");
    }
}

#[test]
fn compiled_code_of_one_engine_is_refused_by_the_other_and_kept_apart() {
    let hash = Sha256::of(THRESHOLD);
    for (own, other) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let artifact = host_of(own).precompile(THRESHOLD).unwrap();
        assert!(host_of(own).load(hash, &artifact).is_ok());
        let refused = host_of(other).load(hash, &artifact).unwrap_err();
        assert!(refused.to_string().contains("another engine"), "{refused}");
    }
    assert_ne!(BOTH[0].artifact_extension(), BOTH[1].artifact_extension());
    for kind in BOTH {
        assert_eq!(EngineKind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(EngineKind::from_name("jit"), None);
}

/// A module that adds the four lanes of a vector, and keeps the batch if the sum is right.
fn with_simd(body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        "(module (memory (export \"memory\") 2)
           (func (export \"millpond_alloc\") (param i32) (result i32) (i32.const 1024))
           (func (export \"millpond_transform_v1\") (param i32 i32) (result i64)
             (local $v v128) {body} (i64.const 0)))"
    ))
    .unwrap()
}

#[tokio::test]
async fn guests_may_use_vectors_but_none_whose_result_depends_on_the_processor() {
    // Takes the magic apart: lanes of "MPI1" in the input must be 4 bytes M P I 1.
    let sums = "(local.set $v (i8x16.eq (v128.load (local.get 0)) (i8x16.splat (i32.const 77))))
                (if (i32.ne (i32.and (i8x16.bitmask (local.get $v)) (i32.const 15)) (i32.const 1))
                  (then unreachable))";
    for engine in BOTH {
        let mut chain = chain_on(engine, &with_simd(sums), |_| {}).await;
        let report = run_once(&mut chain, &batch(&["a", "b"])).await;
        assert_eq!((report.outcome, report.stages[0].kept), (Outcome::Untouched, 2));
        let relaxed =
            with_simd("(local.set $v (i8x16.relaxed_swizzle (local.get $v) (local.get $v)))");
        assert!(host_of(engine).compile(&relaxed).is_err());
    }
}

/// Pages of this process that are executable and of no file.
fn executable_pages() -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    let lines = maps.lines().filter(|line| {
        let mut fields = line.split_whitespace();
        let executable = fields.nth(1).is_some_and(|flags| flags.contains('x'));
        let name = fields.nth(3).unwrap_or_default();
        executable && !name.starts_with('/') && !name.starts_with("[v")
    });
    lines.map(str::to_owned).collect()
}

const CHILD: &str = "MILLPOND_TEST_CHILD";

/// Runs one test of this file in a process of its own.
fn in_a_child(test: &str, limits: &str) {
    let program = std::env::current_exe().expect("this test's program");
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{limits} exec \"$0\" --exact {test} --nocapture --test-threads 1"))
        .arg(program)
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test]
async fn the_interpreter_makes_no_page_executable() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("the_interpreter_makes_no_page_executable", "");
    }
    let mut interpreted = chain_on(EngineKind::Interpreter, HOSTILE_STATE, |_| {}).await;
    interpreted.load_state(0, []).unwrap();
    let report = run_once(&mut interpreted, &batch(&["count n"])).await;
    assert_eq!(values(&report.outcome), ["0"]);
    assert_eq!(executable_pages(), [""; 0]);
    // And the test would see one.
    chain_on(EngineKind::Native, SPLIT, |_| {}).await;
    assert!(!executable_pages().is_empty());
}

#[tokio::test]
async fn many_instances_fit_a_small_address_space() {
    if std::env::var_os(CHILD).is_none() {
        // A process of a 39-bit kernel has 512 GiB; 64 memories of 4 GiB with their guards, as a
        // 64-bit host would reserve them, are more than that.
        in_a_child("many_instances_fit_a_small_address_space", "ulimit -v 536870912 &&");
        return in_a_child("many_instances_fit_a_small_address_space", "ulimit -v 12582912 &&");
    }
    for engine in BOTH {
        let transform = deploy_on(engine, HOSTILE_STATE, |_| {}).await;
        let mut chains = Vec::new();
        for partition in 0..64 {
            let mut chain = Chain::new(vec![transform.clone()], TOPIC, partition).unwrap();
            chain.load_state(0, []).unwrap();
            let report = run_once(&mut chain, &batch(&["trap", "count n\nget n"])).await;
            assert_eq!(values(&report.outcome), ["0 1"], "{engine:?} {partition}");
            chains.push(chain);
        }
        assert_eq!(chains.iter().map(Chain::live_instances).sum::<usize>(), 64);
    }
}

#[test]
fn a_host_says_which_engine_it_has() {
    for engine in BOTH {
        let host = Host::new(HostConfig { engine, ..HostConfig::default() }).unwrap();
        assert_eq!(host.config().engine, engine);
    }
}
