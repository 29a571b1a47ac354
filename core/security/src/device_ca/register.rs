//! What the authority knows, as files: one for each device, one for each invitation, each whole or absent. A lock
//! keeps the node and the command line apart. Must never write a secret: of a token only its digest is
//! here.

use super::CaError;
use super::token::DeviceName;
use crate::files;
use millpond_wire::limits::{DEVICE_FILE_BYTES_MAX, DEVICE_INVITES_MAX, DEVICES_MAX};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A device, with all its certificates that have not ended. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) certificates: Vec<Issued>,
    /// The newest certificate, PEM, for a device that lost the answer.
    pub(super) newest: String,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Issued {
    /// In hexadecimal.
    pub(super) serial: String,
    /// Digest of its key.
    pub(super) key: String,
    pub(super) issued_s: u64,
    pub(super) not_after_s: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revoked_s: Option<u64>,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Invite {
    /// Of the token, in hexadecimal.
    pub(super) digest: String,
    pub(super) until_s: u64,
    /// Digest of the key that it was used for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) used_by: Option<String>,
}

/// The files, while nobody else changes them.
pub(super) struct Register<'a> {
    dir: &'a Path,
    _lock: File,
}

impl<'a> Register<'a> {
    /// Waits until nobody else is at it.
    pub(super) fn lock(dir: &'a Path) -> Result<Self, CaError> {
        let path = dir.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.and_then(|lock| {
            files::give_to_owner(&lock, &path);
            lock.lock().map(|()| lock)
        });
        Ok(Self { dir, _lock: lock.map_err(at("lock", &path))? })
    }

    pub(super) fn device(&self, name: &DeviceName) -> Result<Option<Record>, CaError> {
        read(&self.path("devices", name))
    }

    pub(super) fn set_device(&self, name: &DeviceName, record: &Record) -> Result<(), CaError> {
        let path = self.path("devices", name);
        self.room(&path, DEVICES_MAX, "devices")?;
        write(&path, record)
    }

    pub(super) fn invite(&self, name: &DeviceName) -> Result<Option<Invite>, CaError> {
        read(&self.path("invites", name))
    }

    pub(super) fn set_invite(&self, name: &DeviceName, invite: &Invite) -> Result<(), CaError> {
        let path = self.path("invites", name);
        self.room(&path, DEVICE_INVITES_MAX, "invitations")?;
        write(&path, invite)
    }

    pub(super) fn remove_invite(&self, name: &DeviceName) -> Result<(), CaError> {
        let path = self.path("invites", name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(at("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// All names of a kind, in order.
    pub(super) fn names(&self, kind: &str) -> Result<Vec<DeviceName>, CaError> {
        let dir = self.dir.join(kind);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at("read", &dir))?,
        };
        let name =
            |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".json")?.parse().ok();
        let mut names: Vec<DeviceName> = entries.flatten().filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    fn path(&self, kind: &str, name: &DeviceName) -> PathBuf {
        self.dir.join(kind).join(format!("{name}.json"))
    }

    /// Whether one more may be there.
    fn room(&self, path: &Path, most: usize, what: &'static str) -> Result<(), CaError> {
        let parent = path.parent().unwrap_or(self.dir);
        files::private_directory(parent).map_err(at("make", parent))?;
        if path.exists() {
            return Ok(());
        }
        let there = fs::read_dir(parent).map_err(at("read", parent))?.count();
        if there < most { Ok(()) } else { Err(CaError::Full { what, most }) }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CaError> {
    let bytes = match files::read_small(path, DEVICE_FILE_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(at("read", path))?,
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| at("read", path)(io::Error::other(error)))
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), CaError> {
    let bytes =
        serde_json::to_vec(value).map_err(|error| at("write", path)(io::Error::other(error)))?;
    files::replace(path, &bytes, 0o600).map_err(at("write", path))
}

pub(super) fn at<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> CaError + 'a {
    move |source| CaError::File { doing, path: path.into(), source }
}
