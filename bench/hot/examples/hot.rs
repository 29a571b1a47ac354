//! Runs hot paths for a counter that looks at it from outside (valgrind): each in turn, set up and
//! run in before the count begins. Alone it prints nothing but their names; `bench/instructions`
//! runs it. Must never be timed: `benches/paths.rs` is for that.
//!
//!   hot STEPS [PATH...]

use std::hint::black_box;

use millpond_hot::{PATHS, Step};

/// Before the count: caches, buffers that are kept, code that is made.
const RUN_IN_STEPS: usize = 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let steps = arguments.next().and_then(|steps| steps.parse().ok());
    let steps: usize = steps.expect("how many steps are to be counted, then names of paths");
    let wanted: Vec<String> = arguments.collect();
    for path in PATHS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == path.name) {
            continue;
        }
        let mut step = (path.make)();
        (0..RUN_IN_STEPS).for_each(|_| step());
        counted(&mut step, steps);
        println!("{}", path.name);
    }
}

/// What is counted: whoever looks at call stacks finds this one in them.
#[inline(never)]
fn counted(step: &mut Step, steps: usize) {
    counting_begins();
    (0..steps).for_each(|_| step());
    counting_ends();
}

/// The counter starts at zero where this is entered.
#[inline(never)]
fn counting_begins() {
    black_box(0);
}

/// The counter tells where this is entered.
#[inline(never)]
fn counting_ends() {
    black_box(1);
}
