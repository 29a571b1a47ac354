//! Our record batches against those of the `kafka-protocol` crate, in both directions and with
//! every codec. Must never use our own decoder to judge our own encoder.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use millpond_wire::record::{Batch, BatchBuilder, Codec, Header};

const CAP: usize = 1 << 22;

type Headers = Vec<(String, Option<Vec<u8>>)>;

#[derive(Debug, Clone, PartialEq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

fn records(rng: &mut fastrand::Rng, count: usize) -> Vec<Plain> {
    let mut time = 1_700_000_000_000;
    let bytes = |rng: &mut fastrand::Rng, most: usize| -> Option<Vec<u8>> {
        let len = rng.usize(..most);
        let text = format!("{{\"sensor\":\"{}\",\"celsius\":{}}} ", rng.u8(..9), rng.u8(..40));
        rng.bool().then(|| text.bytes().cycle().take(len).collect())
    };
    (0..count)
        .map(|_| {
            time += rng.i64(-500..5_000);
            Plain {
                timestamp: time,
                key: bytes(rng, 40),
                value: bytes(rng, 700),
                // The oracle keeps headers in a map, so their keys must differ.
                headers: (0..rng.usize(..4)).map(|i| (format!("h{i}"), bytes(rng, 100))).collect(),
            }
        })
        .collect()
}

fn ours(codec: Codec, records: &[Plain]) -> Bytes {
    let mut builder = BatchBuilder::new(codec, None).with_producer(1_234, 5, 600);
    for record in records {
        let headers: Vec<Header<'_>> = record
            .headers
            .iter()
            .map(|(key, value)| Header { key: key.as_bytes(), value: value.as_deref() })
            .collect();
        builder
            .push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers)
            .expect("the record fits");
    }
    builder.build().expect("there are records")
}

fn theirs(codec: Codec, records: &[Plain]) -> Bytes {
    let compression = match codec {
        Codec::None => oracle::Compression::None,
        Codec::Gzip => oracle::Compression::Gzip,
        Codec::Snappy => oracle::Compression::Snappy,
        Codec::Lz4 => oracle::Compression::Lz4,
        Codec::Zstd => oracle::Compression::Zstd,
    };
    let records: Vec<oracle::Record> = records
        .iter()
        .enumerate()
        .map(|(i, record)| oracle::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: 1_234,
            producer_epoch: 5,
            timestamp_type: oracle::TimestampType::Creation,
            offset: i as i64,
            sequence: 600 + i as i32,
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| {
                    (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from))
                })
                .collect::<IndexMap<_, _>>(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = oracle::RecordEncodeOptions { version: 2, compression };
    oracle::RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("the oracle encodes");
    bytes.freeze()
}

fn read_by_us(raw: Bytes) -> Vec<Plain> {
    let batch = Batch::parse(raw).expect("the batch is valid");
    batch.check_produced(CAP).expect("a producer may send it");
    let section = batch.decompress(CAP).expect("it decompresses");
    batch
        .records(&section)
        .map(|record| {
            let record = record.expect("the record is valid");
            Plain {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|header| {
                        let key = String::from_utf8(header.key.to_vec()).expect("UTF-8");
                        (key, header.value.map(<[u8]>::to_vec))
                    })
                    .collect(),
            }
        })
        .collect()
}

fn read_by_them(mut raw: Bytes) -> Vec<Plain> {
    let set = oracle::RecordBatchDecoder::decode(&mut raw).expect("the oracle decodes");
    assert!(raw.is_empty(), "the oracle leaves {} bytes", raw.len());
    set.records
        .into_iter()
        .enumerate()
        .map(|(i, record)| {
            assert_eq!((record.offset, record.sequence), (i as i64, 600 + i as i32));
            assert_eq!((record.producer_id, record.producer_epoch), (1_234, 5));
            Plain {
                timestamp: record.timestamp,
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                headers: record
                    .headers
                    .into_iter()
                    .map(|(key, value)| (key.to_string(), value.map(Into::into)))
                    .collect(),
            }
        })
        .collect()
}

#[test]
fn the_oracle_reads_what_we_write() {
    let mut rng = fastrand::Rng::with_seed(1);
    for codec in Codec::ALL {
        for count in [1, 2, 10, 100, 2_000] {
            let records = records(&mut rng, count);
            assert!(read_by_them(ours(codec, &records)) == records, "{codec}, {count} records");
        }
    }
}

#[test]
fn we_read_what_the_oracle_writes() {
    let mut rng = fastrand::Rng::with_seed(2);
    for codec in Codec::ALL {
        for count in [1, 2, 10, 100, 2_000] {
            let records = records(&mut rng, count);
            assert!(read_by_us(theirs(codec, &records)) == records, "{codec}, {count} records");
        }
    }
}

#[test]
fn uncompressed_batches_are_equal_byte_for_byte() {
    let mut rng = fastrand::Rng::with_seed(3);
    for count in [1, 7, 300] {
        let mut records = records(&mut rng, count);
        // The oracle takes the least timestamp as the base, clients and we the first one.
        records.sort_by_key(|record| record.timestamp);
        assert_eq!(ours(Codec::None, &records), theirs(Codec::None, &records));
    }
}
