//! Records that a transform failed on, with headers that say why, on their way to their topic.

use crate::chain::Transform;
use crate::headers;
use crate::rows::{Row, Span};
use crate::runner::{Flow, Place};
use bytes::Bytes;
use millpond_wire::limits as caps;

/// Gathers the records that a transform failed on, with headers that say why.
pub(crate) struct DeadLetters<'a> {
    transform: &'a Transform,
    place: Place<'a>,
    rows: Vec<Row>,
    block: Vec<u8>,
}

impl<'a> DeadLetters<'a> {
    pub(crate) fn new(transform: &'a Transform, place: Place<'a>) -> Self {
        DeadLetters { transform, place, rows: Vec::new(), block: Vec::new() }
    }

    /// The record with its own headers first.
    pub(crate) fn push(&mut self, mut row: Row, reason: &str, arenas: &[Bytes]) {
        let spec = self.transform.spec();
        let partition = self.place.partition.to_string();
        let more: [(&str, &str); 5] = [
            ("millpond.error", reason),
            ("millpond.transform", &spec.name),
            ("millpond.version", &spec.version),
            ("millpond.topic", self.place.topic),
            ("millpond.partition", &partition),
        ];
        // A timer may be set for a time that no record can have.
        row.timestamp_ms = row.timestamp_ms.clamp(-1, i64::MAX / 2);
        let own = row.headers.get(arenas).unwrap_or_default();
        let start = self.block.len();
        // A record with as many headers as there may be loses its last ones to the five.
        let own_kept = (row.header_count as usize).min(caps::RECORD_HEADERS_MAX - more.len());
        headers::put_count(&mut self.block, own_kept + more.len());
        let mut walk = headers::walk(own);
        let own_start = walk.position();
        walk.by_ref().take(own_kept).for_each(drop);
        self.block.extend_from_slice(own.get(own_start..walk.position()).unwrap_or_default());
        for (name, value) in more {
            headers::put_header(&mut self.block, name.as_bytes(), Some(value.as_bytes()));
        }
        row.header_count = (own_kept + more.len()) as u32;
        row.headers = Span {
            // Set when the block has its place.
            arena: 0,
            start: start as u32,
            bytes: (self.block.len() - start) as u32,
        };
        self.rows.push(row);
    }

    pub(crate) fn into_flow(self, flow: &mut Flow) {
        if self.rows.is_empty() {
            return;
        }
        let arena = flow.arenas.len() as u32;
        flow.arenas.push(self.block.into());
        let topic = self.transform.dead_letter_topic(self.place.topic);
        let letters = self.rows.into_iter().map(|mut row| {
            row.headers.arena = arena;
            row
        });
        flow.aside.entry(topic).or_default().extend(letters);
    }
}
