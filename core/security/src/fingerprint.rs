//! The SHA-256 of a certificate in DER form, as people compare it: `AA:BB:..`.
//!
//! It never accepts anything but exactly 32 bytes of hexadecimal.

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// SHA-256 over the DER bytes of a certificate (what `openssl x509 -fingerprint -sha256` shows).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `certificate`.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate.as_ref()).into())
    }

    /// A fingerprint from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

/// A text that is not a SHA-256 fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a SHA-256 fingerprint: give 64 hexadecimal digits, with or without colons \
     (the server prints its own when it starts)"
)]
pub struct FingerprintError {
    text: String,
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(Self)
            .ok_or_else(|| FingerprintError { text: text.chars().take(100).collect() })
    }
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    let mut digits = text.trim().bytes().filter(|b| *b != b':');
    for byte in &mut bytes {
        let high = char::from(digits.next()?).to_digit(16)?;
        let low = char::from(digits.next()?).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_survives_printing_and_reading() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(b"abc".to_vec()));
        let text = fingerprint.to_string();
        assert!(text.starts_with("BA:78:16:BF:"), "{text}");
        assert_eq!(text.parse::<Fingerprint>(), Ok(fingerprint));
        assert_eq!(text.replace(':', "").to_lowercase().parse::<Fingerprint>(), Ok(fingerprint));
    }

    #[test]
    fn short_long_and_foreign_texts_are_refused() {
        let good = Fingerprint::from_bytes([7; 32]).to_string();
        for bad in ["", "07", &good[..good.len() - 1], &format!("{good}:07"), "zz"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
