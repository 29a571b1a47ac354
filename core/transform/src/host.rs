//! The engine that all guests of a node share, and how it is set up.
//!
//! No feature is on that the contracts do not need. Precompiled code is taken in `artifact.rs`
//! alone.

use crate::compile::{self, CompileError, CompiledModule};
use crate::imports::{self, GuestState};
use crate::ticker::{Running, Ticker};
use millpond_wire::limits as caps;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use thiserror::Error;
use wasmtime::{Config, Engine, Inlining, Linker, OptLevel, Strategy};

/// How modules are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineKind {
    /// As machine code, compiled when a module is deployed.
    #[default]
    Native,
    /// By an interpreter, some ten times slower: for systems that let no process make code for
    /// itself. No page of the process is made executable.
    Interpreter,
}

impl EngineKind {
    /// The name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Native => "native",
            EngineKind::Interpreter => "interpreter",
        }
    }

    /// The extension of the files in which what it compiles of modules is kept: each engine's apart
    /// from the other's.
    pub fn artifact_extension(self) -> &'static str {
        match self {
            EngineKind::Native => "code",
            EngineKind::Interpreter => "bytecode",
        }
    }

    /// All of them.
    pub const ALL: [EngineKind; 2] = [EngineKind::Native, EngineKind::Interpreter];

    /// The engine of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        EngineKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What the host may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostConfig {
    /// How modules are run.
    pub engine: EngineKind,
    /// Address space reserved for an instance's memory, and the most that a transform may ask
    /// for.
    pub reservation_bytes: usize,
    /// Linear memory of all instances together.
    pub memory_bytes: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        HostConfig {
            engine: EngineKind::default(),
            reservation_bytes: caps::DEFAULT_TRANSFORM_RESERVATION_BYTES,
            memory_bytes: caps::DEFAULT_TRANSFORMS_MEMORY_BYTES,
        }
    }
}

/// Why there is no host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// This machine cannot do what the engine needs.
    #[error("the WebAssembly engine cannot run here: {0}")]
    Engine(String),
    /// No thread for the clock beat.
    #[error("cannot start the thread that limits CPU time: {0}")]
    Ticker(#[from] std::io::Error),
}

/// Runs guests. Cloning it shares it.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<GuestState>,
    ticker: Ticker,
    memory: Arc<MemoryPool>,
    config: HostConfig,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Host {
    /// Sets the engine up and starts the thread that limits CPU time.
    ///
    /// # Errors
    /// The machine lacks something.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let refuse = |error: wasmtime::Error| HostError::Engine(format!("{error:#}"));
        let engine = Engine::new(&engine_config(&config).map_err(refuse)?).map_err(refuse)?;
        let linker = imports::linker(&engine).map_err(refuse)?;
        let ticker = Ticker::start(engine.clone())?;
        let memory = Arc::new(MemoryPool { used: AtomicUsize::new(0), limit: config.memory_bytes });
        Ok(Host { inner: Arc::new(Inner { engine, linker, ticker, memory, config }) })
    }

    /// Checks and compiles a module. Takes milliseconds to seconds of CPU: never call it where a
    /// record waits.
    ///
    /// # Errors
    /// What is wrong with the module, in words for its author.
    pub fn compile(&self, wasm: &[u8]) -> Result<CompiledModule, CompileError> {
        compile::compile(&self.inner.engine, &self.inner.linker, wasm)
    }

    /// What it was made with.
    pub fn config(&self) -> HostConfig {
        self.inner.config
    }

    /// Linear memory of all live instances, in bytes.
    pub fn memory_used_bytes(&self) -> usize {
        self.inner.memory.used.load(Ordering::Relaxed)
    }

    pub(crate) fn linker(&self) -> &Linker<GuestState> {
        &self.inner.linker
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn memory_pool(&self) -> Arc<MemoryPool> {
        Arc::clone(&self.inner.memory)
    }

    pub(crate) fn running(&self) -> Running<'_> {
        self.inner.ticker.running()
    }
}

fn engine_config(host: &HostConfig) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    if host.engine == EngineKind::Interpreter {
        config.target(INTERPRETER_TARGET)?;
    }
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .compiler_inlining(Inlining::No)
        .epoch_interruption(true)
        .max_wasm_stack(caps::TRANSFORM_STACK_BYTES)
        .async_stack_size(caps::TRANSFORM_STACK_BYTES * 2);
    // Reservations equal to the limit: small machines have 39-bit addresses (wasmtime#8607).
    config
        .memory_reservation(host.reservation_bytes as u64)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        .memory_guard_size(guard_bytes(host.engine))
        .guard_before_linear_memory(false);
    config
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .concurrency_support(false);
    Ok(config)
}

/// The interpreter's bytecode, in the width and order of bytes of this machine.
const INTERPRETER_TARGET: &str =
    match (cfg!(target_pointer_width = "64"), cfg!(target_endian = "big")) {
        (true, false) => "pulley64",
        (true, true) => "pulley64be",
        (false, false) => "pulley32",
        (false, true) => "pulley32be",
    };

/// The interpreter checks every access by itself.
fn guard_bytes(engine: EngineKind) -> u64 {
    match engine {
        EngineKind::Native => 64 * 1024,
        EngineKind::Interpreter => 0,
    }
}

/// The linear memory that all instances share.
#[derive(Debug)]
pub(crate) struct MemoryPool {
    used: AtomicUsize,
    limit: usize,
}

impl MemoryPool {
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit
    }
}
