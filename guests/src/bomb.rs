//! A module that is valid and small, and keeps a compiler busy for seconds. Written byte by byte, so that
//! nothing but the standard library is needed. Must never be part of a node.

const LOCALS: usize = 1_000;
const SUMS: usize = 45_000;
const I32: u8 = 0x7f;
const I64: u8 = 0x7e;
const LOCAL_GET: u8 = 0x20;
const LOCAL_SET: u8 = 0x21;
const I32_ADD: u8 = 0x6a;
const I64_CONST: u8 = 0x42;
const END: u8 = 0x0b;

/// Some 400 KiB: a thousand locals, each made of others again and again, in what `millpond_alloc` does.
#[must_use]
pub fn compile_bomb() -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // (i32, i32) -> i64 and (i32) -> i32; one function of each; a page of memory.
    section(&mut module, 1, &[2, 0x60, 2, I32, I32, 1, I64, 0x60, 1, I32, 1, I32]);
    section(&mut module, 3, &[2, 0, 1]);
    section(&mut module, 5, &[1, 0, 1]);
    let mut exports = vec![3];
    for (name, kind, index) in
        [("memory", 2, 0), ("millpond_transform_v1", 0, 0), ("millpond_alloc", 0, 1)]
    {
        sized(&mut exports, name.as_bytes());
        exports.extend([kind, index]);
    }
    section(&mut module, 7, &exports);
    let mut code = vec![2];
    sized(&mut code, &[0, I64_CONST, 0, END]);
    sized(&mut code, &sums());
    section(&mut module, 10, &code);
    module
}

fn sums() -> Vec<u8> {
    let mut body = vec![1];
    number(&mut body, LOCALS);
    body.push(I32);
    for i in 0..SUMS {
        let [one, other, sum] = [i * 7, i * 13 + 5, i * 29 + 11].map(|number| number % LOCALS);
        for (instruction, local) in [(LOCAL_GET, one), (LOCAL_GET, other)] {
            body.push(instruction);
            number(&mut body, local);
        }
        body.extend([I32_ADD, LOCAL_SET]);
        number(&mut body, sum);
    }
    body.extend([LOCAL_GET, 7, END]);
    body
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    sized(module, content);
}

fn sized(into: &mut Vec<u8>, content: &[u8]) {
    number(into, content.len());
    into.extend_from_slice(content);
}

/// LEB128.
fn number(into: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}
