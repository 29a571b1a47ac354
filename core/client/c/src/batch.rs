//! Records and places as C reads them: structures that point into what is owned here, for as long as it
//! is. Makes pointers and follows none.

use millpond_client::ConsumedRecord;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

/// `mp_header`.
#[repr(C)]
pub(crate) struct CHeader {
    pub(crate) name: *const c_char,
    pub(crate) value: *const c_void,
    pub(crate) value_bytes: usize,
}

/// `mp_message`.
#[repr(C)]
pub(crate) struct CMessage {
    topic: *const c_char,
    key: *const c_void,
    key_bytes: usize,
    value: *const c_void,
    value_bytes: usize,
    headers: *const CHeader,
    header_count: usize,
    offset: i64,
    timestamp_ms: i64,
    partition: i32,
}

/// `mp_place`.
#[repr(C)]
pub(crate) struct CPlace {
    pub(crate) topic: *const c_char,
    pub(crate) offset: i64,
    pub(crate) partition: i32,
}

/// `mp_batch`: what a poll returned.
pub(crate) struct Batch {
    /// Pointed into.
    _records: Vec<ConsumedRecord>,
    _topics: BTreeMap<Arc<str>, CString>,
    _names: Vec<CString>,
    _headers: Vec<CHeader>,
    messages: Vec<CMessage>,
}

/// As much of it as a C string can hold.
fn c_string(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

fn part(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}

impl Batch {
    pub(crate) fn of(records: Vec<ConsumedRecord>) -> Self {
        let mut topics = BTreeMap::new();
        let (mut names, mut headers) = (Vec::new(), Vec::new());
        for record in &records {
            if !topics.contains_key(&record.topic) {
                topics.insert(Arc::clone(&record.topic), c_string(record.topic.as_bytes()));
            }
            for (name, value) in &record.headers {
                let name = c_string(name);
                let (value, value_bytes) = part(value.as_deref());
                headers.push(CHeader { name: name.as_ptr(), value, value_bytes });
                // The text of a C string stays where it is when the string moves.
                names.push(name);
            }
        }
        let (mut messages, mut at) = (Vec::with_capacity(records.len()), 0);
        for record in &records {
            let ((key, key_bytes), (value, value_bytes)) =
                (part(record.key.as_deref()), part(record.value.as_deref()));
            messages.push(CMessage {
                topic: topics.get(&record.topic).map_or(ptr::null(), |topic| topic.as_ptr()),
                key,
                key_bytes,
                value,
                value_bytes,
                headers: headers.as_ptr().wrapping_add(at),
                header_count: record.headers.len(),
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                partition: record.partition,
            });
            at += record.headers.len();
        }
        Self { _records: records, _topics: topics, _names: names, _headers: headers, messages }
    }

    pub(crate) fn messages(&self) -> &[CMessage] {
        &self.messages
    }
}

/// `mp_places`: partitions and offsets.
pub(crate) struct Places {
    _topics: Vec<CString>,
    places: Vec<CPlace>,
}

impl Places {
    pub(crate) fn of(places: Vec<(Arc<str>, i32, i64)>) -> Self {
        let topics: Vec<CString> =
            places.iter().map(|(topic, ..)| c_string(topic.as_bytes())).collect();
        let place = |(topic, (_, partition, offset)): (&CString, &(Arc<str>, i32, i64))| CPlace {
            topic: topic.as_ptr(),
            offset: *offset,
            partition: *partition,
        };
        let places = topics.iter().zip(&places).map(place).collect();
        Self { _topics: topics, places }
    }

    pub(crate) fn places(&self) -> &[CPlace] {
        &self.places
    }
}
