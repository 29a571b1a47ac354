//! Sizes in configuration: a number of bytes, or a text such as "64MiB", or "30TB" as makers of
//! cards count.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    pub(crate) const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// As a length in memory; saturates on 32-bit machines.
    pub(crate) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_whole = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        let whole = UNITS.iter().filter(is_whole).max_by_key(|(_, unit)| *unit);
        match whole {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let number: u64 =
            digits.parse().map_err(|_| format!("{text:?} is no size: write 65536 or \"64KiB\""))?;
        let unit = unit.trim();
        let factor = UNITS
            .iter()
            .find(|(name, _)| unit.eq_ignore_ascii_case(name) || unit.is_empty() && *name == "B")
            .map(|(_, factor)| *factor)
            .ok_or_else(|| format!("{text:?}: the unit {unit:?} is not one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("{text:?} is too large"))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size, such as 65536 or \"64KiB\"")
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::custom("a size cannot be negative"))
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_in_the_largest_whole_unit() {
        for (text, bytes, printed) in [
            ("65536", 65_536, "64KiB"),
            ("64KiB", 65_536, "64KiB"),
            ("1 gib", 1 << 30, "1GiB"),
            ("1500", 1500, "1500B"),
            ("30 TB", 30_000_000_000_000, "30TB"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, printed));
        }
    }

    #[test]
    fn wrong_sizes_name_the_unit() {
        assert!("64Mb/s".parse::<ByteSize>().unwrap_err().contains("MiB"));
        assert!("x".parse::<ByteSize>().is_err());
        assert!("99999999999GiB".parse::<ByteSize>().unwrap_err().contains("too large"));
    }
}
