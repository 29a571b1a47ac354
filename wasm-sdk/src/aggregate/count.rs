//! How many.

use super::Aggregate;
use crate::bytes::{Reader, write_unsigned};

/// How many numbers there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    count: u64,
}

impl Count {
    /// So many.
    pub fn value(&self) -> u64 {
        self.count
    }
}

impl Aggregate for Count {
    fn add(&mut self, _: f64, _: i64) {
        self.count += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        write_unsigned(out, self.count);
    }

    fn decode(&self, from: &mut Reader<'_>) -> Option<Self> {
        Some(Count { count: from.unsigned()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::check;

    #[test]
    fn each_number_counts_once() {
        check::encodes(&Count::default());
        let mut count = check::of(&Count::default(), &[1.0, 1.0, -7.0]);
        count.merge(&check::of(&Count::default(), &[0.0; 500]));
        assert_eq!(count.value(), 503);
    }
}
