//! The latest.

use super::Aggregate;
use crate::bytes::{Reader, write_double, write_signed};

/// The number with the greatest timestamp.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Last {
    last: Option<(i64, f64)>,
}

impl Last {
    /// That number; `None` if there was none.
    pub fn value(&self) -> Option<f64> {
        self.last.map(|(_, value)| value)
    }

    /// Its timestamp.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.last.map(|(timestamp_ms, _)| timestamp_ms)
    }
}

impl Aggregate for Last {
    fn add(&mut self, value: f64, timestamp_ms: i64) {
        if self.last.is_none_or(|(before, _)| before <= timestamp_ms) {
            self.last = Some((timestamp_ms, value));
        }
    }

    fn merge(&mut self, other: &Self) {
        if let Some((timestamp_ms, value)) = other.last {
            self.add(value, timestamp_ms);
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let Some((timestamp_ms, value)) = self.last else {
            out.push(0);
            return;
        };
        out.push(1);
        write_signed(out, timestamp_ms);
        write_double(out, value);
    }

    fn decode(&self, from: &mut Reader<'_>) -> Option<Self> {
        let last = match from.byte()? {
            0 => None,
            1 => Some((from.signed()?, from.double()?)),
            _ => return None,
        };
        Some(Last { last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::check;

    #[test]
    fn the_latest_wins_whenever_it_came() {
        check::encodes(&Last::default());
        let mut last = Last::default();
        for (value, at) in [(1.0, 5), (2.0, 9), (3.0, 7), (4.0, 9)] {
            last.add(value, at);
        }
        assert_eq!((last.value(), last.timestamp_ms()), (Some(4.0), Some(9)));
        let mut earlier = Last::default();
        earlier.add(8.0, 8);
        last.merge(&earlier);
        last.merge(&Last::default());
        assert_eq!(last.value(), Some(4.0));
    }
}
