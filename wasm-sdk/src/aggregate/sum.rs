//! Sum and mean.
//!
//! Neumaier's addition carries what each step loses along, so a million small numbers do not
//! vanish beside a large one. Its last digit may depend on the order of the numbers.

use super::{Aggregate, Count};
use crate::bytes::{Reader, write_double};

/// The sum of the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    /// The sum; 0 of none.
    pub fn value(&self) -> f64 {
        // Beyond the largest double the correction is no number: infinity minus infinity.
        if self.sum.is_finite() { self.sum + self.lost } else { self.sum }
    }

    fn plus(&mut self, value: f64) {
        let sum = self.sum + value;
        let (large, small) =
            if self.sum.abs() >= value.abs() { (self.sum, value) } else { (value, self.sum) };
        self.lost += (large - sum) + small;
        self.sum = sum;
    }
}

impl Aggregate for Sum {
    fn add(&mut self, value: f64, _: i64) {
        self.plus(value);
    }

    fn merge(&mut self, other: &Self) {
        self.plus(other.sum);
        self.lost += other.lost;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        write_double(out, self.sum);
        write_double(out, self.lost);
    }

    fn decode(&self, from: &mut Reader<'_>) -> Option<Self> {
        Some(Sum { sum: from.double()?, lost: from.double()? })
    }
}

/// The mean of the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    sum: Sum,
    count: Count,
}

impl Mean {
    /// The mean; `None` of no numbers.
    pub fn value(&self) -> Option<f64> {
        (self.count.value() > 0).then(|| self.sum.value() / self.count.value() as f64)
    }

    /// Of how many.
    pub fn count(&self) -> u64 {
        self.count.value()
    }
}

impl Aggregate for Mean {
    fn add(&mut self, value: f64, timestamp_ms: i64) {
        self.sum.add(value, timestamp_ms);
        self.count.add(value, timestamp_ms);
    }

    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.count.merge(&other.count);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.sum.encode(out);
        self.count.encode(out);
    }

    fn decode(&self, from: &mut Reader<'_>) -> Option<Self> {
        Some(Mean { sum: self.sum.decode(from)?, count: self.count.decode(from)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::check;

    /// The exact sum, in units of 2^-60, of numbers that have no finer digits and are not large.
    fn exact(values: &[f64]) -> f64 {
        let unit = 2_f64.powi(60);
        values.iter().map(|value| (value * unit) as i128).sum::<i128>() as f64 / unit
    }

    #[test]
    fn the_sum_is_right_to_the_last_digits_in_any_order() {
        for seed in 0..50 {
            let mut values: Vec<f64> =
                check::numbers(seed, 2_000).iter().map(|value| value * 1e3).collect();
            values.iter_mut().for_each(|value| *value = (*value * 1048576.0).round() / 1048576.0);
            let expected = exact(&values);
            values.sort_by(f64::total_cmp);
            let sorted = check::of(&Sum::default(), &values).value();
            let mut merged = check::of(&Sum::default(), &values[..700]);
            merged.merge(&check::of(&Sum::default(), &values[700..]));
            for sum in [sorted, merged.value()] {
                assert!((sum - expected).abs() <= expected.abs() * 1e-15, "seed {seed}: {sum}");
            }
        }
    }

    #[test]
    fn small_numbers_do_not_vanish_beside_a_large_one() {
        let values = [1e16, 1.0, 1.0, 1.0, -1e16];
        assert_eq!(check::of(&Sum::default(), &values).value(), 3.0);
        assert_eq!(check::of(&Mean::default(), &values).value(), Some(0.6));
    }

    #[test]
    fn a_sum_beyond_all_doubles_is_infinite_not_nonsense() {
        assert_eq!(check::of(&Sum::default(), &[f64::MAX, f64::MAX, 1.0]).value(), f64::INFINITY);
    }

    #[test]
    fn nothing_has_a_sum_but_no_mean() {
        check::encodes(&Sum::default());
        check::encodes(&Mean::default());
        assert_eq!((Sum::default().value(), Mean::default().value()), (0.0, None));
    }
}
