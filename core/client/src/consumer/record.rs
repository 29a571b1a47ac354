//! A record as it was read. Values only; key, value and headers are slices of one buffer.

use bytes::Bytes;
use millpond_wire::limits;
use millpond_wire::record::Batch;
use std::sync::Arc;

/// One record of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its time (ms since 1970).
    pub timestamp_ms: i64,
    /// Its key, if it has one.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of `batch` from offset `from` on, decompressed; none of a control batch.
///
/// # Errors
/// What is wrong with the batch, in words.
pub(crate) fn records_of(
    topic: &Arc<str>,
    partition: i32,
    batch: &Batch,
    from: i64,
) -> Result<Vec<ConsumedRecord>, String> {
    if batch.attributes().is_control() {
        return Ok(Vec::new());
    }
    let section =
        batch.decompress(limits::DECOMPRESSED_BYTES_MAX).map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    for record in batch.records(&section) {
        let record = record.map_err(|error| error.to_string())?;
        let offset = batch.header().base_offset + i64::from(record.offset_delta);
        if offset < from {
            continue;
        }
        let slice = |part: &[u8]| section.slice_ref(part);
        records.push(ConsumedRecord {
            topic: Arc::clone(topic),
            partition,
            offset,
            timestamp_ms: record.timestamp,
            key: record.key.map(slice),
            value: record.value.map(slice),
            headers: record
                .headers
                .map(|header| (slice(header.key), header.value.map(slice)))
                .collect(),
        });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_wire::record::{BatchBuilder, Codec, Header};

    #[test]
    fn records_of_every_codec_come_back_from_the_offset_asked_for() {
        for codec in Codec::ALL {
            let mut builder = BatchBuilder::new(codec, None);
            for n in 0..50_i64 {
                let value = format!("value {n}");
                let header = Header { key: b"h", value: Some(b"x") };
                builder.push(n, None, Some(value.as_bytes()), &[header]).unwrap();
            }
            let batch = Batch::parse(builder.build().unwrap()).unwrap();
            let records = records_of(&"t".into(), 2, &batch, 40).unwrap();
            assert_eq!(records.len(), 10, "{codec}");
            assert_eq!(records[0].offset, 40);
            assert_eq!(records[0].value.as_deref(), Some(b"value 40".as_slice()));
            assert_eq!(records[0].headers.len(), 1);
        }
    }
}
