//! Any bytes as record batches: parsed, decompressed, every record read.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millpond_wire::record::Batch;

fuzz_target!(|data: &[u8]| {
    let Ok(batches) = Batch::split(Bytes::copy_from_slice(data), 16) else {
        return;
    };
    for batch in batches {
        if let Ok(section) = batch.decompress(1 << 20) {
            for record in batch.records(&section) {
                if record.is_err() {
                    break;
                }
            }
        }
    }
});
