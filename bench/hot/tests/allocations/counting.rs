//! The system's allocator with counters: what the calling thread asked for. Only for this test
//! program; must never do anything but count and pass on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a thread asked of the allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// New blocks, and blocks that were made larger or smaller.
    pub(crate) count: u64,
    /// Bytes of these.
    pub(crate) bytes: u64,
    /// Bytes that stood in blocks when these were made larger: at most so many were copied for it.
    pub(crate) moved_bytes: u64,
}

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { count: 0, bytes: 0, moved_bytes: 0 }) };
}

/// What this thread asks for while something runs.
pub(crate) fn asked_by(run: impl FnOnce()) -> Asked {
    let before = ASKED.get();
    run();
    let after = ASKED.get();
    Asked {
        count: after.count - before.count,
        bytes: after.bytes - before.bytes,
        moved_bytes: after.moved_bytes - before.moved_bytes,
    }
}

fn note(bytes: usize, moved_bytes: usize) {
    // A thread that ends frees its own variables: what it asks for then belongs to nobody.
    let _ = ASKED.try_with(|asked| {
        let now = asked.get();
        asked.set(Asked {
            count: now.count + 1,
            bytes: now.bytes + bytes as u64,
            moved_bytes: now.moved_bytes + moved_bytes as u64,
        });
    });
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes on to the system's allocator as it came, and its answer comes back as it
// is; the counter is a plain cell of this thread and allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promises are those that the system's allocator asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as for `alloc`.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: as for `alloc`; the block is one of the system's, because all are.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes, layout.size().min(bytes));
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, bytes) }
    }

    // SAFETY: as for `realloc`.
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
