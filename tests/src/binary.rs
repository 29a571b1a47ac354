//! Where the things under test are: the `millpond` binary, the repository, a scratch directory on
//! a real disk. Never takes a stale binary: it is built anew unless `MILLPOND_BIN` names one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Once, OnceLock};

use crate::command::Program;

/// The root of the repository.
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The broker's binary: `$MILLPOND_BIN`, else the workspace's own, built now.
pub fn millpond() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("MILLPOND_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "MILLPOND_BIN={}: no such file", path.display());
            path
        }
        None => build(),
    })
}

/// A program that has to run the binary, from `$MILLPOND_RUNNER`: an emulator, for a binary of
/// another architecture.
pub fn runner() -> Option<OsString> {
    std::env::var_os("MILLPOND_RUNNER").filter(|program| !program.is_empty())
}

/// `millpond ARGUMENTS`, ready to run.
pub fn millpond_program<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Program {
    let words = runner().into_iter().chain([millpond().into()]);
    let mut words = words.chain(arguments.into_iter().map(Into::into));
    let program = words.next().unwrap_or_default();
    Program::new(PathBuf::from(program), words)
}

/// An empty directory of its own on the disk of the target directory (`/tmp` is often memory,
/// which knows no O_DIRECT). Removed when dropped; what a process could not drop, because it was
/// killed or kept it to its end, the next one removes.
pub fn scratch() -> tempfile::TempDir {
    static SWEPT: Once = Once::new();
    let parent = profile_dir().join("millpond-scratch");
    SWEPT.call_once(|| sweep(&parent));
    let prefix = format!("{SCRATCH_PREFIX}{}-", std::process::id());
    std::fs::create_dir_all(&parent)
        .and_then(|()| tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent))
        .unwrap_or_else(|error| panic!("{}: {error}", parent.display()))
}

/// Where programs that tests start keep what they call temporary. JVMs unpack libraries of many
/// MiB there, and one that is killed leaves them.
pub fn temporary_dir() -> &'static Path {
    static KEPT: OnceLock<tempfile::TempDir> = OnceLock::new();
    KEPT.get_or_init(scratch).path()
}

const SCRATCH_PREFIX: &str = "run-";

/// Remove the directories of processes that are no more.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(SCRATCH_PREFIX).and_then(|rest| rest.split_once('-'));
        if owner.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            // Another test process may be removing it too.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// `target/debug` or `target/release`: two above this test's own `deps/NAME`.
fn profile_dir() -> PathBuf {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => panic!("where is this test? {error}"),
    };
    match own.parent().and_then(Path::parent) {
        Some(dir) => dir.to_path_buf(),
        None => panic!("{}: not in a target directory", own.display()),
    }
}

/// Where the C library is (`libmillpond_c.a`, `libmillpond_c.so`): beside `$MILLPOND_BIN`, where one build
/// made both, else built now.
pub fn library_c() -> PathBuf {
    let beside = std::env::var_os("MILLPOND_BIN").map(PathBuf::from);
    let beside = beside.and_then(|binary| binary.parent().map(Path::to_path_buf));
    match beside.filter(|dir| dir.join("libmillpond_c.a").is_file()) {
        Some(dir) => dir,
        None => cargo_build("millpond-client-c"),
    }
}

fn build() -> PathBuf {
    cargo_build("millpond").join("millpond")
}

/// Builds a package of the workspace as this test was built; where its artefacts are.
fn cargo_build(package: &str) -> PathBuf {
    let profile_dir = profile_dir();
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("release") => "release",
        _ => "dev",
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", package, "--profile", profile]);
    command.current_dir(repository());
    if let Some(target) = profile_dir.parent() {
        command.arg("--target-dir").arg(target);
    }
    // What cargo set for this test is not meant for another package.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    match command.status() {
        Ok(status) if status.success() => profile_dir,
        Ok(status) => panic!("cargo build -p {package}: {status}"),
        Err(error) => panic!("cargo build -p {package}: {error}"),
    }
}
