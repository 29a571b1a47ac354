//! Puts the sources of the module SDK into the binary, so that `millpond transform init` makes a
//! project that builds anywhere. It never writes outside `OUT_DIR`.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let sdk = own.join("../../wasm-sdk");
    let mut files = vec![sdk.join("Cargo.toml"), sdk.join("README.md")];
    sources(&sdk.join("src"), &mut files);
    files.sort();
    let mut list = String::from(
        "/// Path and content of each file of the SDK.\nconst SDK: &[(&str, &str)] = &[\n",
    );
    for file in &files {
        let name = file.strip_prefix(&sdk).expect("below it").display().to_string();
        let path = file.display().to_string();
        writeln!(list, "    ({name:?}, include_str!({path:?})),").expect("a string takes it");
        println!("cargo::rerun-if-changed={path}");
    }
    list.push_str("];\n");
    println!("cargo::rerun-if-changed={}", sdk.join("src").display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("sdk.rs");
    fs::write(out, list).expect("the build directory takes a file");
}

/// Every Rust file below a directory.
fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).expect("the SDK stands beside");
    for path in entries.map(|entry| entry.expect("it can be read").path()) {
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
