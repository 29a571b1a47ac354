//! The same modules in other languages do what those in Rust do, record for record and word for
//! word: C with `wasm-sdk/c/millpond.h`, AssemblyScript with `wasm-sdk/assemblyscript/millpond.ts`.
//!
//! Needs clang, lld and the npm packages of `guests/foreign/assemblyscript`; `tests/setup` gets
//! them. A module is built once for all tests.

mod common;

use common::*;
use millpond_guests::{SPLIT, THRESHOLD};
use millpond_transform::{
    Contract, DeployError, EngineKind, Outcome, Sha256, Transform, TransformSpec,
};
use millpond_wire::record::{Batch, BatchBuilder, Codec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Language {
    C,
    AssemblyScript,
}

const LANGUAGES: [Language; 2] = [Language::C, Language::AssemblyScript];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The module of this name in this language.
fn module(language: Language, name: &str) -> Vec<u8> {
    static BUILT: Mutex<BTreeMap<(Language, String), Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().expect("no test panics while it builds");
    built.entry((language, name.to_string())).or_insert_with(|| build(language, name)).clone()
}

fn build(language: Language, name: &str) -> Vec<u8> {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{language:?}-{name}.wasm"));
    let mut compiler = match language {
        Language::C => clang(&out, name),
        Language::AssemblyScript => asc(&out, name),
    };
    let made = compiler.current_dir(root()).output();
    let made =
        made.unwrap_or_else(|error| panic!("{compiler:?}: {error}; tests/setup installs it"));
    assert!(
        made.status.success(),
        "{compiler:?}: {}{}\ntests/setup installs what it needs",
        String::from_utf8_lossy(&made.stdout),
        String::from_utf8_lossy(&made.stderr)
    );
    std::fs::read(out).expect("the module")
}

/// As `millpond.h` says, with every warning an error.
fn clang(out: &Path, name: &str) -> Command {
    let mut clang = Command::new("clang");
    clang
        .args(["--target=wasm32", "-std=c99", "-O2", "-ffreestanding", "-nostdlib"])
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args(["-Wl,--no-entry", "-Wl,--stack-first", "-Iwasm-sdk/c", "-o"])
        .arg(out)
        .arg(format!("guests/foreign/c/{name}.c"));
    clang
}

/// As `millpond.ts` says.
fn asc(out: &Path, name: &str) -> Command {
    let mut asc = Command::new("node");
    asc.arg("guests/foreign/assemblyscript/node_modules/assemblyscript/bin/asc.js")
        .arg(format!("guests/foreign/assemblyscript/{name}.ts"))
        .arg("--outFile")
        .arg(out)
        .args(["-O3", "--runtime", "minimal"])
        .args(["--use", "abort=wasm-sdk/assemblyscript/millpond/onAbort"]);
    asc
}

async fn outcome(wasm: &[u8], settings: &[(&str, &str)], batches: &[Batch]) -> Vec<Outcome> {
    let mut chain = chain(wasm, |spec| set(spec, settings)).await;
    let mut outcomes = Vec::new();
    for batch in batches {
        outcomes.push(run_once(&mut chain, batch).await.outcome);
    }
    outcomes
}

/// JSON and what is nearly JSON, whole and cut.
fn values() -> Vec<Vec<u8>> {
    let objects = [
        r#"{"t":9.99}"#,
        r#"{"t":10}"#,
        r#"{"t":20}"#,
        r#"{"t":20.000000000000004}"#,
        r#"{"device":"pump-7","t":15.25,"rssi":-70}"#,
        r#"{"a":{"t":1},"b":[{"t":2}],"t":13}"#,
        r#"{"a":{"t":12}}"#,
        r#"{"say":"\"t\": 9","t":14}"#,
        r#"{"x\"t":1,"tt":5,"t":16,"t":1}"#,
        r#"{"t":"12"}"#,
        r#"{"t":null}"#,
        r#"{"t":1.5e1}"#,
        r#"{"t":1E+1,"u":"\\"}"#,
        r#"{"t":0.000015e6}"#,
        r#"{"t":-0}"#,
        r#"{"t":1e400}"#,
        r#"{"t":1e-400}"#,
        r#"{"t":15000000000000000000000e-21}"#,
        r#"{"t":1.}"#,
        r#"{"t":.5}"#,
        r#"{"t":+12}"#,
        r#"{"t":12x}"#,
        r#"{"t" : 12 , "u":[[]]}"#,
        " \t\r\n{ \"t\"\t:\n12 }",
        "{}",
        "[]",
        "",
        "12",
        "not json",
        "{\"\u{e9}\":1,\"t\":11}",
    ];
    let mut values: Vec<Vec<u8>> = objects.iter().map(|text| text.as_bytes().to_vec()).collect();
    let whole = objects[4].as_bytes();
    values.extend((0..whole.len()).map(|end| whole[..end].to_vec()));
    // The field at every place that a load of sixteen bytes can have.
    for before in 0..40 {
        let (name, text) = ("p".repeat(before + 1), "\\\"t\\\": ".repeat(before % 7));
        let object = format!("{{\"{name}\":\"{text}\",\"t\":{before},\"u\":\"{name}\"}}");
        values.push(object.into_bytes());
    }
    values
}

fn batches(values: &[Vec<u8>]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = values.chunks(17).map(batch).collect();
    batches.push(batch(values));
    let mut bare = BatchBuilder::new(Codec::None, None);
    bare.push(-1, None, None, &[]).expect("it fits");
    bare.push(7, Some(b""), Some(b""), &[]).expect("it fits");
    batches.push(Batch::parse(bare.build().expect("a batch")).expect("the batch parses"));
    batches
}

/// The records that one has and the other has not.
fn differ(found: &Outcome, expected: &Outcome) -> String {
    let all = |outcome: &Outcome| match outcome {
        Outcome::Changed { .. } => came_out(outcome),
        _ => Vec::new(),
    };
    let (found, expected) = (all(found), all(expected));
    let only = |these: &[Record], those: &[Record]| {
        let only = these.iter().filter(|record| !those.contains(record));
        only.map(|record| record.value.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    format!("only found {:?}, only expected {:?}", only(&found, &expected), only(&expected, &found))
}

#[tokio::test]
async fn a_threshold_in_any_language_decides_alike() {
    let settings: [&[(&str, &str)]; 6] = [
        &[("field", "t"), ("min", "10"), ("max", "20")],
        &[("field", "t"), ("min", "10"), ("keep", "outside"), ("missing", "keep")],
        &[("field", "t"), ("max", "15"), ("keep", "inside"), ("missing", "drop")],
        &[("field", "t"), ("min", "-1e3"), ("missing", "error")],
        &[("field", "x\\\"t"), ("min", "0")],
        &[("field", "\u{e9}"), ("min", "0.5")],
    ];
    let batches = batches(&values());
    for settings in settings {
        let expected = outcome(THRESHOLD, settings, &batches).await;
        for language in LANGUAGES {
            let wasm = module(language, "threshold");
            let found = outcome(&wasm, settings, &batches).await;
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    found == expected,
                    "{language:?} {settings:?} batch {at}: {}",
                    differ(found, expected)
                );
            }
        }
    }
}

#[tokio::test]
async fn a_splitter_in_any_language_makes_the_same_records() {
    let many = "line\n".repeat(500);
    let values: Vec<Vec<u8>> =
        ["", "a", "a\nb", "\n", "\na\n\nb\n", "a;b;c", &many, "\u{e9}\n\u{1f600}"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    let batches = batches(&values);
    for settings in [&[][..], &[("separator", ";")]] {
        let expected = outcome(SPLIT, settings, &batches).await;
        assert!(expected.iter().any(|outcome| matches!(outcome, Outcome::Changed { .. })));
        for language in LANGUAGES {
            let wasm = module(language, "split");
            assert_eq!(outcome(&wasm, settings, &batches).await, expected, "{language:?}");
        }
    }
}

#[tokio::test]
async fn settings_are_refused_in_the_same_words() {
    let refusal = async |wasm: &[u8], settings: &[(&str, &str)]| {
        let mut spec = TransformSpec::new("subject", Sha256::of(wasm));
        set(&mut spec, settings);
        match Transform::deploy(host(), spec, compiled_for(EngineKind::Native, wasm))
            .await
            .expect_err("it is refused")
        {
            DeployError::Start(fault) => fault.to_string(),
            other => panic!("{other}"),
        }
    };
    let settings: [&[(&str, &str)]; 4] = [
        &[("field", "t")],
        &[("max", "1")],
        &[("field", "t"), ("max", "1"), ("keep", "both")],
        &[("field", "t"), ("max", "1"), ("missing", "what")],
    ];
    for settings in settings {
        let expected = refusal(THRESHOLD, settings).await;
        for language in LANGUAGES {
            let found = refusal(&module(language, "threshold"), settings).await;
            assert_eq!(found, expected, "{language:?}");
        }
    }
    let separator = [("separator", "ab")];
    for language in LANGUAGES {
        let found = refusal(&module(language, "split"), &separator).await;
        assert_eq!(found, refusal(SPLIT, &separator).await, "{language:?}");
    }
}

#[tokio::test]
async fn state_ranges_and_timers_are_there_in_any_language() {
    // Key and time; what is told once the batch is in: time, key, count and keys counted then.
    let long = "k".repeat(900);
    let key = |name: &str| if name == "long" { long.clone() } else { name.to_string() };
    type Step = (&'static [(&'static str, i64)], &'static [(i64, &'static str, &'static str)]);
    let batches: [Step; 4] = [
        (&[("a", 0), ("b", 1), ("long", 2), ("c", 5), ("a", 3), ("a", 1)], &[]),
        (&[("b", 10)], &[]),
        (&[("d", 14)], &[(12, "long", "1 of 5"), (13, "a", "3 of 4")]),
        (&[("d", 40)], &[(15, "c", "1 of 3"), (20, "b", "2 of 2")]),
    ];
    for language in LANGUAGES {
        let mut chain = chain(&module(language, "count"), |_| {}).await;
        for stage in chain.state_wanted() {
            chain.load_state(stage, []).expect("an empty state loads");
        }
        for (readings, expected) in batches {
            let mut builder = BatchBuilder::new(Codec::None, None);
            for (name, at_ms) in readings {
                builder.push(*at_ms, Some(key(name).as_bytes()), None, &[]).expect("it fits");
            }
            let came = Batch::parse(builder.build().expect("a batch")).expect("it parses");
            let told = came_out(&run_once(&mut chain, &came).await.outcome);
            let told: Vec<_> = told
                .iter()
                .map(|r| (r.timestamp, r.key.clone().unwrap(), r.value.clone().unwrap()))
                .collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(at_ms, name, value)| (*at_ms, key(name), value.to_string()))
                .collect();
            assert_eq!(told, expected, "{language:?}");
            chain.discard_instances();
        }
    }
}

#[tokio::test]
async fn they_speak_our_contract_and_are_small() {
    for language in LANGUAGES {
        let wasm = module(language, "threshold");
        assert_eq!(
            compiled_for(EngineKind::Native, &wasm).contract(),
            Contract::Millpond,
            "{language:?}"
        );
        assert!(wasm.len() < 32 * 1024, "{language:?}: {} bytes", wasm.len());
    }
}

#[tokio::test]
async fn an_instance_that_runs_for_long_does_not_grow() {
    let values: Vec<String> = (0..2_000).map(|t| format!("{{\"t\":{t}}}\n{{}}")).collect();
    let came = batch(&values);
    for language in LANGUAGES {
        // 200 batches of 100 KiB in 4 MiB: what a batch takes is given back.
        let mut chain = chain(&module(language, "split"), |spec| {
            spec.limits.memory_bytes = 4 << 20;
        })
        .await;
        for _ in 0..200 {
            let report = run_once(&mut chain, &came).await;
            assert_eq!(report.stages[0].dropped, 2_000, "{language:?}");
            assert_eq!(report.stages[0].emitted, 4_000, "{language:?}");
        }
        assert_eq!(chain.live_instances(), 1);
    }
}
