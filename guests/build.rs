//! Builds the modules in `modules/` to WebAssembly with the cargo that runs this script, into
//! `OUT_DIR`.
//!
//! It must never inherit what is meant for the host's build: flags, wrappers (clippy's, too), the
//! target directory. And it never writes to the source tree.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-unknown-unknown";

fn main() {
    watch_sources();
    let out_dir = PathBuf::from(variable("OUT_DIR"));
    let modules = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("modules");
    let target_dir = out_dir.join("wasm");
    build(&modules, &target_dir);
    let built = target_dir.join(TARGET).join("release");
    println!("cargo::rustc-env=MILLPOND_GUESTS_DIR={}", built.display());
}

/// All but what a build by hand leaves in `modules/target`.
fn watch_sources() {
    for path in ["../wasm-sdk/src", "../wasm-sdk/Cargo.toml", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let entries = std::fs::read_dir("modules")
        .unwrap_or_else(|error| fail(&format!("cannot read guests/modules: {error}")));
    for entry in entries.flatten().filter(|entry| entry.file_name() != "target") {
        println!("cargo::rerun-if-changed={}", entry.path().display());
    }
}

fn build(modules: &Path, target_dir: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    for (name, _) in env::vars_os() {
        if is_of_the_host_build(&name.to_string_lossy()) {
            cargo.env_remove(name);
        }
    }
    let status = cargo
        .current_dir(modules)
        .env("RUSTC", variable("RUSTC"))
        .args(["build", "--release", "--locked", "--offline", "--quiet"])
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) if target_is_missing() => fail(&format!(
            "cannot build the WebAssembly modules ({status}): the Rust target {TARGET} is not \
             installed; run: rustup target add {TARGET}"
        )),
        Ok(status) => fail(&format!(
            "cannot build the WebAssembly modules in {} ({status}); cargo's own message is above",
            modules.display()
        )),
        Err(error) => fail(&format!("cannot start cargo for the WebAssembly modules: {error}")),
    }
}

/// What cargo and its callers set for the outer build. `CARGO_HOME` and the toolchain's choice
/// stay.
fn is_of_the_host_build(name: &str) -> bool {
    let ours = name.starts_with("CARGO") && name != "CARGO_HOME" && name != "CARGO_HTTP_CAINFO";
    ours || name.starts_with("RUSTC")
        || name.starts_with("RUSTDOC")
        || name.starts_with("CLIPPY")
        || matches!(name, "RUSTFLAGS" | "MAKEFLAGS" | "MFLAGS" | "TARGET" | "HOST")
}

fn target_is_missing() -> bool {
    let output = Command::new(variable("RUSTC"))
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    match output {
        Ok(output) => {
            let libdir = String::from_utf8_lossy(&output.stdout).into_owned();
            !Path::new(libdir.trim()).is_dir()
        }
        Err(_) => true,
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
