//! `millpond demo`: a running pipeline on this machine, to look at.

use clap::Args;

use crate::cli::CliError;

/// `millpond demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How long it runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the demo.
pub(crate) async fn run(args: DemoArgs) -> Result<(), CliError> {
    Err(CliError::failed(format!("a demo of {} s is not part of this build", args.seconds)))
}
