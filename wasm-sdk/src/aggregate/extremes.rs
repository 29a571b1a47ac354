//! The least and the greatest.

use super::Aggregate;
use crate::bytes::{Reader, write_double};

macro_rules! extreme {
    ($name:ident, $what:literal, $start:expr, $pick:path) => {
        #[doc = $what]
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name {
            /// The infinity that every number beats stands for none.
            value: f64,
        }

        impl Default for $name {
            fn default() -> Self {
                $name { value: $start }
            }
        }

        impl $name {
            /// That number; `None` if there was none but infinities.
            pub fn value(&self) -> Option<f64> {
                (self.value != $start).then_some(self.value)
            }
        }

        impl Aggregate for $name {
            fn add(&mut self, value: f64, _: i64) {
                // -0 and 0 are one number: which of them stays must not depend on the order.
                self.value = $pick(self.value, value + 0.0);
            }

            fn merge(&mut self, other: &Self) {
                self.value = $pick(self.value, other.value);
            }

            fn encode(&self, out: &mut Vec<u8>) {
                write_double(out, self.value);
            }

            fn decode(&self, from: &mut Reader<'_>) -> Option<Self> {
                Some($name { value: from.double()? })
            }
        }
    };
}

extreme!(Min, "The least number.", f64::INFINITY, f64::min);
extreme!(Max, "The greatest number.", f64::NEG_INFINITY, f64::max);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::check;

    #[test]
    fn the_extremes_are_those_of_all_numbers_in_any_order() {
        check::encodes(&Min::default());
        check::encodes(&Max::default());
        for seed in 0..20 {
            let mut values = check::numbers(seed, 100);
            let (head, tail) = values.split_at(40);
            let mut min = check::of(&Min::default(), tail);
            min.merge(&check::of(&Min::default(), head));
            let mut max = check::of(&Max::default(), tail);
            max.merge(&check::of(&Max::default(), head));
            values.sort_by(f64::total_cmp);
            assert_eq!((min.value(), max.value()), (Some(values[0]), Some(values[99])));
        }
        assert_eq!((Min::default().value(), Max::default().value()), (None, None));
    }

    #[test]
    fn the_two_zeros_are_one() {
        for zeros in [[0.0, -0.0], [-0.0, 0.0]] {
            let min = check::of(&Min::default(), &zeros).value().unwrap();
            assert_eq!(min.to_bits(), 0.0_f64.to_bits());
        }
    }
}
