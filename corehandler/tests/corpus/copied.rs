//! Faults of which nothing of the program is on the stack: what panics was copied into Rust's own beginning of a thread.
use std::hint::black_box;

fn main() {
    let way: u32 = std::env::args().nth(1).and_then(|way| way.parse().ok()).unwrap_or(0);
    let thread = match way {
        1 => std::thread::spawn(|| black_box([1, 2])[black_box(7)]),
        _ => std::thread::spawn(|| black_box(None::<i32>).unwrap()),
    };
    let _ = thread.join();
}
