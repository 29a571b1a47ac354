//! Finds one field of a JSON document by its pointer (RFC 6901), in place.
//!
//! It reads as far as it must and no further: what stands behind the field, and the inside of what
//! it steps over, is checked for brackets and quotes only. It allocates nothing, has no recursion,
//! and must never read past the document or nest deeper than the cap. Of two fields with the same
//! name the first counts.

use millpond_wire::limits as caps;
use std::ops::Range;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    /// Where it stands; a string without its quotes.
    pub(crate) place: Range<usize>,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    /// Not JSON as far as it was read, or nested too deeply.
    Invalid,
}

/// The value that `pointer` names.
pub(crate) fn find(document: &[u8], pointer: &[u8]) -> Result<Field, Refused> {
    let mut scan = Scan { bytes: document, at: 0 };
    let mut tokens = match pointer.split_first() {
        None => None,
        Some((b'/', rest)) => Some(rest),
        Some(_) => return Err(Refused::NotFound),
    };
    let mut depth = 0;
    while let Some(rest) = tokens {
        let (token, behind) = match memchr::memchr(b'/', rest) {
            Some(end) => (rest.get(..end).unwrap_or_default(), rest.get(end + 1..)),
            None => (rest, None),
        };
        depth += 1;
        if depth > caps::TRANSFORM_JSON_DEPTH_MAX {
            return Err(Refused::Invalid);
        }
        match scan.next_token()? {
            b'{' => scan.enter_object(token)?,
            b'[' => scan.enter_array(token)?,
            _ => {
                scan.value()?;
                return Err(Refused::NotFound);
            }
        }
        tokens = behind;
    }
    scan.value()
}

/// The value that starts at `at`, white space before it skipped.
pub(crate) fn value_at(document: &[u8], at: usize) -> Result<Field, Refused> {
    Scan { bytes: document, at }.value()
}

/// The value of the document's own member of this name: a name, not a part of a pointer.
pub(crate) fn member(document: &[u8], name: &[u8]) -> Result<Field, Refused> {
    let mut scan = Scan { bytes: document, at: 0 };
    // What a pointer's part would have to look like to be this name.
    let token: Vec<u8> = match name.contains(&b'~') {
        false => return scan.enter_object(name).and_then(|()| scan.value()),
        true => name.split(|byte| *byte == b'~').collect::<Vec<_>>().join(&b"~0"[..]),
    };
    scan.enter_object(&token)?;
    scan.value()
}

/// The value of a JSON number, unless it is none or beyond what an `f64` holds.
pub(crate) fn number(text: &[u8]) -> Option<f64> {
    nearest_number(text).filter(|number| number.is_finite())
}

/// The value of a JSON number; infinite beyond what an `f64` holds.
#[inline]
pub(crate) fn nearest_number(text: &[u8]) -> Option<f64> {
    match short_number(text) {
        Some(number) => Some(number),
        None => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

/// A number of at most 15 digits without an exponent: both its digits and the power of ten are
/// doubles without error, so one division rounds once, to the nearest (Clinger 1990).
fn short_number(text: &[u8]) -> Option<f64> {
    const TENS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    if digits.len() > 16 {
        return None;
    }
    let (mut value, mut count, mut behind_point) = (0_u64, 0, None);
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {
                value = value * 10 + u64::from(byte - b'0');
                count += 1;
            }
            b'.' if behind_point.is_none() && count > 0 => behind_point = Some(count),
            _ => return None,
        }
    }
    let decimals = behind_point.map_or(0, |whole| count - whole);
    if count == 0 || count > 15 || (behind_point.is_some() && decimals == 0) {
        return None;
    }
    let value = value as f64 / TENS.get(decimals)?;
    Some(if negative { -value } else { value })
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Skips white space; gives the byte that follows and leaves it there.
    #[inline]
    fn next_token(&mut self) -> Result<u8, Refused> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Refused::Invalid)
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Result<(), Refused> {
        if self.next_token()? != wanted {
            return Err(Refused::Invalid);
        }
        self.at += 1;
        Ok(())
    }

    /// Goes to the value of the field `token`.
    fn enter_object(&mut self, token: &[u8]) -> Result<(), Refused> {
        let plain = !token.contains(&b'~');
        self.expect(b'{')?;
        if self.next_token()? == b'}' {
            return Err(Refused::NotFound);
        }
        loop {
            if self.next_token()? != b'"' {
                return Err(Refused::Invalid);
            }
            let (name, escaped) = self.string()?;
            self.expect(b':')?;
            let name = self.bytes.get(name).unwrap_or_default();
            if if escaped || !plain { names(name, token) } else { name == token } {
                return Ok(());
            }
            self.value()?;
            self.next_element(b'}')?;
        }
    }

    /// Goes to the element number `token`.
    fn enter_array(&mut self, token: &[u8]) -> Result<(), Refused> {
        let index = index(token).ok_or(Refused::NotFound)?;
        self.expect(b'[')?;
        if self.next_token()? == b']' {
            return Err(Refused::NotFound);
        }
        for _ in 0..index {
            self.value()?;
            self.next_element(b']')?;
        }
        Ok(())
    }

    /// Goes behind the comma, or ends at `end`.
    fn next_element(&mut self, end: u8) -> Result<(), Refused> {
        match self.next_token()? {
            b',' => {
                self.at += 1;
                Ok(())
            }
            byte if byte == end => Err(Refused::NotFound),
            _ => Err(Refused::Invalid),
        }
    }

    /// Reads one value and goes behind it.
    fn value(&mut self) -> Result<Field, Refused> {
        let kind = match self.next_token()? {
            b'"' => Kind::String,
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            _ => Kind::Number,
        };
        let start = self.at;
        let place = match kind {
            Kind::String => self.string()?.0,
            Kind::Object | Kind::Array => {
                self.container()?;
                start..self.at
            }
            Kind::Null => self.literal(b"null")?,
            Kind::Bool if self.bytes.get(start) == Some(&b't') => self.literal(b"true")?,
            Kind::Bool => self.literal(b"false")?,
            Kind::Number => self.number()?,
        };
        Ok(Field { kind, place })
    }

    fn literal(&mut self, word: &[u8]) -> Result<Range<usize>, Refused> {
        if !self.rest().starts_with(word) {
            return Err(Refused::Invalid);
        }
        let start = self.at;
        self.at += word.len();
        self.ends_here(start)
    }

    fn number(&mut self) -> Result<Range<usize>, Refused> {
        let start = self.at;
        self.skip(b'-');
        match self.digits() {
            0 => return Err(Refused::Invalid),
            1 => {}
            // No leading zeros.
            count if self.bytes.get(self.at - count) == Some(&b'0') => {
                return Err(Refused::Invalid);
            }
            _ => {}
        }
        if self.skip(b'.') && self.digits() == 0 {
            return Err(Refused::Invalid);
        }
        if self.skip(b'e') || self.skip(b'E') {
            if !self.skip(b'+') {
                self.skip(b'-');
            }
            if self.digits() == 0 {
                return Err(Refused::Invalid);
            }
        }
        self.ends_here(start)
    }

    /// A number or a word that goes on is none.
    fn ends_here(&self, start: usize) -> Result<Range<usize>, Refused> {
        match self.bytes.get(self.at) {
            None | Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']') => Ok(start..self.at),
            _ => Err(Refused::Invalid),
        }
    }

    fn skip(&mut self, wanted: u8) -> bool {
        let there = self.bytes.get(self.at) == Some(&wanted);
        self.at += usize::from(there);
        there
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.at - start
    }

    /// Goes behind a string; gives what is between its quotes, and whether it has escapes.
    #[inline]
    fn string(&mut self) -> Result<(Range<usize>, bool), Refused> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(at..).ok_or(Refused::Invalid)?;
            at += quote_or_backslash(rest).ok_or(Refused::Invalid)?;
            if self.bytes.get(at) == Some(&b'"') {
                self.at = at + 1;
                return Ok((start..at, escaped));
            }
            escaped = true;
            at += 2;
        }
    }

    /// Goes behind an object or an array. Which bracket is open at each depth stands in one bit.
    fn container(&mut self) -> Result<(), Refused> {
        let mut open: u128 = 0;
        let mut depth = 0;
        loop {
            self.at += next_structural(self.rest()).ok_or(Refused::Invalid)?;
            let byte = self.bytes.get(self.at).copied().unwrap_or_default();
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => {
                    depth += 1;
                    if depth > caps::TRANSFORM_JSON_DEPTH_MAX {
                        return Err(Refused::Invalid);
                    }
                    open = (open << 1) | u128::from(byte == b'{');
                }
                _ => {
                    if (open & 1 == 1) != (byte == b'}') {
                        return Err(Refused::Invalid);
                    }
                    open >>= 1;
                    depth -= 1;
                }
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// The high bit of each byte that is 0, and perhaps of some above the lowest of them.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// Where the string ends or is escaped. Names and values are short: a search that sets up for long
/// ones costs more than it saves, until it is clear that this is a long one.
#[inline]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const SHORT_BYTES: usize = 48;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let hits = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        // The lowest hit is a true one of one of the two.
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize / 8);
        }
        at += 8;
        if at >= SHORT_BYTES {
            break;
        }
    }
    let rest = bytes.get(at..)?;
    if rest.len() < 8 {
        return rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|found| at + found);
    }
    memchr::memchr2(b'"', b'\\', rest).map(|found| at + found)
}

/// Where the next quote or bracket is, eight bytes at a time.
fn next_structural(bytes: &[u8]) -> Option<usize> {
    // Brackets and braces differ in the bit 0x20 alone, which a quote has.
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk) | (ONES * 0x20);
        let hits = zeros(word ^ (ONES * u64::from(b'"')))
            | zeros(word ^ (ONES * u64::from(b'{')))
            | zeros(word ^ (ONES * u64::from(b'}')));
        // A hit may be a byte that only looks like one: 0x02, or one behind a true hit.
        if hits != 0
            && let Some(at) = chunk.iter().position(|byte| is_structural(*byte))
        {
            return Some(index * 8 + at);
        }
    }
    let at = tail.iter().position(|byte| is_structural(*byte))?;
    Some(words.len() * 8 + at)
}

fn is_structural(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'}' | b'[' | b']')
}

/// An index of an array, written as RFC 6901 wants it.
fn index(token: &[u8]) -> Option<u32> {
    let plain = token.iter().all(u8::is_ascii_digit);
    let leading_zero = token.len() > 1 && token.first() == Some(&b'0');
    if !plain || leading_zero {
        return None;
    }
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// Whether a field's name, as it stands in the document, is this part of a pointer.
fn names(raw: &[u8], token: &[u8]) -> bool {
    if memchr::memchr(b'\\', raw).is_none() && memchr::memchr(b'~', token).is_none() {
        return raw == token;
    }
    let mut wanted = Token { rest: token };
    let mut name = Name { rest: raw, pending: [0; 4], pending_bytes: 0 };
    loop {
        match (name.next(), wanted.next()) {
            (Ok(None), Some(None)) => return true,
            (Ok(Some(a)), Some(Some(b))) if a == b => {}
            _ => return false,
        }
    }
}

/// The bytes of a pointer's part: `~0` is `~`, `~1` is `/`.
struct Token<'a> {
    rest: &'a [u8],
}

impl Token<'_> {
    /// `None`: not well-formed; `Some(None)`: the end.
    fn next(&mut self) -> Option<Option<u8>> {
        let (byte, used) = match *self.rest {
            [] => return Some(None),
            [b'~', b'0', ..] => (b'~', 2),
            [b'~', b'1', ..] => (b'/', 2),
            [b'~', ..] => return None,
            [byte, ..] => (byte, 1),
        };
        self.rest = self.rest.get(used..).unwrap_or_default();
        Some(Some(byte))
    }
}

/// The bytes of a name, its escapes resolved.
struct Name<'a> {
    rest: &'a [u8],
    pending: [u8; 4],
    pending_bytes: usize,
}

impl Name<'_> {
    /// `Err`: not well-formed; `Ok(None)`: the end.
    fn next(&mut self) -> Result<Option<u8>, ()> {
        if self.pending_bytes > 0 {
            let [first, rest @ ..] = self.pending;
            self.pending = [rest[0], rest[1], rest[2], 0];
            self.pending_bytes -= 1;
            return Ok(Some(first));
        }
        let (byte, used) = match *self.rest {
            [] => return Ok(None),
            [b'\\', b'u', ..] => return self.unicode(),
            [b'\\', escaped, ..] => match escaped {
                b'"' | b'\\' | b'/' => (escaped, 2),
                b'b' => (8, 2),
                b'f' => (12, 2),
                b'n' => (b'\n', 2),
                b'r' => (b'\r', 2),
                b't' => (b'\t', 2),
                _ => return Err(()),
            },
            [b'\\'] => return Err(()),
            [byte, ..] => (byte, 1),
        };
        self.rest = self.rest.get(used..).unwrap_or_default();
        Ok(Some(byte))
    }

    fn unicode(&mut self) -> Result<Option<u8>, ()> {
        let first = self.code_unit()?;
        let code = match first {
            0xd800..=0xdbff => {
                let second = self.code_unit()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(());
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        let character = char::from_u32(code).ok_or(())?;
        self.pending_bytes = character.encode_utf8(&mut self.pending).len();
        self.next()
    }

    /// A backslash, `u` and four hexadecimal digits.
    fn code_unit(&mut self) -> Result<u32, ()> {
        let (escape, rest) = self.rest.split_at_checked(6).ok_or(())?;
        let digits = escape.strip_prefix(b"\\u").ok_or(())?;
        self.rest = rest;
        digits.iter().try_fold(0, |code, digit| {
            char::from(*digit).to_digit(16).map(|digit| code * 16 + digit).ok_or(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use serde_json::{Map, Value};

    impl Numbers {
        fn text(&mut self) -> String {
            const PIECES: [&str; 14] = [
                "a",
                "b",
                "~",
                "/",
                "\"",
                "\\",
                "{",
                "]",
                "\n",
                "\u{1}",
                "\u{e9}",
                "\u{1f600}",
                " ",
                "0",
            ];
            (0..self.below(4)).map(|_| PIECES[self.below(14) as usize]).collect()
        }

        fn value(&mut self, depth: u64) -> Value {
            match self.below(if depth == 0 { 5 } else { 8 }) {
                0 => Value::Null,
                1 => Value::Bool(self.below(2) == 0),
                2 => Value::from(self.next() as i64),
                // The other reader is a digit off on most others.
                3 => Value::from(f64::from(self.next() as i32) / 8.0),
                4 => Value::String(self.text()),
                5 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
                _ => {
                    let fields = (0..self.below(4)).map(|_| (self.text(), self.value(depth - 1)));
                    Value::Object(fields.collect::<Map<_, _>>())
                }
            }
        }

        /// A pointer to something in the value, or nearly.
        fn pointer(&mut self, value: &Value) -> String {
            let mut pointer = String::new();
            let mut at = value;
            while self.below(5) > 0 {
                let token = match at {
                    Value::Array(items) => self.below(items.len() as u64 + 1).to_string(),
                    Value::Object(fields) if !fields.is_empty() && self.below(9) > 0 => {
                        let keys: Vec<_> = fields.keys().collect();
                        keys[self.below(keys.len() as u64) as usize].clone()
                    }
                    _ => self.text(),
                };
                pointer += &format!("/{}", token.replace('~', "~0").replace('/', "~1"));
                at = value.pointer(&pointer).unwrap_or(&Value::Null);
            }
            pointer
        }

        /// White space between tokens, and escapes where none are needed.
        fn write(&mut self, value: &Value, out: &mut String) {
            let space = [" ", "", "\n\t", "\r"][self.below(4) as usize];
            out.push_str(space);
            match value {
                Value::Array(items) => {
                    out.push('[');
                    for (index, item) in items.iter().enumerate() {
                        out.push_str(if index > 0 { "," } else { "" });
                        self.write(item, out);
                    }
                    out.push_str(&format!("{space}]"));
                }
                Value::Object(fields) => {
                    out.push('{');
                    for (index, (key, field)) in fields.iter().enumerate() {
                        out.push_str(if index > 0 { "," } else { "" });
                        self.write(&Value::String(key.clone()), out);
                        out.push_str(&format!("{space}:"));
                        self.write(field, out);
                    }
                    out.push_str(&format!("{space}}}"));
                }
                Value::String(text) if self.below(3) == 0 => {
                    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
                    out.push_str(&format!("\"{}\"", units.collect::<String>()));
                }
                plain => out.push_str(&plain.to_string()),
            }
            out.push_str(space);
        }
    }

    fn read(document: &str, field: &Field) -> Value {
        let raw = &document[field.place.clone()];
        let text = match field.kind {
            Kind::String => format!("\"{raw}\""),
            _ => raw.to_owned(),
        };
        serde_json::from_str(&text).expect("what is found is JSON")
    }

    #[test]
    fn it_finds_what_another_reader_finds() {
        let mut found = 0;
        for seed in 0..30_000 {
            let mut numbers = Numbers(seed);
            let value = numbers.value(4);
            let mut document = String::new();
            numbers.write(&value, &mut document);
            let pointer = numbers.pointer(&value);
            match (find(document.as_bytes(), pointer.as_bytes()), value.pointer(&pointer)) {
                (Ok(field), Some(expected)) => {
                    found += 1;
                    let read = read(&document, &field);
                    if let (Some(float), Kind::Number) = (expected.as_f64(), field.kind) {
                        let number = number(document[field.place].as_bytes());
                        assert_eq!(number, Some(float), "seed {seed}: {document} {pointer}");
                    } else {
                        assert_eq!(&read, expected, "seed {seed}: {document} {pointer}");
                    }
                }
                (Err(Refused::NotFound), None) => {}
                other => panic!("seed {seed}: {document} {pointer}: {other:?}"),
            }
        }
        assert!(found > 5_000, "{found}");
    }

    #[test]
    fn whatever_the_bytes_it_ends_within_them() {
        let mut invalid = 0;
        for seed in 0..40_000 {
            let mut numbers = Numbers(seed);
            let value = numbers.value(3);
            let mut document = String::new();
            numbers.write(&value, &mut document);
            let pointer = numbers.pointer(&value);
            let mut document = document.into_bytes();
            for _ in 0..1 + numbers.below(3) {
                let at = numbers.below(document.len() as u64 + 1) as usize;
                const BYTES: &[u8] = b"\"\\{}[],:0-e.tn \xff\x02";
                let byte = BYTES[numbers.below(BYTES.len() as u64) as usize];
                match numbers.below(3) {
                    0 => document.truncate(at),
                    1 => document.insert(at, byte),
                    _ => document.iter_mut().skip(at).take(1).for_each(|place| *place = byte),
                }
            }
            let whole = serde_json::from_slice::<Value>(&document);
            match find(&document, pointer.as_bytes()) {
                Ok(field) => assert!(field.place.end <= document.len()),
                Err(Refused::Invalid) => {
                    invalid += 1;
                    assert!(whole.is_err(), "seed {seed}: {}", document.escape_ascii());
                }
                Err(Refused::NotFound) => {}
            }
        }
        assert!(invalid > 5_000, "{invalid}");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let max = caps::TRANSFORM_JSON_DEPTH_MAX;
        assert!(find(nested(max).as_bytes(), b"").is_ok());
        assert_eq!(find(nested(max + 1).as_bytes(), b""), Err(Refused::Invalid));
        assert_eq!(find(&vec![b'['; 1 << 20], b""), Err(Refused::Invalid));
        let deep = "/0".repeat(max);
        assert!(find(nested(max).as_bytes(), deep.as_bytes()).is_ok());
        let deeper = "/0".repeat(1 << 18);
        assert!(find(nested(max).as_bytes(), deeper.as_bytes()).is_err());
        assert_eq!(find(b"[{]}", b""), Err(Refused::Invalid));
    }

    #[test]
    fn numbers_are_those_of_json() {
        for good in ["0", "-0", "10", "1.5", "-1e3", "2E+2", "0.1e-2"] {
            let found = find(good.as_bytes(), b"").map(|field| field.kind);
            assert_eq!(found, Ok(Kind::Number), "{good}");
            assert_eq!(number(good.as_bytes()), good.parse().ok(), "{good}");
        }
        for bad in ["01", "-", "+1", "1.", ".5", "1e", "0x1", "1-1", "NaN", "Infinity", "", "--1"] {
            assert!(find(bad.as_bytes(), b"").is_err(), "{bad}");
        }
        assert_eq!(number(b"1e999"), None);
        let mut numbers = Numbers(1);
        for _ in 0..10_000 {
            let float = f64::from_bits(numbers.next());
            if float.is_finite() {
                assert_eq!(number(format!("{float:e}").as_bytes()), Some(float));
            }
        }
    }
}
