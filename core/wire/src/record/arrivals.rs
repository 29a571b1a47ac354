//! Which of a row of numbered datagrams came: counts what is missing once it can no longer be late,
//! and knows what came before, within a window (as RFC 4303, section 3.4.3). Fixed size.

/// How many numbers below the highest may still come.
const WINDOW: u64 = u64::BITS as u64;

/// The numbers that came on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    /// The next number above all that came.
    next: u64,
    /// Bit n: whether `next - 1 - n` came.
    came: u64,
}

/// What a number is, beside those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is new; so many others are missing for good from here on.
    New {
        /// Numbers that fell out of the window without having come.
        missing: u64,
    },
    /// It came before, or was counted as missing.
    Old,
}

impl Arrivals {
    /// Takes a number.
    pub fn take(&mut self, number: u64) -> Arrival {
        let Some(ahead) = number.checked_sub(self.next) else {
            let bit = self.next - 1 - number;
            if bit >= WINDOW || self.came & (1 << bit) != 0 {
                return Arrival::Old;
            }
            self.came |= 1 << bit;
            return Arrival::New { missing: 0 };
        };
        let shift = ahead.saturating_add(1);
        let missing = self.fallen_out(shift);
        self.came = u32::try_from(shift).ok().and_then(|by| self.came.checked_shl(by)).unwrap_or(0);
        self.came |= 1;
        self.next = number.saturating_add(1);
        Arrival::New { missing }
    }

    /// What of the window has not come, when nothing more will.
    #[must_use]
    pub fn missing_at_the_end(&self) -> u64 {
        self.next.min(WINDOW) - u64::from(self.came.count_ones())
    }

    /// How many numbers leave the window, uncame, when it moves by `shift`.
    fn fallen_out(&self, shift: u64) -> u64 {
        // Those at its far end, as far as there were any...
        let known = self.next.min(WINDOW);
        let leaving = (known + shift).saturating_sub(WINDOW);
        let of_known = leaving.min(known);
        let kept_mask = match known - of_known {
            WINDOW => u64::MAX,
            kept => (1 << kept) - 1,
        };
        let came = (self.came & !kept_mask).count_ones();
        // ...and those that it jumps over.
        of_known - u64::from(came) + (leaving - of_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn total(numbers: &[u64]) -> (u64, usize) {
        let (mut arrivals, mut missing, mut old) = (Arrivals::default(), 0, 0);
        for number in numbers {
            match arrivals.take(*number) {
                Arrival::New { missing: more } => missing += more,
                Arrival::Old => old += 1,
            }
        }
        (missing + arrivals.missing_at_the_end(), old)
    }

    #[test]
    fn gaps_are_missing_and_late_ones_are_not() {
        assert_eq!(total(&[0, 1, 2, 3]), (0, 0));
        assert_eq!(total(&[0, 3, 1, 2]), (0, 0));
        assert_eq!(total(&[0, 3]), (2, 0));
        assert_eq!(total(&[5]), (5, 0));
        assert_eq!(total(&[0, 1_000, 1]), (999, 1));
        assert_eq!(total(&[0, u64::MAX - 1]), (u64::MAX - 2, 0));
    }

    #[test]
    fn what_came_before_is_old() {
        assert_eq!(total(&[0, 0]), (0, 1));
        assert_eq!(total(&[4, 2, 2, 4, 3]), (2, 2));
    }

    #[test]
    fn within_the_window_any_order_gives_what_a_set_gives() {
        let mut dice = 1_u64;
        for round in 0..2_000_u64 {
            let mut numbers = Vec::new();
            let mut base = 0;
            for _ in 0..40 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round | 1);
                base += (dice >> 60) % 4;
                numbers.push(base + (dice >> 33) % 20);
            }
            let set: BTreeSet<u64> = numbers.iter().copied().collect();
            let highest = set.last().copied().unwrap_or_default();
            let wanted = (highest + 1 - set.len() as u64, numbers.len() - set.len());
            assert_eq!(total(&numbers), wanted, "round {round}: {numbers:?}");
        }
    }
}
