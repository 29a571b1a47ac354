//! Quantiles with a promised relative error, in bounded space: a DDSketch (Masson, Rim, Lee: "DDSketch:
//! a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019).
//!
//! Numbers fall into buckets whose bounds grow by a constant factor; a quantile is a number in the
//! middle of the bucket that holds it. Which bucket a number falls into is computed with additions
//! and multiplications only (the logarithm is a cubic between powers of two), so it is the same on
//! every machine; and neither the order of numbers nor that of merges changes anything, not even
//! when the sketch is full: what is folded together then is always what is smallest.

use super::Aggregate;
use crate::bytes::{Reader, write_signed, write_unsigned};

/// A sketch of numbers that can be asked for any quantile.
///
/// The promise: [`Self::quantile`] is within `relative_error` of the exact one, as long as the
/// numbers of one sign (but zero, which is exact) span a factor of at most (1 +
/// `relative_error`)^(2 · `buckets_max`): beyond that, those nearest to zero are told too large.
/// Numbers nearer to zero than 2.3e-308 count as zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantiles {
    scale: f64,
    buckets_max: usize,
    below: Buckets,
    zeros: u64,
    above: Buckets,
}

impl Default for Quantiles {
    /// Within 1 %, over nine powers of ten, in 4 KiB at most for each sign.
    fn default() -> Self {
        Quantiles::new(0.01, 1024)
    }
}

impl Quantiles {
    /// A sketch whose quantiles are within `relative_error` (0.0001 to 0.5; others become these),
    /// with at most `buckets_max` (8 to 8192) buckets for each sign.
    pub fn new(relative_error: f64, buckets_max: usize) -> Self {
        let error = if relative_error > 0.0001 { relative_error.min(0.5) } else { 0.0001 };
        Quantiles {
            scale: SLOPE_MIN_INVERSE / ln_of_growth(error),
            buckets_max: buckets_max.clamp(8, 8192),
            below: Buckets::default(),
            zeros: 0,
            above: Buckets::default(),
        }
    }

    /// How many numbers there were.
    pub fn count(&self) -> u64 {
        self.below.total() + self.zeros + self.above.total()
    }

    /// The number below which the share `q` (0 to 1) of the numbers lies: that at place
    /// `floor(q · (count - 1))` of the sorted numbers, counted from 0. `None` of no numbers.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let place = (q.clamp(0.0, 1.0) * count.checked_sub(1)? as f64) as u64;
        let below = self.below.total();
        if place < below {
            // The largest in size come first.
            let bucket = self.below.at_place(below - 1 - place)?;
            return Some(-self.middle(bucket));
        }
        if place < below + self.zeros {
            return Some(0.0);
        }
        let bucket = self.above.at_place(place - below - self.zeros)?;
        Some(self.middle(bucket))
    }

    fn bucket_of(&self, size: f64) -> i32 {
        (log2_like(size) * self.scale).floor() as i32
    }

    /// The number whose distance to both ends of the bucket is the same share of either.
    fn middle(&self, bucket: i32) -> f64 {
        let low = self.least_of(bucket);
        let high = self.least_of(bucket.saturating_add(1));
        // As 2 · low · high / (low + high), without leaving the range of doubles.
        low * (2.0 / (1.0 + low / high))
    }

    /// The least double that falls into this bucket or a higher one.
    fn least_of(&self, bucket: i32) -> f64 {
        let (mut low, mut high) = (f64::MIN_POSITIVE.to_bits(), f64::MAX.to_bits());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.bucket_of(f64::from_bits(middle)) >= bucket {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        f64::from_bits(low)
    }
}

impl Aggregate for Quantiles {
    fn add(&mut self, value: f64, _: i64) {
        let size = value.abs().min(f64::MAX);
        if size < f64::MIN_POSITIVE {
            self.zeros += 1;
            return;
        }
        let bucket = self.bucket_of(size);
        let side = if value < 0.0 { &mut self.below } else { &mut self.above };
        side.add(bucket, 1, self.buckets_max);
    }

    fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (side, others) in [(&mut self.below, &other.below), (&mut self.above, &other.above)] {
            // From the top: what is folded is then known at the first.
            for (bucket, count) in others.counts.iter().rev() {
                side.add(*bucket, *count, self.buckets_max);
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        write_unsigned(out, self.zeros);
        self.below.encode(out);
        self.above.encode(out);
    }

    fn decode(&self, from: &mut Reader<'_>) -> Option<Self> {
        Some(Quantiles {
            zeros: from.unsigned()?,
            below: Buckets::decode(from, self.buckets_max)?,
            above: Buckets::decode(from, self.buckets_max)?,
            ..*self
        })
    }
}

/// Counts by bucket, ascending; all within `buckets_max` of the highest.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets {
    counts: Vec<(i32, u64)>,
}

impl Buckets {
    fn add(&mut self, bucket: i32, count: u64, buckets_max: usize) {
        let highest = self.counts.last().map_or(bucket, |(last, _)| bucket.max(*last));
        let lowest = highest - (buckets_max as i32 - 1);
        let bucket = bucket.max(lowest);
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.counts[at].1 += count,
            Err(at) => self.counts.insert(at, (bucket, count)),
        }
        self.fold_below(lowest);
    }

    fn fold_below(&mut self, lowest: i32) {
        let too_low = self.counts.partition_point(|(bucket, _)| *bucket < lowest);
        if too_low == 0 {
            return;
        }
        let folded: u64 = self.counts.drain(..too_low).map(|(_, count)| count).sum();
        match self.counts.first_mut() {
            Some((bucket, count)) if *bucket == lowest => *count += folded,
            _ => self.counts.insert(0, (lowest, folded)),
        }
    }

    fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The bucket of the number at this place, counted from the least.
    fn at_place(&self, place: u64) -> Option<i32> {
        let mut passed = 0;
        let holds = |(_, count): &&(i32, u64)| {
            passed += count;
            passed > place
        };
        self.counts.iter().find(holds).map(|(bucket, _)| *bucket)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        write_unsigned(out, self.counts.len() as u64);
        let mut before = 0;
        for (bucket, count) in &self.counts {
            write_signed(out, i64::from(*bucket) - before);
            write_unsigned(out, *count);
            before = i64::from(*bucket);
        }
    }

    fn decode(from: &mut Reader<'_>, buckets_max: usize) -> Option<Self> {
        let len = usize::try_from(from.unsigned()?).ok().filter(|len| *len <= buckets_max)?;
        let mut counts = Vec::with_capacity(len);
        let mut before = 0_i64;
        for _ in 0..len {
            before = before.checked_add(from.signed()?)?;
            counts.push((i32::try_from(before).ok()?, from.unsigned()?));
        }
        counts.is_sorted_by(|one, next| one.0 < next.0).then_some(Buckets { counts })
    }
}

/// The natural logarithm of (1 + error) / (1 - error), which is 2 · artanh(error), by its series.
fn ln_of_growth(error: f64) -> f64 {
    let square = error * error;
    let (mut power, mut sum) = (error, 0.0);
    for odd in (1..60).step_by(2) {
        sum += power / f64::from(odd);
        power *= square;
    }
    2.0 * sum
}

/// Near log2: exact at powers of two, a cubic in between that never falls and rises at least 10/7
/// for each e-fold (that of log2: 1.4427). `value` is normal and above 0.
fn log2_like(value: f64) -> f64 {
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let part = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)) - 1.0;
    exponent as f64 + ((6.0 / 35.0 * part - 3.0 / 5.0) * part + 10.0 / 7.0) * part
}

const SLOPE_MIN_INVERSE: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::check;

    const SHARES: [f64; 9] = [0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0];

    fn exact(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[(q * (values.len() - 1) as f64) as usize]
    }

    #[track_caller]
    fn assert_within(sketch: &Quantiles, values: &[f64], error: f64) {
        for q in SHARES {
            let (found, exact) = (sketch.quantile(q).unwrap(), exact(values, q));
            // A rounding of the arithmetic itself is allowed for.
            let allowed = exact.abs() * error * (1.0 + 1e-9);
            assert!((found - exact).abs() <= allowed, "q {q}: {found}, not {exact}");
        }
    }

    #[test]
    fn quantiles_are_within_the_promised_error_of_the_exact_ones() {
        for seed in 0..40 {
            for (error, count) in [(0.01, 1), (0.01, 2), (0.01, 5_000), (0.05, 999), (0.002, 500)] {
                // The least size of a number is bounded, for the promise's factor.
                let mut values = check::numbers(seed, count);
                values.retain(|value| value.abs() > 1e-3 || *value == 0.0);
                if values.is_empty() {
                    continue;
                }
                let sketch = check::of(&Quantiles::new(error, 8192), &values);
                assert_eq!(sketch.count(), values.len() as u64);
                assert_within(&sketch, &values, error);
            }
        }
    }

    #[test]
    fn the_default_holds_over_nine_powers_of_ten() {
        let values: Vec<f64> = (0..2_000).map(|n| 10_f64.powf(f64::from(n) * 8.8 / 2e3)).collect();
        assert_within(&check::of(&Quantiles::default(), &values), &values, 0.01);
    }

    #[test]
    fn the_order_of_numbers_and_merges_changes_nothing_even_when_folded() {
        for seed in 0..60 {
            let values = check::numbers(seed, 400);
            let empty = Quantiles::new(0.02, 16 + seed as usize);
            let whole = check::of(&empty, &values);
            let mut backwards = values.clone();
            backwards.reverse();
            assert_eq!(check::of(&empty, &backwards), whole);
            let mut parts: Vec<_> = values.chunks(57).map(|part| check::of(&empty, part)).collect();
            parts.reverse();
            let mut merged = empty.clone();
            parts.iter().for_each(|part| merged.merge(part));
            assert_eq!(merged, whole, "seed {seed}");
        }
    }

    #[test]
    fn a_full_sketch_stays_small_and_keeps_what_is_large_exact() {
        let values: Vec<f64> = (0..60_000).map(|n| 1.001_f64.powi(n % 20_000)).collect();
        let sketch = check::of(&Quantiles::new(0.01, 64), &values);
        let mut bytes = Vec::new();
        sketch.encode(&mut bytes);
        assert!(bytes.len() < 64 * 5, "{} bytes", bytes.len());
        let (found, exact) = (sketch.quantile(0.99).unwrap(), exact(&values, 0.99));
        assert!((found / exact - 1.0).abs() < 0.01, "{found} {exact}");
    }

    #[test]
    fn the_ends_of_the_range_of_doubles_are_held() {
        check::encodes(&Quantiles::default());
        let ends = [f64::MAX, -f64::MAX, f64::MIN_POSITIVE, 5e-324, -0.0, f64::INFINITY];
        let sketch = check::of(&Quantiles::new(0.0001, 8192), &ends);
        assert_eq!(sketch.count(), 6);
        for q in SHARES {
            assert!(sketch.quantile(q).unwrap().is_finite());
        }
        assert_eq!(Quantiles::default().quantile(0.5), None);
    }

    #[test]
    fn no_bucket_is_wider_than_the_error_allows() {
        for error in [0.0001, 0.01, 0.3] {
            let sketch = Quantiles::new(error, 8192);
            for bucket in (-3_000..3_000).step_by(7) {
                let (low, high) = (sketch.least_of(bucket), sketch.least_of(bucket + 1));
                let growth = (1.0 + error) / (1.0 - error);
                assert!(high / low <= growth * (1.0 + 1e-12), "{error} {bucket}");
            }
        }
    }
}
