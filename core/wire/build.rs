//! Turns `schema/*.txt` into the messages, the API table and the samples of the tests. Must never read anything but
//! the schema, so that a build is the same everywhere.

#[path = "build/emit.rs"]
mod emit;
#[path = "build/emit_api.rs"]
mod emit_api;
#[path = "build/emit_samples.rs"]
mod emit_samples;
#[path = "build/guard.rs"]
mod guard;
#[path = "build/schema.rs"]
mod schema;

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let schema = read_schema(Path::new("schema"));
    write(&out.join("api.rs"), &emit_api::api_table(&schema));
    let mut messages = emit::messages(&schema);
    messages.push_str(&emit_api::unions(&schema));
    write(&out.join("messages.rs"), &messages);
    write(&out.join("samples.rs"), &emit_samples::samples(&schema));
}

fn read_schema(folder: &Path) -> schema::Schema {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the schema folder can be listed")
        .map(|entry| entry.expect("the schema folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    let mut schema = schema::Schema::default();
    for path in paths {
        let text = fs::read_to_string(&path).expect("a schema file can be read");
        if let Err(problem) = schema.parse(&text) {
            panic!("{}: {problem}", path.display());
        }
    }
    schema.apis.sort_by_key(|api| api.key);
    schema
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
