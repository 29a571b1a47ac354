//! `millpond transform init` and `build`: a project for a module that builds at once, with the SDK
//! beside it, and where its parts stand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use super::super::{CliError, text};
use crate::hex::hex;

include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

const TARGET: &str = "wasm32-unknown-unknown";
const TEST_FILE: &str = "transform.test.json";

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The directory to make; its name becomes the module's.
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The project.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// Makes a project that keeps what is hot.
pub(super) fn init(args: &InitArgs, json: bool) -> Result<(), CliError> {
    let dir = &args.dir;
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_plain) {
        return Err(CliError::usage(format!(
            "{name:?} cannot be the name of a project: lower case letters, digits and dashes"
        )));
    }
    if dir.exists() {
        return Err(CliError::usage(format!("{} exists already", dir.display())));
    }
    let put = |path: PathBuf, content: &str| -> Result<(), CliError> {
        let parent = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|e| CliError::failed(format!("{}: {e}", path.display())))
    };
    put(dir.join("Cargo.toml"), &MANIFEST.replace("NAME", name))?;
    put(dir.join(".cargo/config.toml"), CARGO_CONFIG)?;
    put(dir.join(".gitignore"), "target/\n")?;
    put(dir.join("src/lib.rs"), SOURCE)?;
    put(dir.join(TEST_FILE), CASES)?;
    for (path, content) in SDK {
        put(dir.join("millpond-sdk").join(path), content)?;
    }
    if json {
        return text::print_json(&serde_json::json!({ "project": dir }));
    }
    let shown = dir.display();
    text::print(&format!(
        "made {shown}: a module that keeps what is hot\n\
         next: millpond transform build {shown}\n      \
         millpond transform test {shown}\n"
    ))
}

/// Builds a project and says where the module is.
pub(super) fn build(args: &BuildArgs, json: bool) -> Result<(), CliError> {
    if !args.dir.join("Cargo.toml").is_file() {
        let missing = format!("{} has no Cargo.toml", args.dir.display());
        return Err(CliError::usage(missing).hint("`millpond transform init DIR` makes a project"));
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&args.dir).args(["build", "--release", "--target", TARGET]);
    // Cargo's own words go to standard error; standard output is ours.
    let status = cargo.stdout(Stdio::null()).status().map_err(|e| {
        CliError::failed(format!("cannot start cargo: {e}")).hint("install Rust with rustup")
    })?;
    if !status.success() {
        let hint = format!("if the target is missing: rustup target add {TARGET}");
        return Err(CliError::failed("cargo did not build the module").hint(hint));
    }
    let module = module_of(&args.dir)?;
    let wasm = super::read_module(&module)?;
    let hash = hex(&millpond_transform::Sha256::of(&wasm).0);
    if json {
        let built = serde_json::json!({ "module": module, "bytes": wasm.len(), "sha256": hash });
        return text::print_json(&built);
    }
    text::print(&format!("{}\n  {} bytes, SHA-256 {hash}\n", module.display(), wasm.len()))
}

/// The module: the file itself, or what was built in a project.
pub(super) fn module_of(path: &Path) -> Result<PathBuf, CliError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let built = path.join("target").join(TARGET).join("release");
    let mut modules: Vec<PathBuf> = std::fs::read_dir(&built)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    match (modules.pop(), modules.is_empty()) {
        (Some(module), true) => Ok(module),
        (None, _) => {
            let missing = format!("no module was built in {}", path.display());
            let hint = format!("millpond transform build {}", path.display());
            Err(CliError::usage(missing).hint(hint))
        }
        (Some(_), false) => {
            let several = format!("{} holds several modules; name one", built.display());
            Err(CliError::usage(several))
        }
    }
}

/// The file with the cases of a module or a project.
pub(super) fn beside(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.join(TEST_FILE),
        false => path.with_file_name(TEST_FILE),
    }
}

const MANIFEST: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
millpond-sdk = { path = "millpond-sdk" }

[profile.release]
lto = "fat"
codegen-units = 1
panic = "abort"
strip = true

# On its own, wherever it stands; so is the SDK.
[workspace]
exclude = ["millpond-sdk"]
"#;

const CARGO_CONFIG: &str = r#"[target.wasm32-unknown-unknown]
rustflags = ["-C", "target-feature=+simd128"]
"#;

const SOURCE: &str = r#"//! Keeps the records whose `celsius` is above a limit.

use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, json, register};

/// The setting `above`, 70 unless it is set.
struct Hot {
    above: f64,
}

impl Transform for Hot {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        Ok(Hot { above: settings.parse("above")?.unwrap_or(70.0) })
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let celsius = json::number(record.value_or_empty(), "celsius").ok_or("no celsius")?;
        Ok(if celsius > self.above { Verdict::Keep } else { Verdict::Drop })
    }
}

register!(Hot);
"#;

const CASES: &str = r#"{
  "topic": "readings",
  "cases": [
    {
      "name": "what is hot is kept as it is, what is cold is dropped",
      "records": [
        { "key": "pump-1", "value": { "json": { "celsius": 81.5 } } },
        { "key": "pump-1", "value": { "json": { "celsius": 31.5 } } }
      ],
      "expect": [{ "key": "pump-1", "value": { "json": { "celsius": 81.5 } } }]
    },
    {
      "name": "the limit is a setting",
      "settings": { "above": "20" },
      "records": [{ "value": { "json": { "celsius": 31.5 } } }],
      "expect": [{ "value": { "json": { "celsius": 31.5 } } }]
    },
    {
      "name": "a record without degrees is a dead letter",
      "records": [{ "value": "hello" }],
      "expect": [{ "topic": "readings.dead-letter", "value": "hello" }]
    }
  ]
}
"#;
