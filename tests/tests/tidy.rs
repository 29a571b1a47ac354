//! Style as a test: what a reviewer would have to say again and again, said once. Each rule prints
//! every place that breaks it, with what to do instead. Reads the repository's files and nothing
//! else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use millpond_tests::binary::repository;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Where `unsafe` may stand; each reason is in `core/ARCHITECTURE.md`.
const UNSAFE_ALLOWED: [&str; 7] = [
    "core/storage/src/disk/uring/",
    "core/storage/src/disk/aligned.rs",
    "core/transform/src/artifact.rs",
    "core/client/c/src/ffi/",
    "wasm-sdk/src/",
    "guests/modules/",
    "bench/hot/tests/allocations/counting.rs",
];

/// What each floor may stand on. An arrow that is not here points up.
const FLOORS: [(&str, &[&str]); 10] = [
    ("core/wire", &[]),
    ("core/engine", &["wire"]),
    ("core/storage", &["engine", "wire"]),
    ("core/security", &["wire"]),
    ("core/transform", &["wire"]),
    ("core/client", &["wire"]),
    ("core/client/c", &["client", "wire"]),
    ("core/cluster", &["client", "transform", "security", "storage", "engine", "wire"]),
    ("core/http", &["security", "engine", "wire"]),
    (
        "core/node",
        &[
            "http",
            "cluster",
            "client",
            "transform",
            "security",
            "storage",
            "engine",
            "wire",
            "guests",
        ],
    ),
];

/// The floors that decide: bytes and time come in as arguments.
const PURE: [&str; 2] = ["core/wire/src/", "core/engine/src/"];

/// What a pure floor never does, and how it gets the same.
const IMPURE: [(&str, &str); 9] = [
    ("std::fs", "files belong to storage"),
    ("std::net", "sockets belong to node"),
    ("std::thread", "the engine is driven, it does not run"),
    ("std::env", "settings are passed in"),
    ("Instant::now", "time is passed in"),
    ("SystemTime", "time is passed in"),
    ("tokio", "no runtime in a pure floor"),
    ("fastrand", "a seed is passed in"),
    ("RandomState", "iteration order must not depend on the process"),
];

/// Here the environment chooses what is broken, in builds for `tests/mutants` alone.
const MUTANTS: &str = "core/wire/src/mutant.rs";

struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    /// The lines before the unit tests, which stand last.
    fn lines_of_the_product(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().take_while(|(_, line)| line.trim() != "#[cfg(test)]")
    }
}

/// The files of the repository with one of these endings, without what is built or installed.
fn sources(endings: &[&str]) -> Vec<Source> {
    const NOT_OURS: [&str; 6] =
        ["target", "node_modules", ".venv", ".git", "__pycache__", "millpond-data"];
    let mut found = Vec::new();
    let mut dirs = vec![repository().to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                dirs.push(path);
            } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                found.extend(read(&path));
            }
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "no files end with {endings:?} under {:?}", repository());
    found
}

/// None for what is not text, or gone since it was listed.
fn read(path: &Path) -> Option<Source> {
    let text = std::fs::read_to_string(path).ok()?;
    let path: PathBuf = path.strip_prefix(repository()).unwrap_or(path).into();
    Some(Source { path: path.to_string_lossy().replace('\\', "/"), text })
}

#[track_caller]
fn expect_none(complaints: &[String], advice: &str) {
    let mut text = String::new();
    for complaint in complaints {
        let _ = writeln!(text, "  {complaint}");
    }
    assert!(complaints.is_empty(), "{} places. {advice}\n{text}", complaints.len());
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let silent = sources(&[".rs"]).into_iter().filter(|source| !source.text.starts_with("//!"));
    let silent: Vec<String> = silent.map(|source| source.path).collect();
    expect_none(&silent, "Open the file with `//!`: what it is, and what it must never do.");
}

#[test]
fn no_file_is_longer_than_one_noun() {
    let long = sources(&[".rs"]).into_iter().filter_map(|source| {
        let count = source.text.lines().count();
        (count > FILE_LINES_MAX).then(|| format!("{}: {count} lines", source.path))
    });
    expect_none(&long.collect::<Vec<_>>(), "One noun per file: split it.");
}

#[test]
fn no_function_is_longer_than_a_page() {
    let mut long = Vec::new();
    for source in sources(&[".rs"]) {
        let mut open: Option<(usize, String, String)> = None;
        for (number, line) in source.lines() {
            match &open {
                Some((start, end, name)) if line == end => {
                    let count = number - start + 1;
                    if count > FUNCTION_LINES_MAX {
                        long.push(format!("{}:{start}: {name}: {count} lines", source.path));
                    }
                    open = None;
                }
                Some(_) => {}
                None => open = function_start(number, line),
            }
        }
    }
    expect_none(&long, "A function fits on a page: name its parts.");
}

/// Where a function starts, the line that ends it, and its name. Formatted code closes a function
/// at the column where it starts.
fn function_start(number: usize, line: &str) -> Option<(usize, String, String)> {
    let code = line.trim_start();
    let (before, after) = code.split_once("fn ")?;
    let is_item = before.split_whitespace().all(|word| {
        matches!(word, "pub" | "async" | "const" | "unsafe" | "extern" | "\"C\"")
            || word.starts_with("pub(")
    });
    if !is_item || code.ends_with(';') || code.ends_with('}') {
        return None;
    }
    let indentation = &line[..line.len() - code.len()];
    let name = after.split(['(', '<']).next().unwrap_or_default();
    Some((number, format!("{indentation}}}"), name.into()))
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not complain about itself.
    let marks = [
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["db", "g!("].concat(),
        ["#[ig", "nore"].concat(),
    ];
    let mut left = Vec::new();
    for source in sources(&[".rs", ".py", ".js", ".java", ".sh"]) {
        for (number, line) in source.lines() {
            left.extend(
                marks
                    .iter()
                    .filter(|mark| line.contains(mark.as_str()))
                    .map(|mark| format!("{}:{number}: {mark}", source.path)),
            );
        }
    }
    expect_none(&left, "Do it now, or write an issue.");
}

#[test]
fn unsafe_stands_in_the_named_files_only_and_says_why_it_is_sound() {
    let keyword = ["un", "safe"].concat();
    // Declaring a foreign function promises nothing yet; calling it does.
    let uses = ["{", "fn ", "impl "].map(|what| format!("{keyword} {what}"));
    let mut bad = Vec::new();
    for source in sources(&[".rs"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.lines() {
            let code = line.split("//").next().unwrap_or_default();
            let attribute = code.contains(&format!("#[{keyword}("));
            if !attribute && !uses.iter().any(|text| code.contains(text.as_str())) {
                continue;
            }
            if !UNSAFE_ALLOWED.iter().any(|allowed| source.path.starts_with(allowed)) {
                bad.push(format!("{}:{number}: not a file for it", source.path));
            }
            // One explanation may speak for a group of exports.
            let reach = if attribute { 40 } else { 12 };
            let before = &lines[number.saturating_sub(reach)..number];
            let explained = before.iter().any(|line| {
                let comment = line.trim_start().starts_with("//");
                comment && (line.contains("SAFETY") || line.contains("# Safety"))
            });
            if !explained {
                bad.push(format!("{}:{number}: no `// SAFETY:` above it", source.path));
            }
        }
    }
    expect_none(&bad, "See core/ARCHITECTURE.md for where it may stand.");
}

#[test]
fn arrows_only_point_down() {
    let mut up = Vec::new();
    for (floor, allowed) in FLOORS {
        let path = repository().join(floor).join("Cargo.toml");
        let manifest = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(manifest.contains("[dependencies]"), "{path:?}: no manifest");
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let Some(name) = line.strip_prefix("millpond-") else { continue };
            let name = name.split(['.', ' ', '=']).next().unwrap_or_default();
            if section == "[dependencies]" && !allowed.contains(&name) {
                up.push(format!("{floor} depends on {name}"));
            }
        }
    }
    expect_none(&up, "Move the code to the floor below, or pass it in.");
}

#[test]
fn the_pure_floors_decide_and_do_nothing_else() {
    let mut impure = Vec::new();
    for source in sources(&[".rs"]) {
        if !PURE.iter().any(|floor| source.path.starts_with(floor)) || source.path == MUTANTS {
            continue;
        }
        for (number, line) in source.lines_of_the_product() {
            let code = line.split("//").next().unwrap_or_default();
            impure.extend(
                IMPURE
                    .iter()
                    .filter(|(what, _)| code.contains(what))
                    .map(|(what, instead)| format!("{}:{number}: {what}: {instead}", source.path)),
            );
        }
    }
    expect_none(&impure, "Pass it in.");
}

#[test]
fn tests_wait_for_events_and_not_for_time() {
    let naps = [["thread::", "sleep"].concat(), ["time::", "sleep("].concat()];
    let mut found = Vec::new();
    for source in sources(&[".rs"]) {
        if !source.path.starts_with("tests/") && !source.path.contains("/tests/") {
            continue;
        }
        let mut reason = "";
        for (number, line) in source.lines() {
            let nap = naps.iter().any(|nap| line.contains(nap.as_str()));
            // A peer that plays a slow one has to be slow, and says so.
            if nap && !reason.trim_start().starts_with("// Slow on purpose") {
                found.push(format!("{}:{number}", source.path));
            }
            reason = line;
        }
    }
    expect_none(
        &found,
        "Await the event: a line of the log, an answer, a closed connection. A peer that plays a \
         slow one says `// Slow on purpose: ...` on the line above.",
    );
}

#[test]
fn no_file_knows_the_machine_that_it_was_written_on() {
    let places = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/tmp/", "mp/"].concat()];
    let mut found = Vec::new();
    let endings =
        [".rs", ".md", ".toml", ".py", ".js", ".json", ".java", ".xml", ".sh", ".service"];
    for source in sources(&endings) {
        for (number, line) in source.lines() {
            if places.iter().any(|place| line.contains(place.as_str())) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    expect_none(&found, "Relative paths, or the environment.");
}
