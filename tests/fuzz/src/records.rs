//! Record batches, as producers send them: compressed by whatever codec they say.

use bytes::Bytes;
use millpond_wire::record::{Batch, BatchBuilder};

/// Far below the broker's own cap: what is looked for is what goes beyond it.
const SECTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Where a batch keeps its checksum, and what it covers.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// As it is, and with a checksum that is right: nothing behind it is reached otherwise.
pub fn run(data: &[u8]) {
    read(Bytes::copy_from_slice(data));
    let mut mended = data.to_vec();
    if let Some(covered) = mended.get(CRC_FROM..) {
        let crc = crc32c::crc32c(covered);
        mended[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        read(Bytes::from(mended));
    }
}

fn read(raw: Bytes) {
    let _ = Batch::split(raw.clone(), 16);
    let Ok(batch) = Batch::parse(raw) else { return };
    let _ = batch.check_produced(SECTION_BYTES_MAX);
    let Ok(section) = batch.decompress(SECTION_BYTES_MAX) else { return };
    assert!(section.len() <= SECTION_BYTES_MAX, "{} bytes came out", section.len());
    let mut builder = BatchBuilder::like(&batch);
    for record in batch.records(&section) {
        let Ok(record) = record else { return };
        if builder.push_record(&record).is_err() {
            return;
        }
    }
    if !builder.is_empty()
        && let Ok(same) = builder.build_batch()
    {
        let before = batch.records(&section).flatten().count();
        let section = same.decompress(2 * SECTION_BYTES_MAX).expect("what we wrote");
        assert_eq!(same.records(&section).flatten().count(), before);
    }
}
