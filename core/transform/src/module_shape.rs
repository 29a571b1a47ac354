//! Looks at the sections of a module before anything is compiled: how many functions, how large.
//!
//! Compile time grows faster than the size of a function, so this bounds it. It allocates nothing
//! and takes no length on trust; what it cannot read is left for the compiler to refuse.

use crate::compile::CompileError;
use millpond_wire::limits as caps;

const CODE_SECTION: u8 = 10;
/// Magic and version.
const PREAMBLE_BYTES: usize = 8;

/// # Errors
/// Too many functions, or one too large.
pub(crate) fn check(wasm: &[u8]) -> Result<(), CompileError> {
    let mut rest = wasm.get(PREAMBLE_BYTES..).unwrap_or_default();
    while let Some((&id, after)) = rest.split_first() {
        let Some((section, next)) = sized(after) else {
            return Ok(());
        };
        if id == CODE_SECTION {
            check_code(section)?;
        }
        rest = next;
    }
    Ok(())
}

fn check_code(section: &[u8]) -> Result<(), CompileError> {
    let Some((count, mut rest)) = leb(section) else {
        return Ok(());
    };
    if count as usize > caps::MODULE_FUNCTIONS_MAX {
        let what = format!("{count} functions");
        return Err(CompileError::Shape { what, max: caps::MODULE_FUNCTIONS_MAX });
    }
    while let Some((body, next)) = sized(rest) {
        if body.len() > caps::MODULE_FUNCTION_BYTES_MAX {
            let what = format!("a function of {} bytes", body.len());
            return Err(CompileError::Shape { what, max: caps::MODULE_FUNCTION_BYTES_MAX });
        }
        rest = next;
    }
    Ok(())
}

/// What a length stands in front of, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = leb(bytes)?;
    rest.split_at_checked(len as usize)
}

/// An unsigned LEB128 number of up to 32 bits.
fn leb(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module_with(functions: usize, statements: usize) -> Vec<u8> {
        let function = format!("(func {})", "(drop (i32.const 1))".repeat(statements));
        wat::parse_str(format!("(module {})", function.repeat(functions))).expect("a module")
    }

    #[test]
    fn ordinary_modules_pass() {
        assert_eq!(check(&module_with(10, 10)), Ok(()));
        assert_eq!(check(millpond_guests::PROJECTION), Ok(()));
    }

    #[test]
    fn a_function_too_large_is_refused() {
        let error = check(&module_with(1, 200_000)).unwrap_err();
        assert!(error.to_string().contains("a function of"), "{error}");
    }

    #[test]
    fn too_many_functions_are_refused() {
        let error = check(&module_with(caps::MODULE_FUNCTIONS_MAX + 1, 0)).unwrap_err();
        assert!(error.to_string().contains("functions"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_compiler() {
        let whole = module_with(3, 3);
        for end in 0..whole.len() {
            assert_eq!(check(&whole[..end]), Ok(()));
        }
        assert_eq!(check(b"\0asm\x01\0\0\0\x0a\xff\xff\xff\xff\xff"), Ok(()));
    }
}
