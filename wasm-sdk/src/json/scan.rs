//! Finds where things start and end in JSON text, many bytes at a time.
//!
//! In valid JSON a quote inside of text has a backslash before it. So an unescaped `"name"`
//! followed by a colon is a field of that name and nothing else, and the fast path needs no
//! parser: it stops at the first nested `{` or `[` and leaves the rest to the exact walk.

use super::lanes::Lanes;
use super::members::members;

/// Where the value of a top-level field starts.
pub(super) fn value_of(object: &[u8], field: &[u8]) -> Option<usize> {
    match quick_value_of(object, field) {
        Quick::Found(at) => Some(at),
        Quick::Absent => None,
        Quick::Nested => exact(object, field),
    }
}

/// The same as far as it is found without a walk.
#[inline]
pub(crate) fn quick_value_of(object: &[u8], field: &[u8]) -> Quick {
    let open = skip_space(object, 0);
    if object.get(open) != Some(&b'{') {
        return Quick::Absent;
    }
    quick(object, open + 1, field)
}

/// What a search for a name and a colon gave.
pub(crate) enum Quick {
    /// The value starts here.
    Found(usize),
    /// It is not there.
    Absent,
    /// A bracket comes first: depth matters.
    Nested,
}

/// Looks for a quote followed by the name's first byte, and for brackets.
fn quick(object: &[u8], start: usize, field: &[u8]) -> Quick {
    let quotes = Lanes::splat(b'"');
    let firsts = Lanes::splat(field.first().copied().unwrap_or(b'"'));
    // With this bit `[` is `{`.
    let bit = Lanes::splat(0x20);
    let brackets = Lanes::splat(b'{');
    let mut at = start;
    while let (Some(here), Some(next)) = (Lanes::load(object, at), Lanes::load(object, at + 1)) {
        let candidates = here.equal(quotes).and(next.equal(firsts));
        let mut hits = candidates.or(here.or(bit).equal(brackets));
        while let Some(first) = hits.first() {
            match check(object, at + first, field) {
                Quick::Absent => hits = hits.without_first(),
                found => return found,
            }
        }
        at += Lanes::BYTES;
    }
    for position in at..object.len() {
        match check(object, position, field) {
            Quick::Absent => {}
            found => return found,
        }
    }
    Quick::Absent
}

/// Whether the field, or something nested, starts here.
#[inline]
fn check(object: &[u8], position: usize, field: &[u8]) -> Quick {
    match object.get(position) {
        Some(b'{' | b'[') => return Quick::Nested,
        Some(b'"') => {}
        _ => return Quick::Absent,
    }
    let name_end = position + 1 + field.len();
    if object.get(position + 1..name_end) != Some(field) || object.get(name_end) != Some(&b'"') {
        return Quick::Absent;
    }
    if position > 0 && object.get(position - 1) == Some(&b'\\') {
        return Quick::Absent;
    }
    let colon = skip_space(object, name_end + 1);
    if object.get(colon) != Some(&b':') {
        return Quick::Absent;
    }
    Quick::Found(skip_space(object, colon + 1))
}

fn exact(object: &[u8], field: &[u8]) -> Option<usize> {
    let (_, value) = members(object).find(|(name, _)| *name == field)?;
    Some(value.as_ptr() as usize - object.as_ptr() as usize)
}

#[inline]
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// One past the last byte of the value that starts at `at`.
pub(super) fn end_of_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => end_of_text(bytes, at),
        b'{' | b'[' => end_of_nested(bytes, at),
        _ => {
            let rest = bytes.get(at..)?;
            let len = rest
                .iter()
                .position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
                .unwrap_or(rest.len());
            (len > 0).then_some(at + len)
        }
    }
}

/// One past the closing quote of the text whose opening quote is at `at`.
pub(super) fn end_of_text(bytes: &[u8], at: usize) -> Option<usize> {
    let (quotes, backslashes) = (Lanes::splat(b'"'), Lanes::splat(b'\\'));
    let mut at = at + 1;
    loop {
        while let Some(lanes) = Lanes::load(bytes, at) {
            let hits = lanes.equal(quotes).or(lanes.equal(backslashes));
            if let Some(first) = hits.first() {
                at += first;
                break;
            }
            at += Lanes::BYTES;
        }
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn end_of_nested(bytes: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = at;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = end_of_text(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}
