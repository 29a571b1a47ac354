//! `millpond log`: the data directory of a stopped node, for people in trouble. It must never run
//! beside a node, and writes nothing unless it is told to.

mod dump;
mod repair;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use millpond_storage::disk::{BackendChoice, RealDisk};
use millpond_storage::offline::{DataDir, OfflineError};
use tokio::task::LocalSet;

use super::CliError;

/// `millpond log`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  millpond log verify --data-dir /var/lib/millpond
  millpond log dump --journal --topic readings
  millpond log dump --records --topic readings --partition 0 --from-offset 1000 --limit 20
  millpond log repair                 says what it would do
  millpond log repair --yes           does it

The node must be stopped. Exit codes: 0 in order, 1 damage, 2 typed wrongly or not to be read.")]
pub(super) struct LogArgs {
    /// The data directory.
    #[arg(long, global = true, default_value = "./millpond-data", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Show what is stored: the checkpoint, the journal, segments, records.
    Dump(dump::DumpArgs),
    /// Read everything and check it; changes nothing.
    Verify,
    /// Make a damaged directory usable again, losing what is damaged and nothing else.
    Repair(repair::RepairArgs),
}

/// Runs the command.
pub(super) fn run(args: &LogArgs, json: bool) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::usage(e.to_string()))?;
    runtime.block_on(LocalSet::new().run_until(async {
        let dir = open(&args.data_dir).await?;
        match &args.command {
            LogCommand::Dump(what) => dump::run(&dir, what, json).await,
            LogCommand::Verify => verify::run(&dir, json).await,
            LogCommand::Repair(how) => repair::run(&dir, how, json).await,
        }
    }))
}

async fn open(path: &Path) -> Result<DataDir<RealDisk>, CliError> {
    // Opening makes a directory that is not there: nobody who looks wants that.
    if !path.is_dir() {
        let what = format!("there is no directory {}", path.display());
        return Err(CliError::usage(what).hint("name the node's directory with --data-dir"));
    }
    let disk = RealDisk::open(path, BackendChoice::Auto).map_err(|e| explain(&e.into()))?;
    DataDir::lock(disk).await.map_err(|e| explain(&e))
}

/// What keeps the directory from being looked at. Damage is not among it.
fn explain(error: &OfflineError) -> CliError {
    let plain = CliError::usage(error.to_string());
    match error {
        OfflineError::InUse => plain.hint("stop the node first: it and this cannot share it"),
        OfflineError::NoCheckpoint => plain.hint("is --data-dir the node's directory?"),
        _ => plain,
    }
}
