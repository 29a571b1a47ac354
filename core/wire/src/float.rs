//! A floating-point number in a message: what it is equal to is decided by its bits, so that messages can be compared
//! without exceptions. Must never compute anything.

use std::fmt;

/// A number of 64 bits as it stands on the wire. Two are equal if their bits are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct F64(u64);

impl F64 {
    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for F64 {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl fmt::Debug for F64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_equal_to_itself_and_zeros_differ_by_their_sign() {
        assert_eq!(F64::from(f64::NAN), F64::from(f64::NAN));
        assert_ne!(F64::from(0.0), F64::from(-0.0));
        assert_eq!(F64::default().get().to_bits(), 0);
        assert_eq!(format!("{:?}", F64::from(2.5)), "2.5");
    }
}
