//! For tests: does what its records say, with the host's functions as they are, without the kit.
//!
//! The value of a record is a list of commands, one a line, words apart by spaces (see
//! [`Shell::run`]). What they answer is emitted as one record, the answers apart by spaces, in
//! place of the record; a record without an answer is dropped. A timer that fires emits
//! `fired AT`, and runs the commands that stand in the state under its key, where `_` stands for
//! a space and `;` for the end of a line. A batch whose first record starts with `say blind` gives
//! no hint at the record in hand. It must never keep anything in its memory.

use millpond_sdk::abi;
use std::fmt::Write;

/// The host's functions.
mod host {
    #[link(wasm_import_module = "millpond")]
    #[allow(unsafe_code)]
    // SAFETY: the host provides functions of these types, which it checks when the module is
    // compiled.
    unsafe extern "C" {
        pub(crate) safe fn state_get(key: u32, key_len: u32, buf: u32, buf_len: u32) -> i32;
        pub(crate) safe fn state_put(
            key: u32,
            len: u32,
            value: u32,
            value_len: u32,
            expires_ms: i64,
        ) -> u32;
        pub(crate) safe fn state_delete(key: u32, key_len: u32) -> u32;
        pub(crate) safe fn state_range(
            from: u32,
            from_len: u32,
            to: u32,
            to_len: u32,
            buf: u32,
            buf_len: u32,
        ) -> i32;
        pub(crate) safe fn timer_set(at_ms: i64, key: u32, key_len: u32) -> u32;
        pub(crate) safe fn timer_delete(at_ms: i64, key: u32, key_len: u32) -> u32;
        pub(crate) safe fn json_field(
            doc: u32,
            len: u32,
            path: u32,
            path_len: u32,
            out: u32,
        ) -> i32;
        pub(crate) safe fn json_number(
            doc: u32,
            len: u32,
            path: u32,
            path_len: u32,
            out: u32,
        ) -> i32;
        pub(crate) safe fn json_numbers(docs: u32, count: u32, name: u32, name_len: u32, out: u32);
        pub(crate) safe fn hash64(at: u32, len: u32, seed: u64) -> u64;
    }
}

const FAR: u32 = 0xffff_fff0;
/// As `json_numbers` takes it: 32 bytes at `FAR`.
static FAR_DOCUMENT: [u8; 8] = [0xf0, 0xff, 0xff, 0xff, 32, 0, 0, 0];

fn place(bytes: &[u8]) -> (u32, u32) {
    (bytes.as_ptr() as usize as u32, bytes.len() as u32)
}

/// Carries commands out.
struct Shell<'a> {
    input: &'a [u8],
    answers: String,
}

impl Shell<'_> {
    /// Each line; gives `false` where the record is to fail.
    fn run(&mut self, commands: &str) -> bool {
        commands.lines().all(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            self.one(&words)
        })
    }

    fn one(&mut self, words: &[&str]) -> bool {
        let number = |word: &str| word.parse::<i64>().unwrap_or(0);
        match *words {
            ["get", key] => self.get(key),
            ["put", key, value, expires] => self.put(key, value.as_bytes(), number(expires)),
            ["fill", key, bytes] => self.put(key, &vec![b'x'; number(bytes) as usize], 0),
            ["del", key] => {
                let (at, len) = place(key.as_bytes());
                self.answer(host::state_delete(at, len));
            }
            ["range", from, to, room] => self.range(from, to, number(room) as usize),
            ["timer", at_ms, key] => {
                let (at, len) = place(key.as_bytes());
                self.answer(host::timer_set(number(at_ms), at, len));
            }
            ["untimer", at_ms, key] => {
                let (at, len) = place(key.as_bytes());
                self.answer(host::timer_delete(number(at_ms), at, len));
            }
            ["count", key] => {
                let count = self.read(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                self.put(key, (count + 1).to_string().as_bytes(), 0);
            }
            ["random"] => {
                self.answer(splitmix(read_u64(self.input, 56) ^ read_u64(self.input, 48)))
            }
            ["watermark"] => self.answer(read_u64(self.input, 64) as i64),
            ["used"] => self.answer(read_u64(self.input, 72)),
            ["flags"] => self.answer(read_u32(self.input, 44)),
            ["json", path, document] => self.json(path, document),
            ["number", path, document] => self.number(path, document),
            ["hash", seed, text] => {
                let (at, len) = place(text.as_bytes());
                self.answer(host::hash64(at, len, number(seed) as u64));
            }
            ["far", name] => far(name),
            ["trap"] => std::process::abort(),
            ["loop"] => loop {
                std::hint::black_box(0);
            },
            ["fail"] => return false,
            ["say", word] => self.answer(word),
            _ => {}
        }
        true
    }

    fn answer(&mut self, answer: impl std::fmt::Display) {
        let space = if self.answers.is_empty() { "" } else { " " };
        // A string takes whatever is written to it.
        let _ = write!(self.answers, "{space}{answer}");
    }

    fn read(&self, key: &str) -> Option<String> {
        let (at, len) = place(key.as_bytes());
        let size = usize::try_from(host::state_get(at, len, 0, 0)).ok()?;
        let buffer = vec![0; size];
        let (room, room_len) = place(&buffer);
        host::state_get(at, len, room, room_len);
        Some(String::from_utf8_lossy(std::hint::black_box(&buffer)).into_owned())
    }

    fn get(&mut self, key: &str) {
        let value = self.read(key);
        self.answer(value.as_deref().unwrap_or("-"));
    }

    fn put(&mut self, key: &str, value: &[u8], expires_ms: i64) {
        let (at, len) = place(key.as_bytes());
        let (value, value_len) = place(value);
        self.answer(host::state_put(at, len, value, value_len, expires_ms));
    }

    fn range(&mut self, from: &str, to: &str, room: usize) {
        let buffer = vec![0; room];
        let (at, len) = place(&buffer);
        let (from, from_len) = place(from.as_bytes());
        let (to, to_len) = match to {
            "*" => (0, abi::NULL),
            to => place(to.as_bytes()),
        };
        let written = host::state_range(from, from_len, to, to_len, at, len);
        let mut packed = std::hint::black_box(&buffer).get(..written.max(0) as usize);
        let mut text = written.to_string();
        while let Some((lengths, rest)) = packed.and_then(|packed| packed.split_at_checked(8)) {
            let (key_len, value_len) =
                (read_u32(lengths, 0) as usize, read_u32(lengths, 4) as usize);
            let (key, rest) = rest.split_at(key_len);
            let (value, rest) = rest.split_at(value_len);
            let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            let _ = write!(text, ",{key}={value}");
            packed = Some(rest);
        }
        self.answer(text);
    }

    fn json(&mut self, path: &str, document: &str) {
        let out = [0_u8; 8];
        let ((doc, doc_len), (path, path_len)) =
            (place(document.as_bytes()), place(path.as_bytes()));
        let kind = host::json_field(doc, doc_len, path, path_len, place(&out).0);
        let out = std::hint::black_box(&out);
        let (start, len) = (read_u32(out, 0) as usize, read_u32(out, 4) as usize);
        match kind {
            1.. => {
                let raw = document.get(start..start + len).unwrap_or("?").to_owned();
                self.answer(format_args!("{kind}:{raw}"));
            }
            _ => self.answer(kind),
        }
    }

    fn number(&mut self, path: &str, document: &str) {
        let out = [0_u8; 8];
        let ((doc, doc_len), (path, path_len)) =
            (place(document.as_bytes()), place(path.as_bytes()));
        match host::json_number(doc, doc_len, path, path_len, place(&out).0) {
            0 => self.answer(f64::from_bits(read_u64(std::hint::black_box(&out), 0))),
            code => self.answer(code),
        }
    }
}

/// A call with an address or a length that is a lie.
fn far(name: &str) {
    let (good, len) = place(b"key");
    match name {
        "get-key" => drop(host::state_get(FAR, 32, good, 0)),
        "get-buffer" => drop(host::state_get(good, len, FAR, 32)),
        "get-length" => drop(host::state_get(good, abi::NULL, good, 0)),
        "put-key" => drop(host::state_put(FAR, 32, good, len, 0)),
        "put-value" => drop(host::state_put(good, len, FAR, 32, 0)),
        "put-length" => drop(host::state_put(good, len, good, abi::NULL, 0)),
        "delete-key" => drop(host::state_delete(FAR, 32)),
        "range-from" => drop(host::state_range(FAR, 32, good, len, good, 0)),
        "range-to" => drop(host::state_range(good, len, FAR, 32, good, 0)),
        "range-buffer" => drop(host::state_range(good, len, good, len, FAR, 32)),
        "timer-key" => drop(host::timer_set(0, FAR, 32)),
        "untimer-key" => drop(host::timer_delete(0, FAR, 32)),
        "json-document" => drop(host::json_field(FAR, 32, good, 0, good)),
        "json-path" => drop(host::json_field(good, len, FAR, 32, good)),
        "json-out" => drop(host::json_field(good, len, good, 0, FAR + 12)),
        "number-document" => drop(host::json_number(FAR, 32, good, 0, good)),
        "number-out" => drop(host::json_number(good, len, good, 0, FAR + 12)),
        "numbers-table" => host::json_numbers(FAR, 4, good, len, good),
        "numbers-count" => host::json_numbers(good, abi::NULL, good, len, good),
        "numbers-document" => {
            let (table, _) = place(std::hint::black_box(&FAR_DOCUMENT));
            host::json_numbers(table, 1, good, len, table);
        }
        "numbers-name" => host::json_numbers(good, 0, FAR, 32, good),
        "numbers-out" => host::json_numbers(good, 0x10, good, len, FAR + 12),
        "hash" => drop(host::hash64(FAR, 32, 0)),
        _ => {}
    }
}

fn splitmix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

fn piece(input: &[u8], entry: usize, at: usize) -> &[u8] {
    let (start, len) = (read_u32(input, entry + at) as usize, read_u32(input, entry + at + 4));
    match len {
        abi::NULL => b"",
        len => input.get(start..start + len as usize).unwrap_or_default(),
    }
}

/// The answer to a batch, in pieces that must stay where they are.
#[derive(Default)]
struct Answer {
    header: Vec<u32>,
    verdicts: Vec<u32>,
    emits: Vec<u32>,
    texts: Vec<String>,
    input: Vec<u8>,
}

impl Answer {
    fn add(&mut self, input: &[u8], entry: usize, answers: String, succeeded: bool) {
        let emitted = u32::from(succeeded && !answers.is_empty());
        let (message, message_len) = if succeeded { (0, 0) } else { place(b"told to fail") };
        let kind = if succeeded { abi::VERDICT_DROP } else { abi::VERDICT_FAILED };
        self.verdicts.extend([kind, emitted, message, message_len]);
        if emitted == 0 {
            return;
        }
        let time = read_u64(input, entry);
        let (key, key_len) = place(piece(input, entry, 16));
        let (value, value_len) = place(answers.as_bytes());
        // A timer may be set for a time that no record can have.
        let time = (time as i64).max(0) as u64;
        let words = [time as u32, (time >> 32) as u32, key, key_len, value, value_len];
        self.emits.extend(words);
        self.emits.extend([0; abi::EMIT_BYTES / 4 - 6]);
        self.texts.push(answers);
    }

    fn finish(&mut self) -> u64 {
        let words = |words: &[u32]| words.as_ptr() as usize as u32;
        let verdicts = self.verdicts.len() * 4 / abi::VERDICT_BYTES;
        let emits = self.emits.len() * 4 / abi::EMIT_BYTES;
        self.header = vec![
            abi::OUTPUT_MAGIC,
            abi::OUTPUT_HEADER_BYTES as u32,
            verdicts as u32,
            words(&self.verdicts),
            emits as u32,
            words(&self.emits),
            0,
            0,
        ];
        (u64::from(words(&self.header)) << 32) | abi::OUTPUT_HEADER_BYTES as u64
    }
}

fn answer(whole: Vec<u8>, is_timer: bool) -> u64 {
    let input = whole.as_slice();
    let mut answer = Answer::default();
    let blind = piece(input, read_u32(input, 16) as usize, 24).starts_with(b"say blind");
    let entries = (read_u32(input, 16) as usize..).step_by(abi::INPUT_RECORD_BYTES);
    for (index, entry) in (0_u32..).zip(entries.take(read_u32(input, 12) as usize)) {
        PROGRESS.set(if blind { u32::MAX } else { index });
        let mut shell = Shell { input, answers: String::new() };
        let succeeded = if is_timer {
            shell.answer(format_args!("fired {}", read_u64(input, entry) as i64));
            let key = String::from_utf8_lossy(piece(input, entry, 16)).into_owned();
            let commands = shell.read(&key).unwrap_or_default();
            shell.run(&commands.replace(';', "\n").replace('_', " "))
        } else {
            shell.run(&String::from_utf8_lossy(piece(input, entry, 24)))
        };
        answer.add(input, entry, shell.answers, succeeded);
    }
    let given = answer.finish();
    // What it speaks of stays where it is until the next call.
    answer.input = whole;
    ANSWER.with_borrow_mut(|kept| *kept = answer);
    given
}

std::thread_local! {
    static INPUT: std::cell::RefCell<Vec<u128>> = const { std::cell::RefCell::new(Vec::new()) };
    static PROGRESS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    static ANSWER: std::cell::RefCell<Answer> = std::cell::RefCell::default();
}

/// The exports.
///
/// # Safety
/// Each name is exported once; none of the functions is called by anyone but the host.
#[allow(unsafe_code, missing_docs)]
mod exports {
    use super::{INPUT, PROGRESS, abi, answer};

    // SAFETY: the name is exported once.
    #[unsafe(no_mangle)]
    extern "C" fn millpond_alloc(len: u32) -> u32 {
        INPUT.with_borrow_mut(|room| {
            room.clear();
            room.resize((len as usize).div_ceil(abi::INPUT_ALIGN), 0);
            room.as_ptr() as usize as u32
        })
    }

    // SAFETY: the name is exported once.
    #[unsafe(no_mangle)]
    extern "C" fn millpond_transform_v1(_: u32, len: u32) -> u64 {
        run(len, false)
    }

    // SAFETY: the name is exported once.
    #[unsafe(no_mangle)]
    extern "C" fn millpond_timer_v1(_: u32, len: u32) -> u64 {
        run(len, true)
    }

    // SAFETY: the name is exported once.
    #[unsafe(no_mangle)]
    extern "C" fn millpond_progress() -> u32 {
        PROGRESS.with(|progress| progress.as_ptr() as usize as u32)
    }

    fn run(len: u32, is_timer: bool) -> u64 {
        INPUT.with_borrow(|words| {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            answer(bytes.take(len as usize).collect(), is_timer)
        })
    }
}
