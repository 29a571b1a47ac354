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

/// The value of a JSON number, unless it is none or beyond what an `f64` holds.
pub(crate) fn number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|number: &f64| number.is_finite())
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
    fn next_token(&mut self) -> Result<u8, Refused> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        Err(Refused::Invalid)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Refused> {
        if self.next_token()? != wanted {
            return Err(Refused::Invalid);
        }
        self.at += 1;
        Ok(())
    }

    /// Goes to the value of the field `token`.
    fn enter_object(&mut self, token: &[u8]) -> Result<(), Refused> {
        self.expect(b'{')?;
        if self.next_token()? == b'}' {
            return Err(Refused::NotFound);
        }
        loop {
            if self.next_token()? != b'"' {
                return Err(Refused::Invalid);
            }
            let name = self.string()?;
            self.expect(b':')?;
            if names(self.bytes.get(name).unwrap_or_default(), token) {
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
            Kind::String => self.string()?,
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

    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// Goes behind a string; gives what is between its quotes.
    fn string(&mut self) -> Result<Range<usize>, Refused> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            let rest = self.bytes.get(at..).ok_or(Refused::Invalid)?;
            let found = memchr::memchr2(b'"', b'\\', rest).ok_or(Refused::Invalid)?;
            at += found;
            if self.bytes.get(at) == Some(&b'"') {
                self.at = at + 1;
                return Ok(start..at);
            }
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

/// Where the next quote or bracket is, eight bytes at a time.
fn next_structural(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Brackets and braces differ in the bit 0x20 alone, which a quote has.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
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

    /// `\uXXXX`.
    fn code_unit(&mut self) -> Result<u32, ()> {
        let (escape, rest) = self.rest.split_at_checked(6).ok_or(())?;
        let digits = escape.strip_prefix(b"\\u").ok_or(())?;
        self.rest = rest;
        digits.iter().try_fold(0, |code, digit| {
            char::from(*digit).to_digit(16).map(|digit| code * 16 + digit).ok_or(())
        })
    }
}
