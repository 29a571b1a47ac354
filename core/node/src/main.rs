//! `millpond`: the broker and its tools in one binary. This file only starts the command line.

mod cli;
mod config;
mod demo;
mod hex;
mod http;
mod metrics;
mod net;
mod serve;
mod transforms;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
