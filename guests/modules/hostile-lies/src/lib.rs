//! For tests: returns pointers, lengths and counts that are lies.
//!
//! A record whose value is `lie NAME` makes the module answer its batch with that lie (see
//! [`Lie::of`]); without one all records are kept.

use millpond_sdk::__private::{Guest, progress_address};
use millpond_sdk::{Failure, Output, Record, Settings, Transform, Verdict, abi};
use std::cell::RefCell;

std::thread_local! {
    static GUEST: RefCell<Guest<Listener>> = const { RefCell::new(Guest::new()) };
    static HEARD: RefCell<Heard> = const { RefCell::new(Heard { lie: None, records: 0 }) };
    static ANSWER: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// What the records of the batch in hand said.
#[derive(Debug)]
struct Heard {
    lie: Option<String>,
    records: u32,
}

#[derive(Debug)]
struct Listener;

impl Transform for Listener {
    fn new(_: &Settings) -> Result<Self, Failure> {
        Ok(Listener)
    }

    fn on_record(&mut self, record: &Record<'_>, _: &mut Output) -> Result<Verdict, Failure> {
        let text = String::from_utf8_lossy(record.value_or_empty()).into_owned();
        HEARD.with_borrow_mut(|heard| {
            heard.records += 1;
            if let Some(name) = text.strip_prefix("lie ") {
                heard.lie = Some(name.to_string());
            }
        });
        Ok(Verdict::Keep)
    }
}

/// An answer, honest but for what its name says.
#[derive(Debug)]
pub struct Lie {
    base: u32,
    words: Vec<u32>,
    pointer: u32,
    bytes: u32,
}

const HEADER: usize = abi::OUTPUT_HEADER_BYTES / 4;
const VERDICT: usize = abi::VERDICT_BYTES / 4;
const EMIT: usize = abi::EMIT_BYTES / 4;
/// Records emitted by the lies that emit.
const EMITS: usize = 3_000;
const FAR: u32 = 0xffff_fff0;

impl Lie {
    /// An answer that keeps `records` records and emits many small ones for the first.
    fn honest(records: usize, emits: usize) -> Self {
        let mut words = vec![0; HEADER + records * VERDICT + emits * EMIT];
        let base = words.as_ptr() as usize as u32;
        words[0] = abi::OUTPUT_MAGIC;
        words[1] = abi::OUTPUT_HEADER_BYTES as u32;
        words[2] = records as u32;
        words[3] = base + abi::OUTPUT_HEADER_BYTES as u32;
        words[4] = emits as u32;
        words[5] = words[3] + (records * abi::VERDICT_BYTES) as u32;
        if let Some(count) = words.get_mut(HEADER + 1) {
            *count = emits as u32;
        }
        for index in 0..emits {
            let emit = HEADER + records * VERDICT + index * EMIT;
            // Key none; value the first four bytes of the answer.
            words[emit + 3] = abi::NULL;
            words[emit + 4] = base;
            words[emit + 5] = 4;
        }
        Lie { base, words, pointer: base, bytes: abi::OUTPUT_HEADER_BYTES as u32 }
    }

    /// The lies by name.
    fn of(name: &str, records: usize) -> Option<Self> {
        let mut lie = Lie::honest(records, EMITS);
        let emit = HEADER + records * VERDICT;
        match name {
            "output-pointer" => lie.pointer = FAR,
            "output-length" => lie.bytes = u32::MAX,
            "output-short" => lie.bytes = 4,
            "output-null" => lie.pointer = 0,
            "magic" => lie.words[0] = 7,
            "header-length" => lie.words[1] = 8,
            "verdicts-more" => lie.words[2] += 1,
            "verdicts-none" => lie.words[2] = 0,
            "verdicts-huge" => lie.words[2] = u32::MAX,
            "verdicts-pointer" => lie.words[3] = FAR,
            "verdicts-overlap" => lie.words[3] = lie.base + 1,
            "verdict-kind" => lie.words[HEADER] = 99,
            "verdict-emits" => lie.words[HEADER + 1] = 1,
            "verdict-emits-huge" => lie.words[HEADER + 1] = u32::MAX,
            "message-pointer" => lie.fail_first(FAR, 100),
            "message-huge" => lie.fail_first(lie.base, u32::MAX - 1),
            "message-binary" => lie.fail_first(lie.base, 32),
            "emits-huge" => lie.words[4] = u32::MAX,
            "emits-pointer" => lie.words[5] = FAR,
            "emits-overlap" => lie.words[5] = lie.base,
            "value-pointer" => lie.words[emit + 4] = FAR,
            "value-huge" => lie.words[emit + 5] = u32::MAX - 1,
            "headers-huge" => lie.words[emit + 7] = u32::MAX,
            "headers-pointer" => (lie.words[emit + 6], lie.words[emit + 7]) = (FAR, 1),
            "topic-pointer" => (lie.words[emit + 8], lie.words[emit + 9]) = (FAR, 8),
            "topic-binary" => (lie.words[emit + 8], lie.words[emit + 9]) = (lie.base, 8),
            "amplify" => lie.amplify(emit),
            _ => return None,
        }
        Some(lie)
    }

    fn fail_first(&mut self, message: u32, len: u32) {
        self.words[HEADER] = abi::VERDICT_FAILED;
        self.words[HEADER + 1] = 0;
        (self.words[HEADER + 2], self.words[HEADER + 3]) = (message, len);
        self.words[4] = 0;
    }

    /// The same bytes, again and again: much output of little memory.
    fn amplify(&mut self, first_emit: usize) {
        let bytes = (self.words.len() * 4) as u32;
        for emit in self.words[first_emit..].chunks_mut(EMIT) {
            emit[5] = bytes;
        }
    }
}

/// `millpond_transform_v1`.
pub fn transform(pointer: u32, bytes: u32) -> u64 {
    HEARD.set(Heard { lie: None, records: 0 });
    let honest = GUEST.with_borrow_mut(|guest| guest.transform(pointer, bytes));
    let heard = HEARD.replace(Heard { lie: None, records: 0 });
    let Some(name) = heard.lie else {
        return honest;
    };
    let Some(lie) = Lie::of(&name, heard.records as usize) else {
        millpond_sdk::abort("no such lie");
    };
    let answer = (u64::from(lie.pointer) << 32) | u64::from(lie.bytes);
    ANSWER.set(lie.words);
    answer
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
mod exports {
    use super::GUEST;

    // SAFETY, for all: the names are the broker's contract and nothing else here has them.
    #[unsafe(no_mangle)]
    extern "C" fn millpond_alloc(bytes: u32) -> u32 {
        GUEST.with_borrow_mut(|guest| guest.alloc(bytes))
    }

    #[unsafe(no_mangle)]
    extern "C" fn millpond_progress() -> u32 {
        super::progress_address()
    }

    #[unsafe(no_mangle)]
    extern "C" fn millpond_transform_v1(pointer: u32, bytes: u32) -> u64 {
        super::transform(pointer, bytes)
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[allow(unused)]
fn used_on_wasm32_only() -> u32 {
    GUEST.with_borrow_mut(|guest| guest.alloc(0)) + progress_address()
}
