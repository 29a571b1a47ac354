//! `meta.toml`: which cluster and node a data directory belongs to. Written once, atomically, never
//! rewritten.
//!
//! A directory without it is new; a directory with a newer format version is refused, so that an
//! old binary never misreads what a newer one wrote.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use millpond_wire::uuid::Uuid;
use serde::{Deserialize, Serialize};

/// The version of the data directory's layout that this program writes and the newest that it
/// reads.
pub const FORMAT_VERSION: u32 = 1;

/// The name of the identity file within a data directory.
pub const FILE_NAME: &str = "meta.toml";

/// An identity file is a few lines; anything larger is not ours.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// A node's number within its cluster: what Kafka calls `broker.id`. Never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i32);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who owns a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The cluster; clients see it in Metadata, in Kafka's base64 form.
    pub cluster_id: Uuid,
    /// This node's number.
    pub node_id: NodeId,
    /// This very directory: a replaced or emptied disk gets another one (KIP-858).
    pub directory_id: Uuid,
    /// The layout of the directory.
    pub format_version: u32,
}

/// Why an identity could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not an identity: damaged, or written by something else.
    #[error(
        "{path} is not a Millpond identity ({reason}); restore it from a backup, or move \
         the data directory away to start anew"
    )]
    Damaged {
        /// The file concerned.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer program wrote the directory.
    #[error(
        "{path} has format version {found}, this program reads up to {FORMAT_VERSION}: start the \
         newer millpond that wrote it"
    )]
    Newer {
        /// The file concerned.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The configuration names another node than the directory's.
    #[error(
        "the configuration says node id {configured}, but {path} belongs to node {stored}; a \
         node id cannot change: set node.id = {stored} or choose another data directory"
    )]
    OtherNode {
        /// The file concerned.
        path: PathBuf,
        /// The directory's node.
        stored: NodeId,
        /// The configuration's node.
        configured: NodeId,
    },
}

impl NodeIdentity {
    /// Reads the identity of `data_dir`, or makes one for a new directory and syncs it to flash.
    ///
    /// # Errors
    /// See [`IdentityError`]; nothing is written when there is any.
    pub fn open(data_dir: &Path, node_id: NodeId) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE_NAME);
        match read_bounded(&path) {
            Ok(text) => Self::parse(&path, &text)?.check_node(&path, node_id),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::create(data_dir, node_id),
            Err(source) => Err(IdentityError::Io { path, source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, IdentityError> {
        let damaged = |reason: String| IdentityError::Damaged { path: path.to_owned(), reason };
        let version: Version = toml::from_str(text).map_err(|e| damaged(e.message().to_owned()))?;
        if version.format_version > FORMAT_VERSION {
            return Err(IdentityError::Newer {
                path: path.to_owned(),
                found: version.format_version,
            });
        }
        let stored: Stored = toml::from_str(text).map_err(|e| damaged(e.message().to_owned()))?;
        let uuid = |name: &str, text: &str| {
            text.parse::<Uuid>()
                .map_err(|_| damaged(format!("{name} {text:?} is not a Kafka uuid")))
        };
        Ok(Self {
            cluster_id: uuid("cluster_id", &stored.cluster_id)?,
            node_id: stored.node_id,
            directory_id: uuid("directory_id", &stored.directory_id)?,
            format_version: stored.format_version,
        })
    }

    fn check_node(self, path: &Path, configured: NodeId) -> Result<Self, IdentityError> {
        if self.node_id == configured {
            return Ok(self);
        }
        Err(IdentityError::OtherNode { path: path.to_owned(), stored: self.node_id, configured })
    }

    fn create(data_dir: &Path, node_id: NodeId) -> Result<Self, IdentityError> {
        let random = |path: &str| {
            random_uuid().map_err(|source| IdentityError::Io { path: path.into(), source })
        };
        let identity = Self {
            cluster_id: random("/dev/urandom")?,
            node_id,
            directory_id: random("/dev/urandom")?,
            format_version: FORMAT_VERSION,
        };
        let path = data_dir.join(FILE_NAME);
        identity.write(data_dir, &path).map_err(|source| IdentityError::Io { path, source })?;
        Ok(identity)
    }

    /// File first, synced; then its name, synced: a power cut leaves no half of an identity.
    fn write(&self, data_dir: &Path, path: &Path) -> io::Result<()> {
        let stored = Stored {
            format_version: self.format_version,
            cluster_id: self.cluster_id.to_string(),
            node_id: self.node_id,
            directory_id: self.directory_id.to_string(),
        };
        let body = toml::to_string(&stored).map_err(io::Error::other)?;
        let temporary = data_dir.join("meta.toml.new");
        let mut file = File::create(&temporary)?;
        file.write_all(b"# Whose data this directory holds. Written once; do not edit.\n")?;
        file.write_all(body.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(data_dir)?.sync_all()
    }
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    format_version: u32,
    cluster_id: String,
    node_id: NodeId,
    directory_id: String,
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A version-4 uuid. Kafka's text form may not begin with a dash, which shells take for an option:
/// drawn again.
fn random_uuid() -> io::Result<Uuid> {
    let mut source = File::open("/dev/urandom")?;
    loop {
        let mut bytes = [0_u8; 16];
        source.read_exact(&mut bytes)?;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let uuid = Uuid(bytes);
        if !uuid.to_string().starts_with('-') {
            return Ok(uuid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("millpond-identity-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_identity_survives_a_reopen_and_differs_between_directories() {
        let (a, b) = (Dir::new("a"), Dir::new("b"));
        let first = NodeIdentity::open(&a.0, NodeId(1)).unwrap();
        assert_eq!(first, NodeIdentity::open(&a.0, NodeId(1)).unwrap());
        let other = NodeIdentity::open(&b.0, NodeId(1)).unwrap();
        assert_ne!(first.cluster_id, other.cluster_id);
        assert_ne!(first.directory_id, other.directory_id);
    }

    #[test]
    fn another_node_id_is_refused_with_both_numbers() {
        let dir = Dir::new("other");
        NodeIdentity::open(&dir.0, NodeId(1)).unwrap();
        let error = NodeIdentity::open(&dir.0, NodeId(2)).unwrap_err().to_string();
        assert!(error.contains("node id 2") && error.contains("node 1"), "{error}");
    }

    #[test]
    fn a_newer_format_is_refused_even_when_it_has_other_keys() {
        let dir = Dir::new("newer");
        fs::write(dir.0.join(FILE_NAME), "format_version = 9\nnodes = []\n").unwrap();
        let error = NodeIdentity::open(&dir.0, NodeId(1)).unwrap_err();
        assert!(matches!(error, IdentityError::Newer { found: 9, .. }), "{error}");
    }

    #[test]
    fn rubbish_is_named_and_never_overwritten() {
        let dir = Dir::new("rubbish");
        let path = dir.0.join(FILE_NAME);
        fs::write(&path, "cluster_id = [").unwrap();
        assert!(matches!(
            NodeIdentity::open(&dir.0, NodeId(1)),
            Err(IdentityError::Damaged { .. })
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "cluster_id = [");
    }
}
