//! Does to a record what its value says. It knows nothing of Millpond: only Redpanda's crate.

use redpanda_transform_sdk::{
    BorrowedRecord, Record, RecordHeader, RecordWriter, WriteError, WriteEvent, WriteOptions,
    on_record_written,
};
use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    eprintln!("greeting: {}", env::var("GREETING").unwrap_or_default());
    on_record_written(transform);
}

fn transform(event: WriteEvent, writer: &mut RecordWriter) -> Result<(), WriteError> {
    let record = &event.record;
    let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
    let (verb, rest) = value.split_once(' ').unwrap_or((&value, ""));
    match verb {
        "keep" => writer.write(BorrowedRecord::from(record)),
        "drop" => Ok(()),
        "twice" => {
            writer.write(BorrowedRecord::from(record))?;
            writer.write(&text(rest))
        }
        "send" => {
            let (topic, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            writer.write_with_options(&text(rest), WriteOptions::to_topic(topic))
        }
        "try" => {
            // Does not care.
            let _ = writer.write_with_options(&text("lost"), WriteOptions::to_topic(rest));
            Ok(())
        }
        "headers" => {
            let mut made = text("with headers");
            made.add_header(RecordHeader::new(b"a".to_vec(), Some(b"1".to_vec())));
            made.add_header(RecordHeader::new(b"b".to_vec(), None));
            writer.write(&made)
        }
        "env" => writer.write(&text(&env::var(rest).unwrap_or_default())),
        "time" => writer.write(&text(&format!(
            "{} {}",
            ms(event.record.timestamp()),
            ms(SystemTime::now())
        ))),
        "random" => writer.write(&text(&RandomState::new().build_hasher().finish().to_string())),
        "file" => writer.write(&text(&format!("{:?}", std::fs::read("/etc/passwd").is_ok()))),
        "print" => {
            println!("{rest}");
            Ok(())
        }
        "flood" => loop {
            writer.write(&text(&"x".repeat(1 << 16)))?;
        },
        "memory" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&all);
            }
        }
        "loop" => loop {
            std::hint::black_box(verb);
        },
        "exit" => std::process::exit(3),
        _ => panic!("what is {verb}?"),
    }
}

fn text(text: &str) -> Record {
    Record::new(None, Some(text.as_bytes().to_vec()))
}

fn ms(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}
