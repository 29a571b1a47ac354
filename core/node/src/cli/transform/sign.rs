//! `millpond transform keygen` and `sign`: who makes modules signs them, away from the nodes. A
//! private key is only ever written to a file that its owner alone can read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use millpond_security::{Manifest, PackageError, PackageKey, sign};

use super::super::{CliError, text};

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// Where the private key goes; keep it away from the nodes.
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
#[command(after_help = "Example:
  millpond transform keygen release.pem     # prints the public key: transforms.trusted_keys
  millpond transform sign hot.wasm --key release.pem --name hot --version 1.4.0 --counter 14

The signed module takes the place of the file, unless --to names another. The counter must grow
with each release: a node refuses a package with a lower one than it has had under that name.")]
pub(super) struct SignArgs {
    /// The module, a .wasm file, or a project in which it was built.
    module: PathBuf,
    /// The private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The transform that it is for.
    #[arg(long)]
    name: String,
    /// The label of this version.
    #[arg(long)]
    version: String,
    /// Grows with each release.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    counter: u64,
    /// Where the signed module goes.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) fn keygen(args: &KeygenArgs, json: bool) -> Result<(), CliError> {
    let key = PackageKey::generate().map_err(|e| failed(&e))?;
    let public = key.public().map_err(|e| failed(&e))?.to_string();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    let written = file.and_then(|mut file| {
        file.write_all(key.to_pem().as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| CliError::usage(format!("{}: {e}", args.file.display())))?;
    if json {
        return text::print_json(&serde_json::json!({ "public_key": public }));
    }
    text::print(&format!("{public}\n"))
}

pub(super) fn run(args: &SignArgs, json: bool) -> Result<(), CliError> {
    let pem = read(&args.key)?;
    let key = PackageKey::from_pem(&pem).map_err(|e| failed(&e))?;
    let module = super::project::module_of(&args.module)?;
    let manifest =
        Manifest { name: args.name.clone(), version: args.version.clone(), counter: args.counter };
    let signed = sign(&super::read_module(&module)?, &manifest, &key).map_err(|e| failed(&e))?;
    let to = args.to.as_ref().unwrap_or(&module);
    std::fs::write(to, &signed).map_err(|e| CliError::failed(format!("{}: {e}", to.display())))?;
    if json {
        return text::print_json(&serde_json::json!({ "module": to, "bytes": signed.len() }));
    }
    let Manifest { name, version, counter } = manifest;
    text::print(&format!("signed {} as {name} {version}, counter {counter}\n", to.display()))
}

fn read(file: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(file).map_err(|e| {
        CliError::usage(format!("{}: {e}", file.display()))
            .hint("`millpond transform keygen FILE` makes a key")
    })
}

fn failed(error: &PackageError) -> CliError {
    CliError::failed(error.to_string())
}
