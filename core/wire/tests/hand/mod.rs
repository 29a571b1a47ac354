//! Reads vectors that were written by hand. Must never make them.
#![allow(unreachable_pub)]

use std::fmt::Debug;

use millpond_wire::{Message, Reader, Writer};

/// The bytes of a vector: on each line hexadecimal in words of even length, then words that explain it.
fn bytes(text: &str) -> Vec<u8> {
    let is_hex = |word: &&str| {
        word.len().is_multiple_of(2)
            && word.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let mut out = Vec::new();
    for line in text.lines() {
        for word in line.split_whitespace().take_while(is_hex) {
            let pairs = (0..word.len()).step_by(2);
            out.extend(pairs.map(|at| u8::from_str_radix(&word[at..at + 2], 16).expect("hex")));
        }
    }
    out
}

/// A message is written as these bytes, and read from them.
pub fn check<M: Message + Debug + PartialEq>(message: &M, version: i16, vector: &str) {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    let wanted = bytes(vector);
    assert_eq!(writer.into_bytes(), wanted, "written");
    let mut reader = Reader::new(wanted.into());
    let read = M::decode(&mut reader, version).expect("can be read");
    assert!(reader.is_empty());
    assert_eq!(&read, message, "read");
}
