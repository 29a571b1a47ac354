//! Modules made for Redpanda run unchanged: one built here with its published Rust crate, and small
//! ones written by hand, for what that crate never does.
//!
//! Needs `rustup target add wasm32-wasip1` and the crates of `guests/foreign/redpanda-rust`;
//! `tests/setup` gets both.

mod common;

use common::*;
use millpond_transform::{
    Chain, CompileError, Contract, Level, OnFailure, Outcome, Report, Transform,
};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// The module, built once for all tests of this file.
fn module() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("redpanda");
        let manifest = root.join("guests/foreign/redpanda-rust/Cargo.toml");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--locked", "--quiet", "--target", "wasm32-wasip1"])
            .arg("--manifest-path")
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target)
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .status()
            .expect("cargo starts");
        assert!(built.success(), "is wasm32-wasip1 installed? tests/setup does it");
        let file = "wasm32-wasip1/release/millpond-foreign-redpanda-rust.wasm";
        std::fs::read(target.join(file)).expect("the module")
    })
}

async fn subject() -> Chain {
    chain(module(), |spec| {
        spec.outputs = vec!["alarms".to_string()];
        spec.on_failure = policy(OnFailure::DeadLetter);
        set(spec, &[("GREETING", "hello")]);
    })
    .await
}

/// What came out for records with these values: topic and value.
async fn run_on(chain: &mut Chain, values: &[&str]) -> (Vec<(Option<String>, String)>, Report) {
    let report = run_once(chain, &batch(values)).await;
    let out = match &report.outcome {
        Outcome::Untouched => values.iter().map(|value| (None, value.to_string())).collect(),
        outcome => came_out(outcome)
            .into_iter()
            .map(|record| (record.topic, record.value.unwrap_or_default()))
            .collect(),
    };
    (out, report)
}

fn here(value: &str) -> (Option<String>, String) {
    (None, value.to_string())
}

fn at(topic: &str, value: &str) -> (Option<String>, String) {
    (Some(topic.to_string()), value.to_string())
}

#[tokio::test]
async fn a_module_of_the_published_crate_is_known_by_its_imports() {
    assert_eq!(compiled(module()).contract(), Contract::Redpanda);
}

#[tokio::test]
async fn what_is_written_back_as_it_came_leaves_the_batch_untouched() {
    let mut chain = subject().await;
    let report = run_once(&mut chain, &batch(&["keep", "keep", "keep"])).await;
    assert_eq!(report.outcome, Outcome::Untouched);
    assert_eq!((report.stages[0].kept, report.stages[0].calls), (3, 1));
}

#[tokio::test]
async fn records_are_dropped_doubled_and_sent_elsewhere() {
    let mut chain = subject().await;
    let (out, report) =
        run_on(&mut chain, &["keep", "drop", "twice more", "send alarms hot", "send readings x"])
            .await;
    let expected = [here("keep"), here("twice more"), here("more"), here("x"), at("alarms", "hot")];
    assert_eq!(out, expected);
    assert_eq!((report.stages[0].kept, report.stages[0].dropped), (1, 4));
}

#[tokio::test]
async fn a_written_record_has_its_headers_and_the_time_of_the_one_it_was_made_of() {
    let mut chain = subject().await;
    let report = run_once(&mut chain, &batch(&["drop", "headers"])).await;
    let [record] = came_out(&report.outcome).try_into().expect("one record");
    assert_eq!((record.timestamp, record.key), (5_001, None));
    let headers = [("a".to_string(), Some("1".to_string())), ("b".to_string(), None)];
    assert_eq!(record.headers, headers);
}

#[tokio::test]
async fn a_record_sent_where_it_may_not_go_is_a_dead_letter_even_if_the_module_does_not_care() {
    let mut chain = subject().await;
    let report = run_once(&mut chain, &batch(&["keep", "try elsewhere", "drop"])).await;
    let out = came_out(&report.outcome);
    assert_eq!(out.len(), 2);
    assert_eq!(out[1].topic.as_deref(), Some("readings.dead-letter"));
    let error = out[1].header("millpond.error").expect("a reason");
    assert!(error.contains("`elsewhere`, which is not among the outputs"), "{error}");
}

#[tokio::test]
async fn settings_and_topics_are_its_environment() {
    let mut chain = subject().await;
    let names = [
        "GREETING",
        "REDPANDA_INPUT_TOPIC",
        "REDPANDA_OUTPUT_TOPIC_0",
        "REDPANDA_OUTPUT_TOPIC_1",
        "HOME",
    ];
    let asked: Vec<String> = names.iter().map(|name| format!("env {name}")).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let (out, _) = run_on(&mut chain, &asked).await;
    let values = ["hello", "readings", "readings", "alarms", ""];
    assert_eq!(out, values.map(here));
}

#[tokio::test]
async fn clock_and_randomness_are_the_same_each_time() {
    let mut first = subject().await;
    let asked = ["time", "random", "random"];
    let (once, _) = run_on(&mut first, &asked).await;
    assert_eq!(once[0], here("5000 5000"));
    first.discard_instances();
    let (again, _) = run_on(&mut first, &asked).await;
    assert_eq!(once, again);
}

#[tokio::test]
async fn there_are_no_files() {
    let mut chain = subject().await;
    let (out, _) = run_on(&mut chain, &["file"]).await;
    assert_eq!(out, [here("false")]);
}

#[tokio::test]
async fn what_it_prints_is_its_log() {
    let mut chain = subject().await;
    let (_, report) = run_on(&mut chain, &["print one", "print two"]).await;
    let lines: Vec<(Level, &str)> =
        report.logs.iter().map(|line| (line.level, line.text.as_str())).collect();
    let expected = [(Level::Warn, "greeting: hello"), (Level::Info, "one"), (Level::Info, "two")];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn only_the_record_that_makes_it_panic_is_a_dead_letter() {
    let mut chain = subject().await;
    let values = ["keep 1", "keep 2", "nonsense", "keep 3", "twice 4"];
    let report = run_once(&mut chain, &batch(&values)).await;
    let out = came_out(&report.outcome);
    let dead: Vec<_> = out.iter().filter(|record| record.topic.is_some()).collect();
    assert_eq!(out.len(), 6);
    assert_eq!(dead.len(), 1);
    let error = dead[0].header("millpond.error").expect("a reason");
    assert!(error.contains("what is nonsense?"), "{error}");
}

#[tokio::test]
async fn hostile_records_hit_the_limits_and_the_others_go_on() {
    let mut chain = subject().await;
    for (value, reason) in [
        ("loop", "ms of CPU time"),
        ("flood", "output above the limit"),
        ("memory", "out of memory"),
        ("exit", "ended itself with code 3"),
    ] {
        let report = run_once(&mut chain, &batch(&["keep", value, "keep"])).await;
        let out = came_out(&report.outcome);
        assert_eq!(out.len(), 3, "{value}");
        let error = out[2].header("millpond.error").expect("a reason");
        assert!(error.contains(reason), "{value}: {error}");
    }
}

#[tokio::test]
async fn it_chains_with_modules_of_the_own_contract() {
    let redpanda = deploy(module(), |spec| spec.name = "redpanda".to_string()).await;
    let split = deploy(millpond_guests::SPLIT, |spec| spec.name = "split".to_string()).await;
    let mut chain = Chain::new(vec![redpanda, split], TOPIC, 3).expect("a chain");
    let (out, _) = run_on(&mut chain, &["drop", "twice a\nb"]).await;
    assert_eq!(out, [here("twice a"), here("b"), here("a"), here("b")]);
}

/// A hand-written guest: what it does when it has asked for a batch.
fn by_hand(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "redpanda_transform" "check_abi_version_1" (func $check))
            (import "redpanda_transform" "read_batch_header"
                (func $header (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (import "redpanda_transform" "read_next_record"
                (func $next (param i32 i32 i32 i32 i32) (result i32)))
            (import "redpanda_transform" "write_record" (func $write (param i32 i32) (result i32)))
            (import "redpanda_schema_registry" "get_schema_definition_len"
                (func $schema (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func $ask (result i32)
                (call $header (i32.const 0) (i32.const 8) (i32.const 16) (i32.const 24)
                    (i32.const 32) (i32.const 40) (i32.const 48) (i32.const 56) (i32.const 64)
                    (i32.const 72)))
            (func $read (param $buffer i32) (param $bytes i32) (result i32)
                (call $next (i32.const 80) (i32.const 88) (i32.const 96)
                    (local.get $buffer) (local.get $bytes)))
            (func (export "_start")
                (call $check)
                (loop $again (drop (call $ask)) {body} (br $again))))"#
    );
    wat::parse_str(text).expect("a module")
}

async fn error_of(body: &str) -> String {
    let wasm = by_hand(body);
    let mut chain = chain(&wasm, |spec| spec.on_failure = policy(OnFailure::DeadLetter)).await;
    let report = run_once(&mut chain, &batch(&["one"])).await;
    let [record] = came_out(&report.outcome).try_into().expect("one record");
    record.header("millpond.error").unwrap_or_default().to_string()
}

#[tokio::test]
async fn addresses_that_leave_its_memory_are_lies() {
    for body in [
        "(drop (call $read (i32.const -8) (i32.const 4096)))",
        "(drop (call $read (i32.const 65530) (i32.const 4096)))",
        "(drop (call $read (i32.const 4096) (i32.const 4096)))
         (drop (call $write (i32.const 65530) (i32.const 4096)))",
        "(drop (call $read (i32.const 4096) (i32.const 4096)))
         (drop (call $write (i32.const 4096) (i32.const -1)))",
    ] {
        let error = error_of(body).await;
        assert!(error.contains("leaves the memory"), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_record_that_it_does_not_read_is_not_lost() {
    let error = error_of("(nop)").await;
    assert!(error.contains("did not read it"), "{error}");
}

#[tokio::test]
async fn what_is_no_record_is_not_taken() {
    let error = error_of(
        "(drop (call $read (i32.const 4096) (i32.const 4096)))
         (drop (call $write (i32.const 0) (i32.const 3)))",
    )
    .await;
    assert!(error.contains("is no record"), "{error}");
}

#[tokio::test]
async fn imports_that_there_is_nothing_behind_say_so() {
    // Schema registry: below zero; a file: not supported.
    let body = "(drop (call $read (i32.const 4096) (i32.const 4096)))
        (if (i32.ge_s (call $schema (i32.const 1) (i32.const 0)) (i32.const 0)) (then unreachable))
        (if (i32.ne (i32.const 52) (call $open (i32.const 3) (i32.const 0) (i32.const 0)
            (i32.const 0) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0)))
            (then unreachable))";
    let wasm = by_hand(body);
    let mut chain = chain(&wasm, |_| {}).await;
    let report = run_once(&mut chain, &batch(&["one"])).await;
    assert_eq!((report.stages[0].dropped, report.stages[0].failed), (1, 0));
}

#[tokio::test]
async fn a_main_that_returns_is_refused_when_it_is_deployed() {
    let wasm = wat::parse_str(
        r#"(module (import "redpanda_transform" "check_abi_version_2" (func))
            (memory (export "memory") 1) (func (export "_start")))"#,
    )
    .expect("a module");
    let spec = millpond_transform::TransformSpec::new("x", millpond_transform::Sha256::of(&wasm));
    let error = Transform::deploy(host(), spec, compiled(&wasm)).await.unwrap_err();
    assert!(error.to_string().contains("main returned"), "{error}");
}

#[tokio::test]
async fn an_import_that_is_neither_its_nor_wasi_is_refused() {
    let wasm = wat::parse_str(
        r#"(module (import "redpanda_transform" "check_abi_version_2" (func))
            (import "env" "system" (func)) (memory (export "memory") 1)
            (func (export "_start")))"#,
    )
    .expect("a module");
    let error = host().compile(&wasm).unwrap_err();
    assert!(matches!(error, CompileError::Import { .. }), "{error}");
}

#[tokio::test]
async fn a_thousand_batches_go_through_one_instance() {
    let transform: Arc<Transform> = deploy(module(), |_| {}).await;
    let mut chain = Chain::new(vec![transform], TOPIC, 3).expect("a chain");
    for number in 0..1_000 {
        let value = format!("twice {number}");
        let (out, report) = run_on(&mut chain, &[&value]).await;
        assert_eq!(out, [here(&value), here(&number.to_string())]);
        assert_eq!(report.stages[0].instances_started, u64::from(number == 0));
    }
}
