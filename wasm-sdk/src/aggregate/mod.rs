//! What a window makes of its numbers, one at a time, in bounded space.
//!
//! An aggregate starts as a clone of one that is empty, so its options (a quantile sketch's
//! error) stand in one place. Several at once are a tuple: `(Count, Mean, Min, Max)`.
//!
//! | aggregate | does the order of the numbers matter? |
//! |---|---|
//! | [`Count`], [`Min`], [`Max`], [`Quantiles`] | no |
//! | [`Sum`], [`Mean`] | in the last digit at most: compensated (Neumaier) addition |
//! | [`Last`] | of numbers with the same timestamp the one that was added last stays |
//!
//! The log fixes the order of records, and [`Sessions`](crate::window::Sessions) fixes the order
//! of merges, so the same records give the same bits each time.

mod count;
mod extremes;
mod last;
mod quantiles;
mod sum;

pub use count::Count;
pub use extremes::{Max, Min};
pub use last::Last;
pub use quantiles::Quantiles;
pub use sum::{Mean, Sum};

use crate::bytes::Reader;

/// Something that numbers are added to.
pub trait Aggregate: Clone {
    /// Adds one number. What is not a number (NaN) is never passed by the operators.
    fn add(&mut self, value: f64, timestamp_ms: i64);

    /// Adds what another was made of; that other's records count as added later.
    fn merge(&mut self, other: &Self);

    /// Appends its compact form.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads what [`Self::encode`] of an aggregate with the same options wrote. `None` if it
    /// cannot be.
    fn decode(&self, from: &mut Reader<'_>) -> Option<Self>;
}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Aggregate),+> Aggregate for ($($name,)+) {
            fn add(&mut self, value: f64, timestamp_ms: i64) {
                $(self.$index.add(value, timestamp_ms);)+
            }

            fn merge(&mut self, other: &Self) {
                $(self.$index.merge(&other.$index);)+
            }

            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$index.encode(out);)+
            }

            fn decode(&self, from: &mut Reader<'_>) -> Option<Self> {
                Some(($(self.$index.decode(from)?,)+))
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);

/// What every aggregate must keep, for the tests of each.
#[cfg(test)]
pub(crate) mod check {
    use super::*;

    /// Numbers of many sizes and both signs, the same each time.
    pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f64> {
        let mut random = crate::Random::new(seed, 0, 0);
        let number = |_| {
            let exponent = (random.next_u64() % 17) as i32 - 8;
            (random.next_f64() - 0.3) * 10_f64.powi(exponent)
        };
        (0..count).map(number).collect()
    }

    pub(crate) fn of<A: Aggregate>(empty: &A, values: &[f64]) -> A {
        let mut aggregate = empty.clone();
        for (at, value) in values.iter().enumerate() {
            aggregate.add(*value, at as i64);
        }
        aggregate
    }

    /// It reads back as it was written, wherever that happens, and refuses what is cut.
    pub(crate) fn encodes<A: Aggregate + PartialEq + core::fmt::Debug>(empty: &A) {
        for count in [0, 1, 2, 300] {
            let whole = of(empty, &numbers(7, count));
            let mut bytes = Vec::new();
            whole.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(empty.decode(&mut reader).as_ref(), Some(&whole));
            assert!(reader.is_empty());
            for end in 0..bytes.len() {
                assert_eq!(empty.decode(&mut Reader::new(&bytes[..end])), None, "cut at {end}");
            }
        }
        let values = numbers(8, 50);
        let mut stored = empty.clone();
        for (at, value) in values.iter().enumerate() {
            let mut bytes = Vec::new();
            stored.encode(&mut bytes);
            stored = empty.decode(&mut Reader::new(&bytes)).unwrap();
            stored.add(*value, at as i64);
        }
        assert_eq!(stored, of(empty, &values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_is_all_of_its_parts() {
        let empty = (Count::default(), Sum::default(), Max::default(), Last::default());
        check::encodes(&empty);
        let (count, sum, max, last) = check::of(&empty, &[1.0, 5.0, 3.0]);
        assert_eq!((count.value(), sum.value()), (3, 9.0));
        assert_eq!((max.value(), last.value()), (Some(5.0), Some(3.0)));
    }
}
