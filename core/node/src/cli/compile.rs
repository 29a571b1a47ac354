//! `millpond compile-module`: not for people. A node starts it to compile a module: WebAssembly
//! comes in, machine code goes out, and whatever the compiler does stays within the limits that
//! this process sets on itself first.

use std::io::{self, Read, Write};

use clap::Args;
use millpond_transform::{EngineKind, Host, HostConfig};
use millpond_wire::limits::MODULE_BYTES_MAX;
use rustix::process::{Resource, Rlimit, nice, setrlimit};

use super::CliError;
use crate::transforms::{COMPILE_GREETING as GREETING, COMPILE_REFUSED as REFUSED};

/// Behind whatever else wants a processor.
const NICENESS: i32 = 10;
/// The first to go when memory is short.
const OOM_SCORE: &[u8] = b"1000";

/// The limits.
#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// What the code is for.
    #[arg(long, value_parser = engine)]
    engine: EngineKind,
    /// CPU time.
    #[arg(long)]
    cpu_ms: u64,
    /// Address space.
    #[arg(long)]
    memory_bytes: u64,
}

pub(super) fn run(args: &CompileArgs) -> Result<(), CliError> {
    io::stdout().write_all(GREETING)?;
    limit_itself(args)?;
    let mut wasm = Vec::new();
    io::stdin().take(MODULE_BYTES_MAX as u64 + 1).read_to_end(&mut wasm)?;
    // As the node's: the machine code depends on it.
    let config = HostConfig { engine: args.engine, ..HostConfig::default() };
    let host = Host::new(config).map_err(|e| CliError::failed(e.to_string()))?;
    match host.precompile(&wasm) {
        Ok(artifact) => Ok(io::stdout().write_all(&artifact)?),
        // Without a word before it: the node passes it on.
        Err(reason) => {
            eprintln!("{reason}");
            std::process::exit(REFUSED.into())
        }
    }
}

fn engine(name: &str) -> Result<EngineKind, String> {
    EngineKind::from_name(name).ok_or_else(|| format!("there is no engine {name:?}"))
}

fn limit_itself(args: &CompileArgs) -> Result<(), CliError> {
    // Where these may not be had, the limits still hold.
    let _ = nice(NICENESS);
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let limits = [
        (Resource::Cpu, args.cpu_ms.div_ceil(1_000)),
        (Resource::As, args.memory_bytes),
        (Resource::Core, 0),
    ];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|e| CliError::failed(format!("cannot set a limit: {e}")))?;
    }
    Ok(())
}
