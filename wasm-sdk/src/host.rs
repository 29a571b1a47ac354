//! The host's functions, made safe to call. In native tests they do what a test can see.
//!
//! The only place that calls imports; see `abi.rs` for their contract.

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// For whoever writes the module.
    Debug = 0,
    /// What an operator may want to know.
    Info = 1,
    /// Something is odd.
    Warn = 2,
    /// Something is wrong.
    Error = 3,
}

#[cfg(target_arch = "wasm32")]
mod imports {
    #![allow(unsafe_code)]

    #[link(wasm_import_module = "millpond")]
    unsafe extern "C" {
        fn log(level: u32, ptr: *const u8, len: usize);
        fn abort(ptr: *const u8, len: usize);
        fn setting(key: *const u8, key_len: usize, buf: *mut u8, buf_len: usize) -> i32;
    }

    pub(crate) fn write_log(level: super::Level, line: &str) {
        // SAFETY: the host reads `len` bytes at `ptr` during the call and keeps nothing.
        unsafe { log(level as u32, line.as_ptr(), line.len()) }
    }

    pub(crate) fn abort_with(message: &str) -> ! {
        // SAFETY: as above; the host ends the call.
        unsafe { abort(message.as_ptr(), message.len()) }
        core::arch::wasm32::unreachable()
    }

    pub(crate) fn read_setting(name: &str, buffer: &mut [u8]) -> i32 {
        // SAFETY: the host reads the name and writes at most `buf_len` bytes to the buffer,
        // both of which live throughout the call.
        unsafe { setting(name.as_ptr(), name.len(), buffer.as_mut_ptr(), buffer.len()) }
    }
}

/// Writes one line to the transform's log. Lines beyond the broker's cap are counted, not kept.
#[cfg(target_arch = "wasm32")]
pub fn log(level: Level, line: &str) {
    imports::write_log(level, line);
}

/// Ends the call; the broker finds the record that did it and applies the failure policy to it.
#[cfg(target_arch = "wasm32")]
pub fn abort(message: &str) -> ! {
    imports::abort_with(message)
}

#[cfg(target_arch = "wasm32")]
pub(crate) fn setting(name: &str) -> Option<String> {
    let mut buffer = vec![0_u8; 128];
    loop {
        let bytes = usize::try_from(imports::read_setting(name, &mut buffer)).ok()?;
        if bytes <= buffer.len() {
            buffer.truncate(bytes);
            return String::from_utf8(buffer).ok();
        }
        buffer.resize(bytes, 0);
    }
}

#[cfg(not(target_arch = "wasm32"))]
std::thread_local! {
    static LOGGED: std::cell::RefCell<Vec<(Level, String)>> =
        const { std::cell::RefCell::new(Vec::new()) };
}

/// Writes one line to the log that `testing::run` reports.
#[cfg(not(target_arch = "wasm32"))]
pub fn log(level: Level, line: &str) {
    LOGGED.with_borrow_mut(|logged| logged.push((level, line.to_string())));
}

/// Ends the test that called the transform.
#[cfg(not(target_arch = "wasm32"))]
pub fn abort(message: &str) -> ! {
    panic!("the module aborted: {message}")
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn setting(_name: &str) -> Option<String> {
    None
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn take_logged() -> Vec<(Level, String)> {
    LOGGED.take()
}

/// Logs one line: `log!(info, "{} of {}", a, b)`. Levels: `debug`, `info`, `warn`, `error`.
#[macro_export]
macro_rules! log {
    (debug, $($arg:tt)*) => { $crate::log($crate::Level::Debug, &::std::format!($($arg)*)) };
    (info, $($arg:tt)*) => { $crate::log($crate::Level::Info, &::std::format!($($arg)*)) };
    (warn, $($arg:tt)*) => { $crate::log($crate::Level::Warn, &::std::format!($($arg)*)) };
    (error, $($arg:tt)*) => { $crate::log($crate::Level::Error, &::std::format!($($arg)*)) };
}
