//! One number out of each of many JSON documents, as fast as memory can be searched.
//!
//! It takes for granted that a document is JSON: a name between quotes with a colon behind it is a
//! member, unless something nested stands before it; then the document is walked as `json.rs` does.
//! It must never read past a document. What comes of a document that is none is fixed by the rule
//! F8 of `wasm-sdk/SPEC.md`, so that it is the same on every host.

use crate::json::{self, Kind};
use memchr::memmem::Finder;

/// Finds the member of one name.
pub(crate) struct Column<'n> {
    name: &'n [u8],
    /// The name between its quotes.
    finder: Finder<'static>,
}

impl<'n> Column<'n> {
    pub(crate) fn new(name: &'n [u8]) -> Self {
        let quoted = [b"\"", name, b"\""].concat();
        Column { name, finder: Finder::new(&quoted).into_owned() }
    }

    /// The number in the document's member; `None`: there is no such member, or no number in it.
    #[inline]
    pub(crate) fn number(&self, document: &[u8]) -> Option<f64> {
        let field = match self.quick(document) {
            Quick::At(at) => json::value_at(document, at),
            Quick::Absent => return None,
            Quick::Nested => json::member(document, self.name),
        };
        let field = field.ok().filter(|field| field.kind == Kind::Number)?;
        json::nearest_number(document.get(field.place)?)
    }

    #[inline]
    fn quick(&self, document: &[u8]) -> Quick {
        let start = skip_space(document, 0);
        if document.get(start) != Some(&b'{') {
            return Quick::Absent;
        }
        let start = start + 1;
        let is_nested = |end: usize| {
            let before = document.get(start..end).unwrap_or_default();
            memchr::memchr2(b'{', b'[', before).is_some()
        };
        let mut from = start;
        while let Some(found) = document.get(from..).and_then(|rest| self.finder.find(rest)) {
            let at = from + found;
            let colon = skip_space(document, at + self.name.len() + 2);
            let is_escaped = document.get(at - 1) == Some(&b'\\');
            if !is_escaped && document.get(colon) == Some(&b':') {
                return if is_nested(at) { Quick::Nested } else { Quick::At(colon + 1) };
            }
            from = at + 1;
        }
        if is_nested(document.len()) { Quick::Nested } else { Quick::Absent }
    }
}

enum Quick {
    /// The value, and white space before it.
    At(usize),
    Absent,
    /// Something nested stands before it: depth matters.
    Nested,
}

#[inline]
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use millpond_sdk::helpers;

    fn number(document: &str, name: &str) -> Option<f64> {
        Column::new(name.as_bytes()).number(document.as_bytes())
    }

    #[test]
    fn a_members_number_is_found_wherever_it_stands() {
        for before in [
            "",
            "\"a\":1,",
            "\"a\":{\"t\":9},",
            "\"a\":[\"t\",{\"t\":9}],",
            "\"a\":\"\\\"t\\\":9\",",
        ] {
            for space in ["", " ", "\n\t "] {
                let document =
                    format!("{space}{{{space}{before}{space}\"t\"{space}:{space}-2.5e1{space}}}");
                assert_eq!(number(&document, "t"), Some(-25.0), "{document}");
            }
        }
        for without in [
            "{}",
            "{\"a\":\"t\"}",
            "[{\"t\":1}]",
            "{\"t\":\"1\"}",
            "{\"a\":{\"t\":1}}",
            "",
            "{\"t\":01}",
        ] {
            assert_eq!(number(without, "t"), None, "{without}");
        }
        assert_eq!(number("{\"t\":1,\"t\":2}", "t"), Some(1.0));
        assert_eq!(number("{\"\":3}", ""), Some(3.0));
    }

    /// The SDK answers native tests by itself: the same, whatever the bytes.
    #[test]
    fn the_sdk_answers_as_the_host_does() {
        const PIECES: [&str; 20] = [
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\\",
            ":",
            ",",
            " ",
            "\"t\"",
            "\"t\":",
            "\"a\":",
            "1",
            "-2.5",
            "1e999",
            "01",
            "\"\\u0074\":7",
            "null",
            "{\"t\":3}",
            "\"a~b/\":5",
        ];
        let mut found = [0; 2];
        for seed in 0..60_000 {
            let mut numbers = Numbers(seed);
            let mut document = String::from(["{", "{", " {", ""][numbers.below(4) as usize]);
            (0..numbers.below(12)).for_each(|_| document += PIECES[numbers.below(20) as usize]);
            for (pointer, name) in [("/t", "t"), ("/a~0b~1", "a~b/"), ("/a", "a")] {
                let ours = number(&document, name);
                found[usize::from(ours.is_some())] += 1;
                let theirs = helpers::column_number(document.as_bytes(), name);
                assert_eq!(ours, theirs, "seed {seed}: {document} {name}");
                let field = json::find(document.as_bytes(), pointer.as_bytes());
                let sdk = helpers::json_field(document.as_bytes(), pointer);
                let of = |field: json::Field| &document.as_bytes()[field.place];
                assert_eq!(
                    field.clone().ok().map(of),
                    sdk.ok().map(|field| field.raw),
                    "{document}"
                );
                let invalid = field.err() == Some(json::Refused::Invalid);
                assert_eq!(invalid, sdk.err() == Some(helpers::JsonError::Invalid), "{document}");
            }
        }
        assert!(found.iter().all(|count| *count > 2_000), "{found:?}");
    }

    #[test]
    fn hashes_of_the_sdk_are_the_hosts() {
        let bytes: Vec<u8> = (0..200).map(|byte: u8| byte.wrapping_mul(37)).collect();
        for end in 0..bytes.len() {
            let piece = &bytes[..end];
            let host = twox_hash::XxHash64::oneshot(end as u64, piece);
            assert_eq!(helpers::hash64(piece, end as u64), host, "{end} bytes");
        }
    }
}
