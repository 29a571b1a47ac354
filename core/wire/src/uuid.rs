//! A 16-byte identifier, as Kafka gives to topics (KIP-516). Must never be generated here: this floor has no
//! randomness.

use std::fmt;
use std::str::FromStr;

/// A UUID: 16 bytes, in network order. Shown as Kafka shows it: URL-safe base64 without padding, 22 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// All zeros: no identifier.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Makes a random (version 4) UUID out of 16 random bytes. Its text never begins with `-`, as in Kafka, so that
    /// it can be an argument of a command.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        if bytes[0] >> 2 == 62 {
            bytes[0] &= 0x7f;
        }
        Self(bytes)
    }

    /// The bytes, in network order.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0_u8; 22];
        for (index, slot) in text.iter_mut().enumerate() {
            // 21 whole sextets from the top; the last one holds two bits and four zeros.
            let sextet = if index < 21 { bits >> (122 - 6 * index) } else { bits << 4 };
            *slot = ALPHABET.get((sextet & 0x3f) as usize).copied().unwrap_or(b'A');
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

/// A text that is not the base64 of a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID: wants 22 characters of URL-safe base64, as Kafka prints topic ids")]
pub struct UuidParseError;

impl FromStr for Uuid {
    type Err = UuidParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let sextets = text.as_bytes();
        if sextets.len() != 22 {
            return Err(UuidParseError);
        }
        let mut bits = 0_u128;
        for (index, character) in sextets.iter().enumerate() {
            let value = ALPHABET.iter().position(|a| a == character).ok_or(UuidParseError)? as u128;
            if index < 21 {
                bits = (bits << 6) | value;
            } else if value & 0x0f == 0 {
                bits = (bits << 2) | (value >> 4);
            } else {
                return Err(UuidParseError);
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_url_safe_base64_without_padding() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
        let bytes = [0xfb, 0xef, 0xbe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
        assert_eq!(Uuid(bytes).to_string(), "----AQIDBAUGBwgJCgsMDQ");
    }

    #[test]
    fn text_comes_back_as_the_same_uuid() {
        let mut bytes = [0_u8; 16];
        for round in 0..=255_u8 {
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = byte.wrapping_mul(31).wrapping_add(round ^ index as u8);
            }
            let uuid = Uuid(bytes);
            assert_eq!(uuid.to_string().parse(), Ok(uuid));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in
            ["", "A", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA+A", "AAAAAAAAAAAAAAAAAAAAAAA"]
        {
            assert_eq!(text.parse::<Uuid>(), Err(UuidParseError), "{text}");
        }
    }

    #[test]
    fn a_random_uuid_has_version_4_and_never_starts_with_a_dash() {
        for first in 0..=255_u8 {
            let mut bytes = [0xff; 16];
            bytes[0] = first;
            let uuid = Uuid::from_random(bytes);
            assert_eq!(uuid.0[6] >> 4, 4);
            assert_eq!(uuid.0[8] >> 6, 2);
            assert!(!uuid.to_string().starts_with('-'));
        }
    }
}
