//! Signed modules: who made this module, under which name, and in which order it came. The
//! signature stands in the module's last section, so that a signed module is still a module.
//!
//! ```text
//! section   0u8 | size leb | name leb-prefixed "millpond.package" | payload, to the end of the file
//! payload   1u8 | signature 64 | public key 32 | counter u64 le
//!           | name u8-prefixed | version u8-prefixed
//! signed    "millpond package 1\0" | SHA-256 of the module without the section
//!           | payload from the counter on
//! ```
//! Ed25519 (RFC 8032). It must never call a module signed that differs in one bit from what was
//! signed, and it never looks into the module itself.

use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const SECTION_NAME: &[u8] = b"millpond.package";
const PAYLOAD_VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 64;
const KEY_BYTES: usize = 32;
const DOMAIN: &[u8] = b"millpond package 1\0";
/// A module's magic and version.
const PREAMBLE_BYTES: usize = 8;

/// What a signature says of a module besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The transform that it is for; a node deploys it under no other name.
    pub name: String,
    /// The maker's label.
    pub version: String,
    /// Grows with each release: a node refuses one that is lower than the highest it has seen.
    pub counter: u64,
}

/// An Ed25519 public key, in hexadecimal for people.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

/// Signs modules. Its `Debug` shows the public half only.
pub struct PackageKey(KeyPair);

/// A module with a signature that nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    manifest: Manifest,
    signer: PublicKey,
    signature: [u8; SIGNATURE_BYTES],
    digest: [u8; 32],
}

/// Why a module is not accepted as signed, or cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// No section, or not the last one.
    #[error("the module is not signed; `millpond transform sign` signs it")]
    Unsigned,
    /// Not a WebAssembly module at all, or cut short.
    #[error("the file is not a WebAssembly module, or is damaged")]
    NotAModule,
    /// The section is not what it must be.
    #[error("the module's signature is damaged, or of a newer version of millpond")]
    Damaged,
    /// Whoever signed it is not trusted here.
    #[error(
        "the module is signed with the key {0}, which is not among transforms.trusted_keys of this \
         node"
    )]
    UntrustedKey(PublicKey),
    /// The bytes are not those that were signed.
    #[error("the module's signature is wrong: it was changed after it was signed")]
    BadSignature,
    /// A name or version that does not fit.
    #[error("{0} is longer than 255 bytes")]
    TooLong(&'static str),
    /// A key that is none.
    #[error("the key cannot be used: {0}")]
    BadKey(String),
}

impl PackageKey {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<Self, PackageError> {
        let key = KeyPair::generate_for(&PKCS_ED25519);
        key.map(Self).map_err(|e| PackageError::BadKey(e.to_string()))
    }

    /// Reads a PKCS #8 key in PEM form, as [`PackageKey::to_pem`] and OpenSSL write it.
    ///
    /// # Errors
    /// It is not an Ed25519 key.
    pub fn from_pem(pem: &str) -> Result<Self, PackageError> {
        let key = KeyPair::from_pem(pem).map_err(|e| PackageError::BadKey(e.to_string()))?;
        match key.algorithm() == &PKCS_ED25519 {
            true => Ok(Self(key)),
            false => Err(PackageError::BadKey("it is not an Ed25519 key".to_owned())),
        }
    }

    /// The private key in PEM form: a secret.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// What others check signatures with.
    ///
    /// # Errors
    /// The key is of another length than Ed25519's.
    pub fn public(&self) -> Result<PublicKey, PackageError> {
        let raw = self.0.public_key_raw().try_into();
        raw.map(PublicKey).map_err(|_| PackageError::BadKey("it has no 32 bytes".to_owned()))
    }
}

impl fmt::Debug for PackageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackageKey({:?})", self.public())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, PackageError> {
        let bad = || PackageError::BadKey("a public key is 64 hexadecimal digits".to_owned());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let pairs: &[[u8; 2]; KEY_BYTES] = pairs.try_into().map_err(|_| bad())?;
        if !rest.is_empty() {
            return Err(bad());
        }
        let digit = |c: u8| {
            let digit = char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit.ok_or_else(bad)
        };
        let mut key = [0; KEY_BYTES];
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(key))
    }
}

impl Manifest {
    fn bytes(&self) -> Result<Vec<u8>, PackageError> {
        let mut bytes = self.counter.to_le_bytes().to_vec();
        for (what, text) in [("the name", &self.name), ("the version", &self.version)] {
            let len = u8::try_from(text.len()).map_err(|_| PackageError::TooLong(what))?;
            bytes.push(len);
            bytes.extend_from_slice(text.as_bytes());
        }
        Ok(bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (counter, rest) = bytes.split_first_chunk::<8>()?;
        let (name, rest) = prefixed(rest)?;
        let (version, rest) = prefixed(rest)?;
        let counter = u64::from_le_bytes(*counter);
        rest.is_empty().then_some(Self { name, version, counter })
    }
}

fn prefixed(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

/// The module with a signature behind it, in place of one that it may have.
///
/// # Errors
/// It is no module, or the manifest does not fit.
pub fn sign(module: &[u8], manifest: &Manifest, key: &PackageKey) -> Result<Vec<u8>, PackageError> {
    let (module, _) = split(module)?;
    let manifest = manifest.bytes()?;
    let message = message(&Sha256::digest(module).into(), &manifest);
    let signature = key.0.sign(&message).map_err(|e| PackageError::BadKey(e.to_string()))?;
    let mut payload = vec![PAYLOAD_VERSION];
    payload.extend_from_slice(&signature);
    payload.extend_from_slice(&key.public()?.0);
    payload.extend_from_slice(&manifest);
    let mut section = Vec::new();
    put_leb(&mut section, SECTION_NAME.len());
    section.extend_from_slice(SECTION_NAME);
    section.extend_from_slice(&payload);
    let mut signed = module.to_vec();
    signed.push(0);
    put_leb(&mut signed, section.len());
    signed.extend_from_slice(&section);
    Ok(signed)
}

impl Package {
    /// Finds the signature of a module; says nothing yet of whether it is right.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open(module: &[u8]) -> Result<Self, PackageError> {
        let (bare, payload) = split(module)?;
        Self::parse(bare, payload.ok_or(PackageError::Unsigned)?).ok_or(PackageError::Damaged)
    }

    fn parse(bare: &[u8], payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&[PAYLOAD_VERSION])?;
        let (signature, rest) = rest.split_first_chunk::<SIGNATURE_BYTES>()?;
        let (signer, manifest) = rest.split_first_chunk::<KEY_BYTES>()?;
        Some(Self {
            manifest: Manifest::parse(manifest)?,
            signer: PublicKey(*signer),
            signature: *signature,
            digest: Sha256::digest(bare).into(),
        })
    }

    /// What it says of the module, if one of these keys signed it.
    ///
    /// # Errors
    /// Another key did, or the module was changed.
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<&Manifest, PackageError> {
        if !trusted.contains(&self.signer) {
            return Err(PackageError::UntrustedKey(self.signer));
        }
        let message = message(&self.digest, &self.manifest.bytes()?);
        UnparsedPublicKey::new(&ED25519, &self.signer.0)
            .verify(&message, &self.signature)
            .map_err(|_| PackageError::BadSignature)?;
        Ok(&self.manifest)
    }
}

fn message(digest: &[u8; 32], manifest: &[u8]) -> Vec<u8> {
    [DOMAIN, digest, manifest].concat()
}

/// A module without its package section, and the payload of that section if it is the last one.
fn split(module: &[u8]) -> Result<(&[u8], Option<&[u8]>), PackageError> {
    if !module.starts_with(b"\0asm") || module.len() < PREAMBLE_BYTES {
        return Err(PackageError::NotAModule);
    }
    let (mut at, mut last) = (PREAMBLE_BYTES, None);
    while at < module.len() {
        let rest = module.get(at..).unwrap_or_default();
        let (section, len) = section(rest).ok_or(PackageError::NotAModule)?;
        last = package_payload(section).map(|payload| (at, payload));
        at += len;
    }
    match last {
        Some((at, payload)) => Ok((module.get(..at).unwrap_or_default(), Some(payload))),
        None => Ok((module, None)),
    }
}

/// The first section, its content behind its id, and how long it is in all.
fn section(bytes: &[u8]) -> Option<((u8, &[u8]), usize)> {
    let (id, rest) = bytes.split_first()?;
    let (size, size_len) = leb(rest)?;
    let content = rest.get(size_len..size_len.checked_add(size)?)?;
    Some(((*id, content), 1 + size_len + size))
}

fn package_payload((id, content): (u8, &[u8])) -> Option<&[u8]> {
    let (name_len, leb_len) = leb(content)?;
    let (name, payload) = content.get(leb_len..)?.split_at_checked(name_len)?;
    (id == 0 && name == SECTION_NAME).then_some(payload)
}

/// An unsigned LEB128 number of 32 bits, and its length.
fn leb(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(u32::try_from(value).ok()?).ok()?, index + 1));
        }
    }
    None
}

fn put_leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        match value {
            0 => return out.push(byte),
            _ => out.push(byte | 0x80),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one custom section of another name.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\0\x05\x04note";

    fn manifest(counter: u64) -> Manifest {
        Manifest { name: "hot".into(), version: "1.2.0".into(), counter }
    }

    fn signed() -> (Vec<u8>, PackageKey) {
        let key = PackageKey::generate().unwrap();
        (sign(MODULE, &manifest(7), &key).unwrap(), key)
    }

    #[test]
    fn a_signed_module_begins_with_the_module_and_tells_what_was_signed() {
        let (signed, key) = signed();
        assert!(signed.starts_with(MODULE));
        let trusted = [key.public().unwrap()];
        assert_eq!(Package::open(&signed).unwrap().verify(&trusted), Ok(&manifest(7)));
        let again = sign(&signed, &manifest(8), &key).unwrap();
        assert_eq!(again.len(), signed.len(), "the new signature takes the place of the old one");
        assert_eq!(Package::open(&again).unwrap().verify(&trusted), Ok(&manifest(8)));
    }

    #[test]
    fn no_bit_of_a_signed_module_can_be_changed() {
        let (signed, key) = signed();
        let trusted = [key.public().unwrap()];
        for bit in 0..signed.len() * 8 {
            let mut changed = signed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let verified = Package::open(&changed).and_then(|p| p.verify(&trusted).cloned());
            assert!(verified.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn nothing_that_is_cut_or_appended_counts_as_signed_and_nothing_panics() {
        let (signed, key) = signed();
        let trusted = [key.public().unwrap()];
        for len in 0..signed.len() {
            let verified = Package::open(&signed[..len]).and_then(|p| p.verify(&trusted).cloned());
            assert!(verified.is_err(), "{len} bytes");
        }
        let more = [&signed[..], b"\0\x05\x04note"].concat();
        assert_eq!(Package::open(&more), Err(PackageError::Unsigned), "it is not the last section");
    }

    #[test]
    fn a_stranger_who_signs_is_named() {
        let (signed, key) = signed();
        let other = PackageKey::generate().unwrap().public().unwrap();
        let stranger = PackageError::UntrustedKey(key.public().unwrap());
        assert_eq!(Package::open(&signed).unwrap().verify(&[other]), Err(stranger));
        assert_eq!(Package::open(MODULE), Err(PackageError::Unsigned));
        assert_eq!(Package::open(b"#!/bin/sh"), Err(PackageError::NotAModule));
    }

    #[test]
    fn keys_read_as_they_are_written_and_show_no_secret() {
        let key = PackageKey::generate().unwrap();
        let pem = key.to_pem();
        let again = PackageKey::from_pem(&pem).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().unwrap().to_string().parse(), key.public());
        let secret = pem.lines().nth(1).unwrap();
        assert!(!format!("{key:?}").contains(secret));
        assert!("00".repeat(31).parse::<PublicKey>().is_err());
        let other = KeyPair::generate().unwrap().serialize_pem();
        assert!(PackageKey::from_pem(&other).is_err(), "an elliptic curve of another kind");
    }
}
