//! Modules on flash: `modules/<sha256>.wasm`, content-addressed. A module is written and synced
//! before anything refers to it, and its hash is checked whenever it is read. Beside it stands what
//! was compiled of it, `<sha256>.code` (`.bytecode` for the interpreter): a cache, not synced, that
//! may be removed at any time and is never read if anybody else could have written it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use millpond_transform::EngineKind;
use millpond_wire::limits::{MODULE_ARTIFACT_BYTES_MAX, MODULE_BYTES_MAX};
use rustix::process::geteuid;
use sha2::{Digest, Sha256};

use crate::hex::hex;

/// What of a module is synced at a time.
const SYNCED_BYTES: usize = 256 << 10;

/// SHA-256 of a module.
pub(crate) type ModuleHash = [u8; 32];

/// The modules of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct ModuleStore {
    dir: PathBuf,
}

/// Why a module is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is not there.
    #[error("the module {0} is missing: deploy it again, or restore it from a backup")]
    Missing(PathBuf),
    /// It is not what its name says.
    #[error("the module {0} is damaged: deploy it again, or restore it from a backup")]
    Damaged(PathBuf),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ModuleStore {
    /// The store of a data directory; made if it is not there.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("modules");
        let made = fs::create_dir_all(&dir).and_then(|()| sync_dir(data_dir));
        made.map_err(|source| StoreError::Io { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// Puts a module on flash, unless it is there already.
    pub(crate) fn put(&self, module: &[u8]) -> Result<ModuleHash, StoreError> {
        let hash: ModuleHash = Sha256::digest(module).into();
        if self.get(&hash).is_ok() {
            return Ok(hash);
        }
        let path = self.path(&hash);
        self.write(&path, module).map_err(|source| StoreError::Io { path, source })?;
        Ok(hash)
    }

    /// Reads a module and checks that it is the one that was meant.
    pub(crate) fn get(&self, hash: &ModuleHash) -> Result<Vec<u8>, StoreError> {
        let path = self.path(hash);
        let mut bytes = Vec::new();
        let read = File::open(&path)
            .and_then(|f| f.take(MODULE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing(path)),
            Err(source) => Err(StoreError::Io { path, source }),
            Ok(_) if ModuleHash::from(Sha256::digest(&bytes)) != *hash => {
                Err(StoreError::Damaged(path))
            }
            Ok(_) => Ok(bytes),
        }
    }

    /// Keeps what was compiled of a module for an engine.
    pub(crate) fn put_artifact(
        &self,
        hash: &ModuleHash,
        engine: EngineKind,
        artifact: &[u8],
    ) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(artifact)?;
        file.persist(self.artifact_path(hash, engine)).map_err(|e| e.error)?;
        Ok(())
    }

    /// What was compiled of a module, if it is there and only this user can have written it.
    pub(crate) fn artifact(&self, hash: &ModuleHash, engine: EngineKind) -> Option<Vec<u8>> {
        const OTHERS_WRITE: u32 = 0o022;
        let file = File::open(self.artifact_path(hash, engine)).ok()?;
        for owned in [file.metadata().ok()?, fs::metadata(&self.dir).ok()?] {
            if owned.uid() != geteuid().as_raw() || owned.mode() & OTHERS_WRITE != 0 {
                tracing::warn!(dir = %self.dir.display(), "others can write here: compiled again");
                return None;
            }
        }
        let mut bytes = Vec::new();
        file.take(MODULE_ARTIFACT_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Removes what nothing refers to, leftovers of interrupted writes included. Gives how many
    /// files went.
    pub(crate) fn retain(&self, referred: &[ModuleHash]) -> io::Result<usize> {
        let artifacts =
            |hash| EngineKind::ALL.into_iter().map(move |engine| self.artifact_path(hash, engine));
        let keep: Vec<PathBuf> =
            referred.iter().flat_map(|hash| artifacts(hash).chain([self.path(hash)])).collect();
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !keep.contains(&path) && path.is_file() {
                fs::remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, hash: &ModuleHash) -> PathBuf {
        self.dir.join(format!("{}.wasm", hex(hash)))
    }

    fn artifact_path(&self, hash: &ModuleHash, engine: EngineKind) -> PathBuf {
        self.dir.join(format!("{}.{}", hex(hash), engine.artifact_extension()))
    }

    /// The bytes first, synced; then their name, synced. A part at a time: what acknowledgements wait for
    /// shares the device, and never stands behind more than one of them.
    fn write(&self, path: &Path, module: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        for part in module.chunks(SYNCED_BYTES) {
            file.write_all(part)?;
            file.as_file().sync_data()?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        sync_dir(&self.dir)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_back_as_it_went_in_and_twice_is_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(dir.path()).unwrap();
        let hash = store.put(b"module").unwrap();
        assert_eq!(store.put(b"module").unwrap(), hash);
        assert_eq!(ModuleStore::open(dir.path()).unwrap().get(&hash).unwrap(), b"module");
        assert_eq!(fs::read_dir(dir.path().join("modules")).unwrap().count(), 1);
    }

    #[test]
    fn missing_and_damaged_modules_are_told_apart_and_damage_heals_by_deploying() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(dir.path()).unwrap();
        assert!(matches!(store.get(&[0; 32]), Err(StoreError::Missing(_))));
        let hash = store.put(b"module").unwrap();
        fs::write(store.path(&hash), b"modul?").unwrap();
        assert!(matches!(store.get(&hash), Err(StoreError::Damaged(_))));
        store.put(b"module").unwrap();
        assert_eq!(store.get(&hash).unwrap(), b"module");
    }

    #[test]
    fn compiled_code_that_others_can_write_is_not_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(dir.path()).unwrap();
        let native = EngineKind::Native;
        assert_eq!(store.artifact(&[7; 32], native), None);
        store.put_artifact(&[7; 32], native, b"code").unwrap();
        assert_eq!(store.artifact(&[7; 32], native).unwrap(), b"code");
        assert_eq!(store.artifact(&[7; 32], EngineKind::Interpreter), None);
        let everybody = fs::Permissions::from_mode(0o666);
        fs::set_permissions(store.artifact_path(&[7; 32], native), everybody).unwrap();
        assert_eq!(store.artifact(&[7; 32], native), None);
    }

    #[test]
    fn what_nothing_refers_to_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModuleStore::open(dir.path()).unwrap();
        let (a, b) = (store.put(b"a").unwrap(), store.put(b"b").unwrap());
        assert_eq!(store.retain(&[a]).unwrap(), 1);
        assert!(store.get(&a).is_ok());
        assert!(store.get(&b).is_err());
    }
}
