//! What stands on flash: entries of the journal, checkpoints with the engine's snapshot in them,
//! packages of modules. Their checksums were right, and their writer may have been a newer version,
//! or somebody who can write checksums.

use bytes::Bytes;
use millpond_engine::{Engine, EngineConfig, Entry, EntrySeq};
use millpond_security::Package;
use millpond_storage::checkpoint::Checkpoint;

/// Where a checkpoint keeps the checksum of its body, that of its header, and the body.
const BODY_CRC_AT: usize = 72;
const HEADER_CRC_AT: usize = 124;
const BODY_AT: usize = 128;

/// All of them: none begins as another does.
pub fn run(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = Entry::decode(EntrySeq(1), bytes.clone());
    let _ = Package::open(data);
    restore(bytes);
    if data.len() >= BODY_AT {
        let mut mended = data.to_vec();
        let body = crc32c::crc32c(&mended[BODY_AT..]);
        mended[BODY_CRC_AT..BODY_CRC_AT + 4].copy_from_slice(&body.to_le_bytes());
        let header = crc32c::crc32c(&mended[..HEADER_CRC_AT]);
        mended[HEADER_CRC_AT..BODY_AT].copy_from_slice(&header.to_le_bytes());
        restore(Bytes::from(mended));
    }
}

fn restore(bytes: Bytes) {
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        let _ = Engine::restore(EngineConfig::default(), 7, Some(checkpoint.snapshot));
    }
}
