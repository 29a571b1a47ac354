//! The broker's helpers for native tests: the same answers, plainly computed.
//!
//! `core/transform` compares them with the broker's own. They must never read past a document nor
//! nest deeper than the broker does.

use super::JsonError;
use crate::abi;
use crate::json;
use std::borrow::Cow;

/// As the broker's cap.
const DEPTH_MAX: usize = 128;

/// A kind or what is wrong, offset and length.
pub(super) fn json_field(document: &[u8], pointer: &[u8]) -> (i32, u32, u32) {
    match find(document, pointer) {
        Ok((kind, start, end)) => (kind, start as u32, (end - start) as u32),
        Err(error) => (code(error), 0, 0),
    }
}

/// 0 or what is wrong, and the number.
pub(super) fn json_number(document: &[u8], pointer: &[u8]) -> (i32, f64) {
    match find(document, pointer) {
        Ok((abi::JSON_NUMBER, start, end)) => {
            match json::parse_number(&document[start..end]).filter(|number| number.is_finite()) {
                Some(number) => (0, number),
                None => (abi::JSON_NOT_A_NUMBER, 0.0),
            }
        }
        Ok(_) => (abi::JSON_NOT_A_NUMBER, 0.0),
        Err(error) => (code(error), 0.0),
    }
}

fn code(error: JsonError) -> i32 {
    match error {
        JsonError::NotFound => abi::JSON_NOT_FOUND,
        JsonError::Invalid => abi::JSON_INVALID,
        JsonError::NotANumber => abi::JSON_NOT_A_NUMBER,
    }
}

/// The number in the document's own member of this name, by the rule of `json_numbers`.
pub(super) fn column_number(document: &[u8], field: &[u8]) -> Option<f64> {
    let found = match json::quick_value_of(document, field) {
        json::Quick::Found(at) => Walk { bytes: document, at }.value(0),
        json::Quick::Absent => return None,
        json::Quick::Nested => {
            let escaped = |byte: &u8| match byte {
                b'~' => b"~0".to_vec(),
                b'/' => b"~1".to_vec(),
                byte => vec![*byte],
            };
            let pointer: Vec<u8> = field.iter().flat_map(escaped).collect();
            find(document, &[b"/", pointer.as_slice()].concat())
                .ok()
                .filter(|_| document.trim_ascii_start().first() == Some(&b'{'))
                .ok_or(JsonError::NotFound)
        }
    };
    let (kind, start, end) = found.ok()?;
    json::parse_number(&document[start..end]).filter(|_| kind == abi::JSON_NUMBER)
}

/// Kind, start and end.
type Found = (i32, usize, usize);

fn find(document: &[u8], pointer: &[u8]) -> Result<Found, JsonError> {
    let mut walk = Walk { bytes: document, at: 0 };
    let Some(tokens) = pointer.strip_prefix(b"/") else {
        return if pointer.is_empty() { walk.value(0) } else { Err(JsonError::NotFound) };
    };
    for (depth, token) in tokens.split(|byte| *byte == b'/').enumerate() {
        if depth >= DEPTH_MAX {
            return Err(JsonError::Invalid);
        }
        match walk.token()? {
            b'{' => walk.enter(b'}', |walk, _| {
                let (_, start, end) = walk.text()?;
                let is_it = name(&walk.bytes[start..end]).as_deref() == unescaped(token).as_deref();
                walk.expect(b':')?;
                Ok(is_it && unescaped(token).is_some())
            })?,
            b'[' => {
                let wanted = index(token).ok_or(JsonError::NotFound)?;
                walk.enter(b']', |_, index| Ok(index == wanted))?;
            }
            _ => {
                walk.value(0)?;
                return Err(JsonError::NotFound);
            }
        }
    }
    walk.value(0)
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn token(&mut self) -> Result<u8, JsonError> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied().ok_or(JsonError::Invalid)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), JsonError> {
        let found = self.token()?;
        self.at += 1;
        if found == wanted { Ok(()) } else { Err(JsonError::Invalid) }
    }

    /// Goes into a container, to the element of which `is_it` says so; it stands before it, and is
    /// told its number.
    fn enter(
        &mut self,
        close: u8,
        mut is_it: impl FnMut(&mut Self, usize) -> Result<bool, JsonError>,
    ) -> Result<(), JsonError> {
        self.at += 1;
        if self.token()? == close {
            return Err(JsonError::NotFound);
        }
        for number in 0.. {
            self.token()?;
            if is_it(self, number)? {
                return Ok(());
            }
            self.value(0)?;
            match self.token()? {
                b',' => self.at += 1,
                byte if byte == close => break,
                _ => return Err(JsonError::Invalid),
            }
        }
        Err(JsonError::NotFound)
    }

    fn value(&mut self, depth: usize) -> Result<Found, JsonError> {
        let first = self.token()?;
        let start = self.at;
        let (kind, word) = match first {
            b'"' => return self.text(),
            b'{' => return self.nested(abi::JSON_OBJECT, depth + 1),
            b'[' => return self.nested(abi::JSON_ARRAY, depth + 1),
            b'n' => (abi::JSON_NULL, "null"),
            b't' => (abi::JSON_BOOL, "true"),
            b'f' => (abi::JSON_BOOL, "false"),
            _ => (abi::JSON_NUMBER, ""),
        };
        let rest = &self.bytes[start..];
        let ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']');
        let len = rest.iter().position(ends).unwrap_or(rest.len());
        let whole = &rest[..len];
        let zeros = whole.strip_prefix(b"-").unwrap_or(whole);
        let is_number = json::parse_number(whole).is_some()
            && !(zeros.first() == Some(&b'0') && zeros.get(1).is_some_and(u8::is_ascii_digit));
        if if word.is_empty() { !is_number } else { whole != word.as_bytes() } {
            return Err(JsonError::Invalid);
        }
        self.at += len;
        Ok((kind, start, self.at))
    }

    /// The place is between the quotes.
    fn text(&mut self) -> Result<Found, JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.bytes.get(self.at).ok_or(JsonError::Invalid)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Ok((abi::JSON_STRING, start, self.at - 1))
    }

    /// What stands in it is looked at for brackets and quotes only.
    fn nested(&mut self, kind: i32, depth: usize) -> Result<Found, JsonError> {
        let start = self.at;
        let close = if kind == abi::JSON_OBJECT { b'}' } else { b']' };
        if depth > DEPTH_MAX {
            return Err(JsonError::Invalid);
        }
        self.at += 1;
        loop {
            match *self.bytes.get(self.at).ok_or(JsonError::Invalid)? {
                b'"' => drop(self.text()?),
                b'{' => drop(self.nested(abi::JSON_OBJECT, depth + 1)?),
                b'[' => drop(self.nested(abi::JSON_ARRAY, depth + 1)?),
                byte @ (b'}' | b']') => {
                    self.at += 1;
                    let found = (kind, start, self.at);
                    return if byte == close { Ok(found) } else { Err(JsonError::Invalid) };
                }
                _ => self.at += 1,
            }
        }
    }
}

/// A member's name, its escapes resolved.
fn name(raw: &[u8]) -> Option<Vec<u8>> {
    if !raw.contains(&b'\\') {
        return Some(raw.to_vec());
    }
    let quoted = [b"\"", raw, b"\""].concat();
    json::parse_string(&quoted).map(Cow::into_owned).map(String::into_bytes)
}

/// A part of a pointer: `~1` is `/`, `~0` is `~`.
fn unescaped(token: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut bytes = token.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match (byte, *byte == b'~') {
            (_, true) => match bytes.next()? {
                b'0' => b'~',
                b'1' => b'/',
                _ => return None,
            },
            (byte, false) => *byte,
        });
    }
    Some(plain)
}

fn index(token: &[u8]) -> Option<usize> {
    let plain = !token.is_empty() && token.iter().all(u8::is_ascii_digit);
    let is_index = plain && (token.len() == 1 || token[0] != b'0');
    std::str::from_utf8(token).ok().filter(|_| is_index)?.parse::<u32>().ok().map(|i| i as usize)
}

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

/// XXH64, as its specification says (github.com/Cyan4973/xxHash).
pub(super) fn hash64(bytes: &[u8], seed: u64) -> u64 {
    let [p1, p2, p3, p4, p5] = PRIMES;
    let round = |acc: u64, lane: u64| {
        acc.wrapping_add(lane.wrapping_mul(p2)).rotate_left(31).wrapping_mul(p1)
    };
    let (stripes, rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() {
        seed.wrapping_add(p5)
    } else {
        let mut lanes = [
            seed.wrapping_add(p1).wrapping_add(p2),
            seed.wrapping_add(p2),
            seed,
            seed.wrapping_sub(p1),
        ];
        for stripe in stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*word));
            }
        }
        let turned = [1, 7, 12, 18].iter().zip(lanes).map(|(by, lane)| lane.rotate_left(*by));
        let mixed = turned.fold(0, u64::wrapping_add);
        lanes
            .iter()
            .fold(mixed, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(p1).wrapping_add(p4))
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        let lane = round(0, u64::from_le_bytes(*word));
        hash = (hash ^ lane).rotate_left(27).wrapping_mul(p1).wrapping_add(p4);
    }
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        let lane = u64::from(u32::from_le_bytes(*word)).wrapping_mul(p1);
        hash = (hash ^ lane).rotate_left(23).wrapping_mul(p2).wrapping_add(p3);
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(p5)).rotate_left(11).wrapping_mul(p1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(p2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(p3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use crate::helpers::{JsonError, Kind, hash64, json_field, json_number};

    #[test]
    fn a_pointer_reaches_into_what_is_nested() {
        let document = br#" {"a~b":1, "c/d":[{"":[null, true]}], "\u0065":"\"x", "a~b":2 } "#;
        for (pointer, kind, raw) in [
            ("/a~0b", Kind::Number, "1"),
            ("/c~1d/0//1", Kind::Bool, "true"),
            ("/c~1d/0//0", Kind::Null, "null"),
            ("/c~1d/0", Kind::Object, r#"{"":[null, true]}"#),
            ("/e", Kind::String, r#"\"x"#),
        ] {
            let found = json_field(document, pointer).unwrap();
            assert_eq!((found.kind, found.raw), (kind, raw.as_bytes()), "{pointer}");
        }
        for pointer in ["/a", "/c~1d/1", "/c~1d/00", "/a~0b/x", "/a~2b", "a"] {
            assert_eq!(json_field(document, pointer), Err(JsonError::NotFound), "{pointer}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_not_there() {
        assert_eq!(json_number(br#"{"a":01,"t":1}"#, "/t"), Err(JsonError::Invalid));
        assert_eq!(json_number(br#"{"a" 1}"#, "/t"), Err(JsonError::Invalid));
        assert_eq!(json_number(br#"{"a":[}],"t":1}"#, "/t"), Err(JsonError::Invalid));
        assert_eq!(json_number(br#"{"t":1e999}"#, "/t"), Err(JsonError::NotANumber));
        assert_eq!(json_number("[".repeat(200).as_bytes(), ""), Err(JsonError::Invalid));
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        assert_eq!(hash64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(hash64(b"abc", 0), 0x44bc_2cf5_ad77_0999);
    }
}
