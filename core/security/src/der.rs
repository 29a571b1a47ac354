//! As much of DER (X.690) as names, dates and signatures of certificates (RFC 5280) need. Everything is a slice
//! of what was given; must never panic, loop or allocate by a length that the bytes declare.

/// One element: its tag, and what is in it.
pub(crate) type Element<'a> = (u8, &'a [u8]);

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const OID: u8 = 0x06;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BITS: u8 = 0x03;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
/// `[0]`: the version of a certificate.
pub(crate) const VERSION: u8 = 0xa0;

/// The elements that follow each other.
pub(crate) struct Elements<'a>(pub(crate) &'a [u8]);

impl<'a> Elements<'a> {
    /// The next one, with its bytes as they stand there, tag and length included.
    pub(crate) fn whole(&mut self) -> Option<(&'a [u8], Element<'a>)> {
        let before = self.0;
        let element = self.next()?;
        let taken = before.len() - self.0.len();
        Some((before.get(..taken)?, element))
    }

    /// The content of the next one, if it has this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(own, _)| *own == tag).map(|(_, content)| content)
    }
}

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

/// The bytes of a bit string without unused bits.
pub(crate) fn octets_of_bits(content: &[u8]) -> Option<&[u8]> {
    content.split_first().filter(|(unused, _)| **unused == 0).map(|(_, bytes)| bytes)
}

/// A time as RFC 5280 4.1.2.5 writes it, in UTC to the second, in seconds since 1970; 0 for what is earlier.
pub(crate) fn time_s((tag, text): Element<'_>) -> Option<u64> {
    let two = |at: usize| -> Option<i64> {
        let digits = text.get(at..at + 2)?;
        let digit = |at: usize| digits.get(at).filter(|c| c.is_ascii_digit()).map(|c| c - b'0');
        Some(i64::from(digit(0)?) * 10 + i64::from(digit(1)?))
    };
    let (year, rest) = match tag {
        UTC_TIME if text.len() == 13 => (two(0)? + if two(0)? < 50 { 2000 } else { 1900 }, 2),
        GENERALIZED_TIME if text.len() == 15 => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let (month, day) = (two(rest)?, two(rest + 2)?);
    let (hour, minute, second) = (two(rest + 4)?, two(rest + 6)?, two(rest + 8)?);
    let is_time = text.last() == Some(&b'Z')
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    is_time.then(|| u64::try_from(seconds).unwrap_or(0))
}

/// Days from 1970 to this one in the Gregorian calendar. The year is taken to begin in March, so that the leap
/// day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "261101000000Z", Some(1_793_491_200)),
            (UTC_TIME, "000229235959Z", Some(951_868_799)),
            (GENERALIZED_TIME, "20991231000000Z", Some(4_102_358_400)),
            (GENERALIZED_TIME, "19500101000000Z", Some(0)),
            (UTC_TIME, "261301000000Z", None),
            (UTC_TIME, "26110100000Z", None),
            (UTC_TIME, "2611010000+0Z", None),
            (GENERALIZED_TIME, "20991231000000+", None),
            (INTEGER, "700101000000Z", None),
        ] {
            assert_eq!(time_s((tag, text.as_bytes())), seconds, "{text}");
        }
    }

    #[test]
    fn an_element_is_given_as_it_stands_there() {
        let bytes = [SEQUENCE, 3, INTEGER, 1, 5, BITS, 2, 0, 9];
        let mut elements = Elements(&bytes);
        assert_eq!(elements.whole(), Some((&bytes[..5], (SEQUENCE, &bytes[2..5]))));
        assert_eq!(elements.expect(BITS).and_then(octets_of_bits), Some(&[9][..]));
        assert_eq!(elements.whole(), None);
        assert_eq!(octets_of_bits(&[1, 8]), None);
    }
}
