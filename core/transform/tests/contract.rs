//! Modules that break the contract before they see a record, written by hand.

mod common;

use common::*;
use millpond_transform::{
    Chain, CompileError, DeployError, Fault, Host, HostConfig, Lie, Outcome, Sha256, Transform,
    TransformSpec,
};
use millpond_wire::ErrorCode;
use millpond_wire::limits as caps;

/// A module with these imports, memory and functions.
fn module(imports: &str, memory: &str, body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {imports} (memory (export \"memory\") {memory}) {body})"))
        .expect("the test's module is well-formed")
}

const TRANSFORM_KEEPS: &str =
    "(func (export \"millpond_transform_v1\") (param i32 i32) (result i64) (i64.const 0))";
const ALLOC_AT_1024: &str =
    "(func (export \"millpond_alloc\") (param i32) (result i32) (i32.const 1024))";

fn with_alloc(body: &str) -> Vec<u8> {
    let alloc = format!("(func (export \"millpond_alloc\") (param i32) (result i32) {body})");
    module("", "2", &format!("{TRANSFORM_KEEPS} {alloc}"))
}

async fn deploy_error(wasm: &[u8]) -> DeployError {
    let module = host().compile(wasm).expect("it compiles");
    let spec = TransformSpec::new("subject", Sha256::of(wasm));
    Transform::deploy(host(), spec, module).await.expect_err("it is refused")
}

#[tokio::test]
async fn a_module_in_a_few_lines_of_text_works() {
    let wasm = with_alloc("(i32.const 1024)");
    let mut chain = chain(&wasm, |_| {}).await;
    assert_eq!(run_once(&mut chain, &batch(&["a", "b"])).await.outcome, Outcome::Untouched);
}

#[tokio::test]
async fn an_allocator_that_lies_is_refused() {
    for (body, expected) in [
        ("(i32.const 0)", "millpond_alloc gave no room"),
        ("(i32.const -16)", "the input at 0xfffffff0"),
        ("(i32.const 131072)", "the input at 0x20000"),
        ("(i32.const 1025)", "not aligned"),
        ("(unreachable)", "unreachable"),
        ("(loop (br 0)) (i32.const 0)", "CPU time"),
    ] {
        let mut chain = chain(&with_alloc(body), |spec| spec.limits.cpu_ms_per_batch = 20).await;
        let report = run_once(&mut chain, &batch(&["a", "b"])).await;
        let letters = sent_to(&report.outcome, "readings.dead-letter");
        assert_eq!(letters.len(), 2, "{body}");
        let error = letters[0].header("millpond.error").unwrap();
        assert!(error.contains(expected), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_batch_too_large_for_the_guest_is_run_in_parts() {
    // 127 KiB of room: two records of 50 KiB fit, four do not.
    let body = "(if (result i32) (i32.gt_u (local.get 0) (i32.const 130048))
                  (then (i32.const 0)) (else (i32.const 1024)))";
    let mut chain = chain(&with_alloc(body), |_| {}).await;
    let report = run_once(&mut chain, &batch(&vec!["x".repeat(50_000); 4])).await;
    assert_eq!(report.outcome, Outcome::Untouched);
    assert_eq!(report.stages[0].calls, 3);
}

#[tokio::test]
async fn imports_that_lie_end_the_call() {
    let import =
        |name, params| format!("(import \"millpond\" \"{name}\" (func $f (param {params})))");
    for (imports, call) in [
        (import("log", "i32 i32 i32"), "(call $f (i32.const 1) (i32.const -1) (i32.const 9))"),
        (import("log", "i32 i32 i32"), "(call $f (i32.const 1) (i32.const 1) (i32.const -1))"),
        (import("abort", "i32 i32"), "(call $f (i32.const 131070) (i32.const 3))"),
    ] {
        let body = format!(
            "{ALLOC_AT_1024} (func (export \"millpond_transform_v1\") (param i32 i32) (result i64)
             {call} (i64.const 0))"
        );
        let mut chain = chain(&module(&imports, "2", &body), |_| {}).await;
        let report = run_once(&mut chain, &batch(&["a"])).await;
        let letters = sent_to(&report.outcome, "readings.dead-letter");
        let error = letters[0].header("millpond.error").unwrap();
        assert!(error.contains("leaves the memory"), "{error}");
    }
}

#[tokio::test]
async fn a_setting_is_never_written_outside_of_its_buffer() {
    let imports = "(import \"millpond\" \"setting\"
                     (func $setting (param i32 i32 i32 i32) (result i32)))";
    let init = |call: &str| {
        format!(
            "{TRANSFORM_KEEPS} {ALLOC_AT_1024} (data (i32.const 0) \"key\")
             (func (export \"millpond_init\") (result i32) {call})"
        )
    };
    // The value has 5 bytes: with room for 4 nothing is written, and 5 is the answer.
    let fits_not =
        "(i32.sub (call $setting (i32.const 0) (i32.const 3) (i32.const 64) (i32.const 4))
                     (i32.const 5)) (i32.load (i32.const 64)) i32.add";
    let wasm = module(imports, "2", &init(fits_not));
    deploy(&wasm, |spec| set(spec, &[("key", "value")])).await;
    let outside = "(call $setting (i32.const 0) (i32.const 3) (i32.const 131071) (i32.const 4))";
    let error = deploy_error(&module(imports, "2", &init(outside))).await;
    assert!(matches!(error, DeployError::Start(Fault::Lie(Lie::OutOfBounds { .. }))), "{error}");
}

#[tokio::test]
async fn a_module_that_does_not_start_is_refused_at_deployment() {
    let start = |body: &str| {
        module("", "2", &format!("{TRANSFORM_KEEPS} {ALLOC_AT_1024} (func $s {body}) (start $s)"))
    };
    let error = deploy_error(&start("unreachable")).await;
    assert!(error.to_string().contains("unreachable"), "{error}");
    let error = deploy_error(&start("(loop (br 0))")).await;
    assert!(matches!(error, DeployError::Start(Fault::Overrun { .. })), "{error}");
    let init = "(func (export \"millpond_init\") (result i32) (i32.const 4))";
    let error =
        deploy_error(&module("", "2", &format!("{TRANSFORM_KEEPS} {ALLOC_AT_1024} {init}"))).await;
    assert!(error.to_string().contains("millpond_init gave 4"), "{error}");
    let hungry = module("", "512", &format!("{TRANSFORM_KEEPS} {ALLOC_AT_1024}"));
    let error = deploy_error(&hungry).await;
    assert!(matches!(error, DeployError::Start(Fault::Memory { .. })), "{error}");
}

#[tokio::test]
async fn a_node_without_memory_refuses_the_batch_and_blames_no_record() {
    let small = HostConfig { memory_bytes: 100 * caps::KIB, ..HostConfig::default() };
    let host = Host::new(small).unwrap();
    let wasm = module("", "1", &format!("{TRANSFORM_KEEPS} {ALLOC_AT_1024}"));
    let spec = TransformSpec::new("subject", Sha256::of(&wasm));
    let module = host.compile(&wasm).unwrap();
    let transform = Transform::deploy(&host, spec, module).await.unwrap();
    assert_eq!(host.memory_used_bytes(), 0);
    let mut first = Chain::new(vec![transform.clone()], TOPIC, 0).unwrap();
    let mut second = Chain::new(vec![transform], TOPIC, 1).unwrap();
    let came = batch(&["a"]);
    assert_eq!(run_once(&mut first, &came).await.outcome, Outcome::Untouched);
    assert_eq!(host.memory_used_bytes(), 64 * caps::KIB);
    let refused = run_once(&mut second, &came).await.outcome;
    let Outcome::Rejected { code, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(code, ErrorCode::RequestTimedOut);
    assert!(code.is_retriable());
    first.discard_instances();
    assert_eq!(run_once(&mut second, &came).await.outcome, Outcome::Untouched);
}

#[test]
fn what_is_no_module_is_refused_in_plain_words() {
    let refused = |wasm: &[u8]| host().compile(wasm).unwrap_err().to_string();
    assert!(refused(b"").contains("do not start"));
    assert!(refused(b"(module)").contains("do not start"));
    assert!(refused(b"\0asm\x0d\0\x01\0").contains("component"));
    assert!(refused(b"\x7fELF").contains("native binary"));
    assert!(refused(b"\0asm\x01\0\0\0\xff\xff").contains("not a WebAssembly module"));
    let large = vec![0; caps::MODULE_BYTES_MAX + 1];
    assert!(matches!(host().compile(&large), Err(CompileError::TooLarge { .. })));
}

#[test]
fn a_cut_or_changed_module_is_refused_or_runs_but_never_panics() {
    let whole = millpond_guests::HOSTILE_TRAP;
    for end in (0..whole.len()).step_by(whole.len() / 60) {
        assert!(host().compile(&whole[..end]).is_err());
    }
}

#[test]
fn a_missing_or_wrong_export_is_named() {
    let refused = |wasm: &[u8]| host().compile(wasm).unwrap_err().to_string();
    let parts = [TRANSFORM_KEEPS, ALLOC_AT_1024];
    assert!(refused(&module("", "1", parts[0])).contains("millpond_alloc"));
    assert!(refused(&module("", "1", parts[1])).contains("millpond_transform_v1"));
    let wrong = "(func (export \"millpond_transform_v1\") (param i32) (result i64) (i64.const 0))";
    assert!(refused(&module("", "1", &format!("{ALLOC_AT_1024}{wrong}"))).contains("i32, i32"));
    let newer = "(func (export \"millpond_transform_v2\"))";
    let newer = refused(&module("", "1", &format!("{ALLOC_AT_1024}{newer}")));
    assert!(newer.contains("another version"), "{newer}");
    let no_memory = wat::parse_str(format!("(module {TRANSFORM_KEEPS}{ALLOC_AT_1024})")).unwrap();
    assert!(refused(&no_memory).contains("`memory`"));
}

#[test]
fn a_foreign_import_is_named_with_a_hint() {
    let import = |module: &str, name: &str| {
        let text = format!("(module (import \"{module}\" \"{name}\" (func)))");
        host().compile(&wat::parse_str(text).unwrap()).unwrap_err().to_string()
    };
    let wasi = import("wasi_snapshot_preview1", "fd_write");
    assert!(wasi.contains("fd_write") && wasi.contains("wasm32-unknown-unknown"), "{wasi}");
    assert!(import("millpond", "state_scan").contains("newer broker"));
    assert!(import("env", "abort").contains("env.abort"));
    // The right name with another type.
    let body = format!("{TRANSFORM_KEEPS}{ALLOC_AT_1024}");
    let wasm = module("(import \"millpond\" \"log\" (func))", "1", &body);
    let error = host().compile(&wasm).unwrap_err().to_string();
    assert!(error.contains("incompatible import type"), "{error}");
}

#[test]
fn features_beyond_the_contract_are_off() {
    let rest = format!("{TRANSFORM_KEEPS}{ALLOC_AT_1024}");
    let with = |memory: &str, more: &str| {
        let text = format!("(module {memory} {rest} {more})");
        host().compile(&wat::parse_str(text).unwrap())
    };
    let memory = "(memory (export \"memory\") 1)";
    assert!(with(memory, "").is_ok());
    assert!(with(memory, "(memory 1)").is_err(), "multi-memory");
    assert!(with("(memory (export \"memory\") i64 1)", "").is_err(), "memory64");
    assert!(with("(memory (export \"memory\") 1 2 shared)", "").is_err(), "threads");
    assert!(with(memory, "(func $t return_call $t)").is_err(), "tail calls");
    assert!(with(memory, "(type (struct (field i32)))").is_err(), "garbage collection");
    assert!(with(memory, "(tag)").is_err(), "exceptions");
}
