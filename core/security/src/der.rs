//! As much of DER (X.690) as the names in a certificate (RFC 5280) need. Everything is a slice of what was
//! given; must never panic, loop or allocate by a length that the bytes declare.

/// One element: its tag, and what is in it.
pub(crate) type Element<'a> = (u8, &'a [u8]);

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const OID: u8 = 0x06;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const BOOLEAN: u8 = 0x01;

/// The elements that follow each other.
pub(crate) struct Elements<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    /// Ends at the end, and at the first that is none.
    fn next(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            short @ 0..=0x7f => (usize::from(*short), rest),
            // Up to four bytes of length.
            long @ 0x81..=0x84 => {
                let count = usize::from(long & 0x0f);
                let (bytes, rest) = (rest.get(..count)?, rest.get(count..)?);
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, after) = (rest.get(..length)?, rest.get(length..)?);
        self.0 = after;
        Some((*tag, content))
    }
}

/// The content of the first element, if it has this tag.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    Elements(bytes).next().filter(|(own, _)| *own == tag).map(|(_, content)| content)
}
