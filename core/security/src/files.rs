//! Small files that must be whole or absent: written beside, synced, renamed, directory synced.
//!
//! It never leaves a private file readable by others, not even for the moment of writing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Reads a whole file of at most `limit_bytes`.
pub(crate) fn read_small(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    let read = file.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > limit_bytes {
        return Err(io::Error::other(format!("the file is larger than {limit_bytes} bytes")));
    }
    Ok(bytes)
}

/// Replaces `path` by a file with `bytes` and `mode`, atomically and durably.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&beside)?;
    give_to_owner(&file, path);
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    sync_directory(path)
}

/// A file belongs to whoever owns its directory: an administrator who works for a node's user
/// leaves nothing that the node cannot read. Where that is not allowed the file stays as it is.
pub(crate) fn give_to_owner(file: &File, path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let owner = fs::metadata(directory.unwrap_or(Path::new("."))).ok();
        if let (Some(owner), Ok(own)) = (owner, file.metadata())
            && (owner.uid(), owner.gid()) != (own.uid(), own.gid())
        {
            let _ = fchown(file, Some(owner.uid()), Some(owner.gid()));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, path);
}

/// Makes a directory that only its owner can look into, unless it is there.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    give_to_owner(&File::open(path)?, path);
    sync_directory(path)
}

/// The name is on flash only when the directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replace_leaves_one_whole_file_with_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.pem");
        replace(&path, b"one", 0o600).unwrap();
        fs::write(path.with_extension("new"), b"left by a crash").unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(read_small(&path, 3).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_above_the_limit_is_an_error_not_an_allocation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big");
        replace(&path, &[0; 100], 0o644).unwrap();
        assert!(read_small(&path, 99).is_err());
    }
}
