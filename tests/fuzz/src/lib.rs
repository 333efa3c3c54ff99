//! What every target runs under: no panic, no trusted length, no hang.
//!
//! A counting allocator bounds what one input may make the code hold at once and in one piece; the
//! thread's CPU time bounds how long it may take.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

pub mod disk;
pub mod store;

/// Held at once beyond what was held before the input. Units: bytes.
pub const HELD_MAX: usize = 64 << 20;
/// CPU time of one input. Units: milliseconds.
pub const CPU_MS_MAX: i64 = 1000;

thread_local! {
    /// Bytes held by this thread since its input began, and whether one is being run.
    static HELD: Cell<(isize, bool)> = const { Cell::new((0, false)) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

impl Counting {
    fn add(size: isize) {
        let over = HELD.try_with(|held| {
            let (sum, counts) = held.get();
            held.set((sum + size, counts));
            counts && size > 0 && sum + size > HELD_MAX as isize
        });
        if over == Ok(true) {
            HELD.with(|held| held.set((0, false)));
            panic!("one input holds more than {HELD_MAX} bytes: a length was trusted");
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::add(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::add(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Counting::add(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::add(size as isize - layout.size() as isize);
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Units: milliseconds of CPU time of this thread.
fn cpu_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Runs one input within the bounds.
pub fn bounded(work: impl FnOnce()) {
    let began = cpu_ms();
    HELD.with(|held| held.set((0, true)));
    work();
    HELD.with(|held| held.set((0, false)));
    let took = cpu_ms() - began;
    assert!(took <= CPU_MS_MAX, "one input took {took} ms");
}
