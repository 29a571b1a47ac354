//! Machine code for modules: from the store's cache, or compiled by a child of this process that
//! has a limit on its time and memory, so that a module which makes the compiler run wild costs the
//! node nothing.
//!
//! It must never load code from anywhere else.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use millpond_transform::{CompiledModule, EngineKind, Host, Sha256};
use millpond_wire::limits::{MODULE_ARTIFACT_BYTES_MAX, MODULE_COMPILE_WAIT_FACTOR};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::store::ModuleStore;
use crate::config::Transforms;

/// This program, also when its file was replaced since it was started.
const SELF: &str = "/proc/self/exe";
/// The command that compiles; see `cli/compile.rs`.
pub(crate) const COMMAND: &str = "compile-module";
/// What a child says of a module that it refuses.
const REASON_BYTES_MAX: u64 = 4_096;
/// A child's first bytes: without them it is not this program, but, say, an emulator of it.
pub(crate) const GREETING: &[u8] = b"millpond compiles\n";
/// A child's exit code when it refuses a module.
pub(crate) const REFUSED: u8 = 65;

/// What a compilation may take.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    engine: EngineKind,
    cpu_ms: u64,
    memory_bytes: u64,
}

/// Why there is no machine code.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// The module's fault.
    Module(String),
    /// There is no child that could compile.
    Child(String),
}

/// Compiles modules and keeps what came of it.
#[derive(Clone)]
pub(super) struct Compiler {
    host: Host,
    store: ModuleStore,
    allowance: Allowance,
}

impl Compiler {
    pub(super) fn new(host: Host, store: ModuleStore, config: &Transforms) -> Self {
        let allowance = Allowance {
            engine: host.config().engine,
            cpu_ms: config.compile_ms_max,
            memory_bytes: config.compile_memory_bytes.0,
        };
        Self { host, store, allowance }
    }

    /// A module ready to run, from what was compiled before if that is there.
    ///
    /// # Errors
    /// Why the module cannot run, in words for its author.
    pub(super) async fn ready(&self, wasm: Bytes) -> Result<CompiledModule, String> {
        let (hash, cached) = self.cached(wasm.clone()).await?;
        if let Some(module) = cached {
            return Ok(module);
        }
        // The program of the unit tests cannot compile for itself.
        let is_own_program = !cfg!(test) && Path::new(SELF).exists();
        if !is_own_program {
            return self.compile_inside(wasm).await;
        }
        let artifact = match compile_in_child(&wasm, self.allowance).await {
            Ok(artifact) => artifact,
            Err(Failed::Module(reason)) => return Err(reason),
            Err(Failed::Child(reason)) => {
                tracing::warn!(reason, "no process to compile in: compiled here, without limits");
                return self.compile_inside(wasm).await;
            }
        };
        let (host, store) = (self.host.clone(), self.store.clone());
        let engine = self.allowance.engine;
        blocking(move || {
            let module = host.load(hash, &artifact).map_err(|e| e.to_string())?;
            if let Err(error) = store.put_artifact(&hash.0, engine, &artifact) {
                tracing::warn!(%error, "compiled code is not kept; the next start compiles again");
            }
            Ok(module)
        })
        .await
    }

    /// The hash of a module, of which a large one takes a while, and what was compiled of it before.
    async fn cached(&self, wasm: Bytes) -> Result<(Sha256, Option<CompiledModule>), String> {
        let (host, store) = (self.host.clone(), self.store.clone());
        let engine = self.allowance.engine;
        let look = move || {
            let hash = Sha256::of(&wasm);
            let artifact = store.artifact(&hash.0, engine);
            let loaded = artifact.map(|artifact| host.load(hash, &artifact)).transpose();
            let module = loaded.unwrap_or_else(|reason| {
                tracing::info!(module = %hash, "compiled again: {reason}");
                None
            });
            Ok((hash, module))
        };
        blocking(look).await
    }

    async fn compile_inside(&self, wasm: Bytes) -> Result<CompiledModule, String> {
        let host = self.host.clone();
        blocking(move || host.compile(&wasm).map_err(|e| e.to_string())).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| format!("the compiler's thread stopped: {e}"))?
}

/// Lets a child compile; ends it when it takes too long.
async fn compile_in_child(wasm: &[u8], allowance: Allowance) -> Result<Vec<u8>, Failed> {
    let mut child = Command::new(SELF)
        .arg(COMMAND)
        .arg(format!("--engine={}", allowance.engine.name()))
        .arg(format!("--cpu-ms={}", allowance.cpu_ms))
        .arg(format!("--memory-bytes={}", allowance.memory_bytes))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Failed::Child(e.to_string()))?;
    let wait = Duration::from_millis(allowance.cpu_ms.saturating_mul(MODULE_COMPILE_WAIT_FACTOR));
    match tokio::time::timeout(wait, converse(&mut child, wasm, allowance)).await {
        Ok(answer) => answer,
        // Dropped, so ended.
        Err(_) => {
            let reason = format!("it was still being compiled after {} s", wait.as_secs());
            Err(Failed::Module(reason))
        }
    }
}

async fn converse(child: &mut Child, wasm: &[u8], allowance: Allowance) -> Result<Vec<u8>, Failed> {
    let lost = |e: std::io::Error| Failed::Child(e.to_string());
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Failed::Child("it has no streams".into()));
    };
    let (mut artifact, mut reason) = (Vec::new(), Vec::new());
    let give = async move {
        // A child that has refused does not read on; its reason says why.
        let _ = stdin.write_all(wasm).await;
        Ok(())
    };
    let mut stdout = stdout.take(MODULE_ARTIFACT_BYTES_MAX as u64 + 1);
    let mut stderr = stderr.take(REASON_BYTES_MAX);
    tokio::try_join!(give, async { stdout.read_to_end(&mut artifact).await }, async {
        stderr.read_to_end(&mut reason).await
    },)
    .map_err(lost)?;
    let status = child.wait().await.map_err(lost)?;
    if !artifact.starts_with(GREETING) {
        let said = String::from_utf8_lossy(&reason);
        return Err(Failed::Child(format!("{status}: {}", said.trim())));
    }
    if !status.success() {
        return Err(Failed::Module(why_not(status, &reason, allowance)));
    }
    match artifact.len() <= MODULE_ARTIFACT_BYTES_MAX {
        true => Ok(artifact.split_off(GREETING.len())),
        false => Err(Failed::Module(format!(
            "its machine code is larger than {MODULE_ARTIFACT_BYTES_MAX} bytes"
        ))),
    }
}

/// A child that refuses says why; one that ended otherwise has met a limit.
fn why_not(status: ExitStatus, reason: &[u8], allowance: Allowance) -> String {
    if status.code() == Some(i32::from(REFUSED)) {
        return String::from_utf8_lossy(reason).trim().to_owned();
    }
    format!(
        "the compiler gave up on it ({status}): it may take {} ms and {} MiB \
         (transforms.compile_ms_max, transforms.compile_memory_bytes)",
        allowance.cpu_ms,
        allowance.memory_bytes >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_refusal_is_in_the_compilers_words_and_any_other_end_a_limit() {
        let allowance =
            Allowance { engine: EngineKind::Native, cpu_ms: 500, memory_bytes: 64 << 20 };
        let ended = |raw, said: &[u8]| why_not(ExitStatus::from_raw(raw), said, allowance);
        let refused = ended(i32::from(REFUSED) << 8, b"no memory is exported\n");
        assert_eq!(refused, "no memory is exported");
        for limit in [9, 24, 1 << 8, 101 << 8] {
            let said = ended(limit, b"half a wo");
            assert!(said.contains("gave up on it") && said.contains("500 ms"), "{said}");
        }
    }
}
