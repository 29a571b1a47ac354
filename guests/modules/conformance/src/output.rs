//! The answer of one call. It stays where it is until the next.

pub(crate) const KEEP: u32 = 0;
pub(crate) const DROP: u32 = 1;
pub(crate) const FAILED: u32 = 2;

const HEADER_WORDS: usize = 8;
const VERDICT_WORDS: usize = 4;
const EMIT_WORDS: usize = 12;

pub(crate) struct Output {
    verdicts: Vec<[u32; VERDICT_WORDS]>,
    emits: Vec<[u32; EMIT_WORDS]>,
    emits_of_finished: usize,
    /// What the pointers point to; these blocks do not move when this vector grows.
    blocks: Vec<Vec<u8>>,
    words: Vec<u32>,
}

/// A record to be made.
#[derive(Default)]
pub(crate) struct Emit<'a> {
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
    pub(crate) topic: &'a str,
}

impl Output {
    pub(crate) const fn new() -> Self {
        Output {
            verdicts: Vec::new(),
            emits: Vec::new(),
            emits_of_finished: 0,
            blocks: Vec::new(),
            words: Vec::new(),
        }
    }

    pub(crate) fn start(&mut self) {
        *self = Output::new();
    }

    /// Says that a rule is kept, or why it is not.
    pub(crate) fn check(&mut self, rule: &str, is_kept: bool, why: &str) {
        let line = if is_kept { format!("{rule} ok") } else { format!("{rule} failed: {why}") };
        self.emit(&Emit { value: Some(line.as_bytes()), ..Emit::default() });
    }

    /// Says that a rule is kept if two things are equal.
    pub(crate) fn check_equal<T: PartialEq + core::fmt::Debug>(
        &mut self,
        rule: &str,
        what: &str,
        found: T,
        expected: T,
    ) {
        let why = format!("{what}: {found:?}, not {expected:?}");
        self.check(rule, found == expected, &why);
    }

    pub(crate) fn emit(&mut self, emit: &Emit<'_>) {
        let [key, value] = [emit.key, emit.value].map(|bytes| self.block(bytes));
        let topic = self.block(Some(emit.topic.as_bytes()));
        let mut headers = Vec::new();
        for (name, value) in emit.headers {
            let words = [self.block(Some(name.as_bytes())), self.block(*value)];
            headers.extend(words.as_flattened().iter().flat_map(|word| word.to_le_bytes()));
        }
        let [headers, _] = self.block(Some(&headers));
        self.emits.push([
            emit.timestamp_ms as u32,
            (emit.timestamp_ms >> 32) as u32,
            key[0],
            key[1],
            value[0],
            value[1],
            headers,
            emit.headers.len() as u32,
            topic[0],
            topic[1],
            0,
            0,
        ]);
    }

    /// Ends a record. A failed one has the message `as asked`.
    pub(crate) fn finish(&mut self, kind: u32) {
        if kind == FAILED {
            self.emits.truncate(self.emits_of_finished);
        }
        let message = if kind == FAILED { self.block(Some(b"as asked")) } else { [0, 0] };
        let emitted = self.emits.len() - self.emits_of_finished;
        self.verdicts.push([kind, emitted as u32, message[0], message[1]]);
        self.emits_of_finished = self.emits.len();
    }

    pub(crate) fn encode(&mut self) -> u64 {
        let words = &mut self.words;
        words.extend_from_slice(&[u32::from_le_bytes(*b"MPO1"), HEADER_WORDS as u32 * 4]);
        words.extend_from_slice(&[self.verdicts.len() as u32, self.verdicts.as_ptr() as u32]);
        words.extend_from_slice(&[self.emits.len() as u32, self.emits.as_ptr() as u32, 0, 0]);
        (u64::from(words.as_ptr() as u32) << 32) | (HEADER_WORDS as u64 * 4)
    }

    /// Address and length.
    fn block(&mut self, bytes: Option<&[u8]>) -> [u32; 2] {
        let Some(bytes) = bytes else {
            return [0, u32::MAX];
        };
        let block = bytes.to_vec();
        let place = [block.as_ptr() as u32, block.len() as u32];
        self.blocks.push(block);
        place
    }
}
