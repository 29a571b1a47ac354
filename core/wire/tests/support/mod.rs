//! Random messages for the tests of the wire crate, from a seed. Must never use anything but the seed.
#![allow(dead_code, unreachable_pub, unused_macros)]

use bytes::Bytes;
use fastrand::Rng;
use millpond_wire::{F64, Message, Records, Secret, Uuid, Writer};

/// Rolls values of all kinds, small ones and borders above all.
pub struct Dice {
    rng: Rng,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed) }
    }

    pub fn null(&mut self) -> bool {
        self.rng.u8(..4) == 0
    }

    pub fn bool(&mut self) -> bool {
        self.rng.bool()
    }

    pub fn i8(&mut self) -> i8 {
        self.rng.i8(..)
    }

    pub fn i16(&mut self) -> i16 {
        *self.rng.choice(&[0, 1, -1, 35, i16::MAX, i16::MIN]).unwrap_or(&0)
    }

    pub fn u16(&mut self) -> u16 {
        self.rng.u16(..)
    }

    pub fn f64(&mut self) -> F64 {
        F64::from(f64::from(self.rng.i32(..)) / 8.0)
    }

    pub fn i32(&mut self) -> i32 {
        if self.rng.bool() {
            self.rng.i32(..)
        } else {
            *self.rng.choice(&[0, 1, -1, i32::MAX]).unwrap_or(&0)
        }
    }

    pub fn i64(&mut self) -> i64 {
        if self.rng.bool() {
            self.rng.i64(..)
        } else {
            *self.rng.choice(&[0, 1, -1, i64::MAX]).unwrap_or(&0)
        }
    }

    pub fn uuid(&mut self) -> Uuid {
        Uuid(self.rng.u128(..).to_be_bytes())
    }

    pub fn string(&mut self) -> String {
        // Lengths around 127, where a compact length takes a second byte, come up too.
        let length =
            if self.rng.u8(..8) == 0 { self.rng.usize(120..135) } else { self.rng.usize(0..12) };
        (0..length)
            .map(|_| *self.rng.choice(&['a', 'Z', '7', '-', '_', '.', 'é', '水']).unwrap_or(&'a'))
            .collect()
    }

    pub fn bytes(&mut self) -> Bytes {
        // Above 4 KiB bytes are kept by reference.
        let length = if self.rng.u8(..10) == 0 {
            self.rng.usize(4_000..5_000)
        } else {
            self.rng.usize(0..40)
        };
        (0..length).map(|_| self.rng.u8(..)).collect()
    }

    pub fn records(&mut self) -> Records {
        (0..self.rng.usize(0..3)).map(|_| self.bytes()).collect()
    }

    pub fn count(&mut self) -> usize {
        self.rng.usize(0..4)
    }
}

/// Can be filled with random content that a version can say.
pub trait Sample: Message {
    fn sample(dice: &mut Dice, version: i16) -> Self;
}

/// How much memory a value owns beyond itself. Counted from the capacities, apart from the reader's own accounts.
pub trait Heap {
    fn heap_bytes(&self) -> usize;
}

macro_rules! no_heap {
    ($($kind:ty),*) => {
        $(impl Heap for $kind {
            fn heap_bytes(&self) -> usize {
                0
            }
        })*
    };
}

// `Bytes` are slices of the input, which is there anyway.
no_heap!(bool, i8, i16, u16, i32, i64, F64, Uuid, Bytes, Secret);

impl Heap for String {
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl Heap for Records {
    fn heap_bytes(&self) -> usize {
        size_of_val(self.chunks())
    }
}

impl<T: Heap> Heap for Option<T> {
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, Heap::heap_bytes)
    }
}

impl<T: Heap> Heap for Vec<T> {
    fn heap_bytes(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(Heap::heap_bytes).sum::<usize>()
    }
}

include!(concat!(env!("OUT_DIR"), "/samples.rs"));

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.rng.usize(..bound.max(1))
    }

    pub fn byte(&mut self) -> u8 {
        self.rng.u8(..)
    }
}

/// The encoding of a message in one piece.
pub fn encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    writer.into_bytes()
}
