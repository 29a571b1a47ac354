//! How far repeated measurements lie apart. A figure is never shown without it.

use serde::{Deserialize, Serialize};

/// The least, the middle and the greatest of several samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The least.
    pub(crate) min: f64,
    /// The middle; of an even number the mean of the two in the middle.
    pub(crate) median: f64,
    /// The greatest.
    pub(crate) max: f64,
    /// How many samples there were.
    pub(crate) samples: usize,
}

impl Spread {
    /// Of samples; `None` without any, or if one is no number.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        if sorted.iter().any(|sample| sample.is_nan()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match sorted.len().is_multiple_of(2) {
            true => f64::midpoint(*sorted.get(middle - 1)?, upper),
            false => upper,
        };
        Some(Self { min, median, max, samples: sorted.len() })
    }

    /// Of the ratios of samples that were taken next to each other: drift of the machine between
    /// rounds cancels out. `None` unless there are as many of one as of the other.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        if ours.len() != theirs.len() || theirs.contains(&0.0) {
            return None;
        }
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(one, other)| one / other).collect();
        Self::of(&ratios)
    }

    /// A single sample.
    pub(crate) fn one(sample: f64) -> Self {
        Self { min: sample, median: sample, max: sample, samples: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        let spread = Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max, spread.samples), (1.0, 2.5, 4.0, 4));
        assert_eq!(Spread::of(&[3.0, 9.0, 1.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[7.0]), Some(Spread::one(7.0)));
    }

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_of_neighbours() {
        // The machine became twice as slow in the second round; the ratio did not change.
        let spread = Spread::of_ratios(&[50.0, 25.0, 24.0], &[100.0, 50.0, 40.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (0.5, 0.5, 0.6));
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }
}
