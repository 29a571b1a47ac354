//! Checks a module and makes machine code of it.
//!
//! Only modules that keep to the contract get through, and what is said about the others is meant
//! for their authors.

use crate::abi;
use crate::imports::GuestState;
use crate::module_shape;
use crate::redpanda;
use crate::spec::Sha256;
use crate::{helper_imports, state_imports};
use millpond_wire::limits as caps;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use thiserror::Error;
use wasmtime::{Engine, ExternType, ImportType, InstancePre, Linker, Module, ValType};

/// How a module and the host speak to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contract {
    /// The product's own: `millpond_transform_v1`.
    Millpond,
    /// Redpanda's, versions 1 and 2.
    Redpanda,
}

/// A module ready to run. Cloning it shares it.
#[derive(Clone)]
pub struct CompiledModule {
    pub(crate) pre: InstancePre<GuestState>,
    contract: Contract,
    keeps_state: bool,
    has_timers: bool,
    hash: Sha256,
    wasm_bytes: usize,
    code_bytes: usize,
    memory_bytes: u64,
    compile_time: Duration,
}

impl CompiledModule {
    pub(crate) fn new(
        module: &Module,
        ready: Ready,
        hash: Sha256,
        wasm_bytes: usize,
        compile_time: Duration,
    ) -> Self {
        CompiledModule {
            pre: ready.pre,
            contract: ready.contract,
            keeps_state: ready.keeps_state,
            has_timers: ready.has_timers,
            hash,
            wasm_bytes,
            code_bytes: module.text().len(),
            memory_bytes: initial_memory_bytes(module),
            compile_time,
        }
    }

    /// What it keeps to.
    pub fn contract(&self) -> Contract {
        self.contract
    }

    /// Whether it keeps state: it imports a function for that, or runs timers.
    pub fn keeps_state(&self) -> bool {
        self.keeps_state
    }

    /// Whether it runs timers.
    pub fn has_timers(&self) -> bool {
        self.has_timers
    }

    /// Its address.
    pub fn hash(&self) -> Sha256 {
        self.hash
    }

    /// Bytes of the WebAssembly.
    pub fn wasm_bytes(&self) -> usize {
        self.wasm_bytes
    }

    /// Bytes of the machine code.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    /// Linear memory that an instance starts with.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// How long compilation took, or the loading of what was compiled before.
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }
}

impl fmt::Debug for CompiledModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledModule")
            .field("hash", &self.hash)
            .field("wasm_bytes", &self.wasm_bytes)
            .field("code_bytes", &self.code_bytes)
            .finish_non_exhaustive()
    }
}

/// Why a module cannot be a transform.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Above the cap.
    #[error("the module has {bytes} bytes; up to {max} are taken (strip it, optimise for size)")]
    TooLarge {
        /// As given.
        bytes: usize,
        /// The cap.
        max: usize,
    },
    /// Not WebAssembly, or with features that are off.
    #[error("not a WebAssembly module that can run here: {0}")]
    Invalid(String),
    /// More, or larger, functions than are compiled.
    #[error("the module has {what}; up to {max} are compiled")]
    Shape {
        /// What there is too much of.
        what: String,
        /// The cap.
        max: usize,
    },
    /// An import that does not exist.
    #[error("the module imports `{module}.{name}`, which is not there{hint}")]
    Import {
        /// Its module.
        module: String,
        /// Its name.
        name: String,
        /// What may help.
        hint: &'static str,
    },
    /// An export is missing or of another type.
    #[error("the module must export `{name}` as {wanted}{hint}")]
    Export {
        /// Its name.
        name: &'static str,
        /// Its type.
        wanted: &'static str,
        /// What may help.
        hint: &'static str,
    },
}

pub(crate) fn compile(
    engine: &Engine,
    linker: &Linker<GuestState>,
    wasm: &[u8],
) -> Result<CompiledModule, CompileError> {
    let started = Instant::now();
    let module = module(engine, wasm)?;
    let ready = ready(linker, &module)?;
    let hash = Sha256::of(wasm);
    Ok(CompiledModule::new(&module, ready, hash, wasm.len(), started.elapsed()))
}

/// Machine code of a module whose shape is bearable.
pub(crate) fn module(engine: &Engine, wasm: &[u8]) -> Result<Module, CompileError> {
    if wasm.len() > caps::MODULE_BYTES_MAX {
        return Err(CompileError::TooLarge { bytes: wasm.len(), max: caps::MODULE_BYTES_MAX });
    }
    // Said before the compiler says it in its own words.
    if !wasm.starts_with(b"\0asm\x01\0\0\0") {
        return Err(CompileError::Invalid(not_a_module(wasm).to_string()));
    }
    module_shape::check(wasm)?;
    compile_guarded(engine, wasm)?.map_err(invalid)
}

/// What a module needs to be instantiated.
pub(crate) struct Ready {
    pre: InstancePre<GuestState>,
    contract: Contract,
    keeps_state: bool,
    has_timers: bool,
}

/// Checks that a module keeps to a contract.
pub(crate) fn ready(linker: &Linker<GuestState>, module: &Module) -> Result<Ready, CompileError> {
    let contract = contract_of(module);
    let linker = check_imports(module, contract, linker)?;
    check_exports(module, contract)?;
    let pre = linker.instantiate_pre(module).map_err(invalid)?;
    let own = contract == Contract::Millpond;
    let has_timers = own && module.get_export(abi::EXPORT_TIMER).is_some();
    let asks = module.imports().any(|import| {
        import.module() == abi::IMPORT_MODULE && state_imports::NAMES.contains(&import.name())
    });
    Ok(Ready { pre, contract, keeps_state: has_timers || asks, has_timers })
}

fn invalid(error: wasmtime::Error) -> CompileError {
    CompileError::Invalid(format!("{error:#}"))
}

/// A compiler that panics on a module must not take a thread of the node with it.
fn compile_guarded(engine: &Engine, wasm: &[u8]) -> Result<wasmtime::Result<Module>, CompileError> {
    catch_unwind(AssertUnwindSafe(|| Module::from_binary(engine, wasm)))
        .map_err(|_| CompileError::Invalid("the compiler failed on it".to_string()))
}

fn not_a_module(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"\0asm") {
        "a component or a newer binary format; build a core module"
    } else if bytes.starts_with(b"\x7fELF") {
        "a native binary; build with --target wasm32-unknown-unknown"
    } else {
        "the bytes do not start as a module does"
    }
}

fn contract_of(module: &Module) -> Contract {
    match module.imports().any(|import| import.module() == redpanda::IMPORT_MODULE) {
        true => Contract::Redpanda,
        false => Contract::Millpond,
    }
}

/// Gives the linker with what stands in for the imports that there are not, where that may be.
fn check_imports(
    module: &Module,
    contract: Contract,
    linker: &Linker<GuestState>,
) -> Result<Linker<GuestState>, CompileError> {
    let mut linker = linker.clone();
    let own = [abi::IMPORT_LOG, abi::IMPORT_ABORT, abi::IMPORT_SETTING];
    for import in module.imports() {
        let is_there = match contract {
            Contract::Millpond => {
                let name = import.name();
                import.module() == abi::IMPORT_MODULE
                    && (own.contains(&name)
                        || state_imports::NAMES.contains(&name)
                        || helper_imports::NAMES.contains(&name))
            }
            Contract::Redpanda => redpanda::accept(&mut linker, &import),
        };
        if !is_there {
            return Err(unknown_import(&import));
        }
    }
    Ok(linker)
}

fn unknown_import(import: &ImportType<'_>) -> CompileError {
    let hint = match import.module() {
        redpanda::IMPORT_WASI | "wasi_unstable" => {
            "; there is no WASI here: build for wasm32-unknown-unknown"
        }
        "__wbindgen_placeholder__" => "; build without wasm-bindgen",
        abi::IMPORT_MODULE | redpanda::IMPORT_MODULE => {
            "; the module may be made for a newer broker"
        }
        _ => "",
    };
    CompileError::Import {
        module: import.module().to_string(),
        name: import.name().to_string(),
        hint,
    }
}

fn check_exports(module: &Module, contract: Contract) -> Result<(), CompileError> {
    use ValType::{I32, I64};
    match module.get_export(abi::EXPORT_MEMORY) {
        Some(ExternType::Memory(memory)) if !memory.is_64() && !memory.is_shared() => {}
        _ => {
            return Err(CompileError::Export {
                name: abi::EXPORT_MEMORY,
                wanted: "a 32-bit memory",
                hint: "",
            });
        }
    }
    let newer = module.exports().any(|export| {
        export.name().starts_with("millpond_transform_v") && export.name() != abi::EXPORT_TRANSFORM
    });
    let hint = if newer { "; it is made for another version of the contract" } else { "" };
    let required = true;
    let own = [
        (abi::EXPORT_TRANSFORM, &[I32, I32][..], &[I64][..], "(i32, i32) -> i64", required),
        (abi::EXPORT_TIMER, &[I32, I32], &[I64], "(i32, i32) -> i64", !required),
        (abi::EXPORT_ALLOC, &[I32], &[I32], "(i32) -> i32", required),
        (abi::EXPORT_INIT, &[], &[I32], "() -> i32", !required),
        (abi::EXPORT_PROGRESS, &[], &[I32], "() -> i32", !required),
    ];
    let redpanda = [(redpanda::EXPORT_START, &[][..], &[][..], "() -> ()", required)];
    let checks = match contract {
        Contract::Millpond => &own[..],
        Contract::Redpanda => &redpanda[..],
    };
    for &(name, params, results, wanted, required) in checks {
        match module.get_export(name) {
            Some(ExternType::Func(func))
                if same(func.params(), params) && same(func.results(), results) => {}
            None if !required => {}
            _ => return Err(CompileError::Export { name, wanted, hint }),
        }
    }
    Ok(())
}

fn same(found: impl ExactSizeIterator<Item = ValType>, wanted: &[ValType]) -> bool {
    found.len() == wanted.len()
        && found.zip(wanted).all(|(found, wanted)| match wanted {
            ValType::I32 => matches!(found, ValType::I32),
            ValType::I64 => matches!(found, ValType::I64),
            _ => false,
        })
}

fn initial_memory_bytes(module: &Module) -> u64 {
    match module.get_export(abi::EXPORT_MEMORY) {
        Some(ExternType::Memory(memory)) => memory.minimum().saturating_mul(memory.page_size()),
        _ => 0,
    }
}
