//! Machine code of a module, as it goes from the process that compiled it to the one that runs it,
//! and into a cache.
//!
//! ```text
//!   0 "MPCODE01"
//!   8 SHA-256 of the WebAssembly
//!  40 SHA-256 of the machine code
//!  72 u64 bytes of the WebAssembly, little-endian
//!  80 the machine code, in the form of the engine's serialisation
//! ```
//!
//! Code that is loaded runs with all that the node may do: it must never come from anywhere but
//! [`Host::precompile`] of this program. A file that another could have written must never be
//! loaded, and one that was damaged is recognised and refused here. An artifact of another version,
//! processor or configuration is refused by the engine, which compares all of them.
#![allow(unsafe_code, reason = "one call: the engine trusts the machine code that it loads")]

use crate::compile::{self, CompileError, CompiledModule};
use crate::host::Host;
use crate::spec::Sha256;
use millpond_wire::limits as caps;
use std::time::Instant;
use thiserror::Error;
use wasmtime::Module;

const MAGIC: &[u8; 8] = b"MPCODE01";
const HEADER_BYTES: usize = 80;

/// Why machine code is not loaded. Compile the module again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// It does not start as an artifact does, or is cut.
    #[error("not compiled code of this program")]
    Foreign,
    /// It is not what was written.
    #[error("the compiled code is damaged")]
    Damaged,
    /// It was compiled of another module.
    #[error("compiled of another module")]
    OtherModule,
    /// The engine refuses it: another version, processor or configuration.
    #[error("compiled for another engine: {0}")]
    OtherEngine(String),
    /// The module is no transform.
    #[error(transparent)]
    Module(#[from] CompileError),
}

impl Host {
    /// Checks and compiles a module like [`Host::compile`], to be loaded by [`Host::load`].
    ///
    /// # Errors
    /// What is wrong with the module, in words for its author.
    pub fn precompile(&self, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
        let module = compile::module(self.engine(), wasm)?;
        compile::ready(self.linker(), &module)?;
        let code =
            module.serialize().map_err(|error| CompileError::Invalid(format!("{error:#}")))?;
        let mut artifact = Vec::with_capacity(HEADER_BYTES + code.len());
        artifact.extend_from_slice(MAGIC);
        artifact.extend_from_slice(&Sha256::of(wasm).0);
        artifact.extend_from_slice(&Sha256::of(&code).0);
        artifact.extend_from_slice(&(wasm.len() as u64).to_le_bytes());
        artifact.extend_from_slice(&code);
        Ok(artifact)
    }

    /// Takes up what [`Host::precompile`] of this program made of the module with this address:
    /// some 100 µs instead of a compilation. The caller vouches for where the bytes come from: a
    /// child of this process, or a directory that nobody else can write to.
    ///
    /// # Errors
    /// It is damaged, or made for another engine or module.
    pub fn load(&self, hash: Sha256, artifact: &[u8]) -> Result<CompiledModule, ArtifactError> {
        let started = Instant::now();
        let (header, code) =
            artifact.split_at_checked(HEADER_BYTES).ok_or(ArtifactError::Foreign)?;
        let (magic, header) = header.split_at_checked(8).ok_or(ArtifactError::Foreign)?;
        let (of, header) = header.split_at_checked(32).ok_or(ArtifactError::Foreign)?;
        let (sum, bytes) = header.split_at_checked(32).ok_or(ArtifactError::Foreign)?;
        let bytes = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
        if magic != MAGIC || bytes > caps::MODULE_BYTES_MAX as u64 {
            return Err(ArtifactError::Foreign);
        }
        if of != hash.0 {
            return Err(ArtifactError::OtherModule);
        }
        if sum != Sha256::of(code).0 {
            return Err(ArtifactError::Damaged);
        }
        let refused = |error: wasmtime::Error| ArtifactError::OtherEngine(format!("{error:#}"));
        // SAFETY: the code must be what `Module::serialize` gave. The callers take artifacts from
        // their own child process and from the node's own directory only, the sum above finds
        // damage, and the engine checks version, processor and settings.
        let module = unsafe { Module::deserialize(self.engine(), code) }.map_err(refused)?;
        let ready = compile::ready(self.linker(), &module)?;
        Ok(CompiledModule::new(&module, ready, hash, bytes as usize, started.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostConfig;
    use millpond_guests::{PROJECTION, THRESHOLD};

    fn host() -> Host {
        Host::new(HostConfig::default()).expect("a host")
    }

    #[test]
    fn what_was_compiled_is_loaded_as_the_same_module() {
        let host = host();
        let artifact = host.precompile(THRESHOLD).expect("it compiles");
        let loaded = host.load(Sha256::of(THRESHOLD), &artifact).expect("it loads");
        let compiled = host.compile(THRESHOLD).expect("it compiles");
        assert_eq!(loaded.hash(), compiled.hash());
        assert_eq!(loaded.wasm_bytes(), THRESHOLD.len());
        assert_eq!(loaded.memory_bytes(), compiled.memory_bytes());
        assert_eq!(loaded.contract(), compiled.contract());
    }

    #[test]
    fn another_process_of_the_same_program_can_load_it() {
        let artifact = host().precompile(THRESHOLD).expect("it compiles");
        assert!(host().load(Sha256::of(THRESHOLD), &artifact).is_ok());
    }

    #[test]
    fn each_damaged_byte_is_found_before_anything_is_loaded() {
        let host = host();
        let artifact = host.precompile(THRESHOLD).expect("it compiles");
        let hash = Sha256::of(THRESHOLD);
        // The length is not covered by the sum; it is only shown.
        let places = (0..72).chain((HEADER_BYTES..artifact.len()).step_by(997));
        for place in places {
            let mut damaged = artifact.clone();
            damaged[place] ^= 0x10;
            assert!(host.load(hash, &damaged).is_err(), "byte {place}");
        }
        for end in [0, 7, 79, 80, 81, artifact.len() / 2, artifact.len() - 1] {
            assert!(host.load(hash, &artifact[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn code_of_another_module_is_not_taken_for_this_one() {
        let host = host();
        let artifact = host.precompile(PROJECTION).expect("it compiles");
        let error = host.load(Sha256::of(THRESHOLD), &artifact).unwrap_err();
        assert_eq!(error, ArtifactError::OtherModule);
    }

    #[test]
    fn code_for_other_settings_of_the_engine_is_refused() {
        let artifact = host().precompile(THRESHOLD).expect("it compiles");
        let config = HostConfig { reservation_bytes: 16 << 20, ..HostConfig::default() };
        let other = Host::new(config).expect("a host");
        let error = other.load(Sha256::of(THRESHOLD), &artifact).unwrap_err();
        assert!(matches!(error, ArtifactError::OtherEngine(_)), "{error}");
    }

    #[test]
    fn what_is_no_transform_is_refused_before_it_is_written() {
        assert!(host().precompile(b"no module").is_err());
        let other = wat::parse_str("(module (import \"env\" \"x\" (func)))").expect("a module");
        assert!(matches!(host().precompile(&other), Err(CompileError::Import { .. })));
    }
}
