//! How long the hot paths take, by criterion. A time is of this machine and this moment: what the
//! tests hold us to are instructions (`bench/instructions`) and allocations (`tests/allocations`).

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use millpond_hot::PATHS;

/// A step that leaves something in memory is made anew after so many.
const STEPS_OF_ONE: u64 = 400;

fn all_paths(criterion: &mut Criterion) {
    for path in PATHS {
        if !path.grows {
            let mut step = (path.make)();
            criterion.bench_function(path.name, |bencher| bencher.iter(&mut step));
            continue;
        }
        criterion.bench_function(path.name, |bencher| {
            bencher.iter_custom(|steps| {
                let mut spent = Duration::ZERO;
                let mut left = steps;
                while left > 0 {
                    let now = left.min(STEPS_OF_ONE);
                    left -= now;
                    let mut step = (path.make)();
                    let started = Instant::now();
                    (0..now).for_each(|_| step());
                    spent += started.elapsed();
                }
                spent
            });
        });
    }
}

criterion_group!(paths, all_paths);
criterion_main!(paths);
