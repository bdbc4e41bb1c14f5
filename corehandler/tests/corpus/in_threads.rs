//! Panics in closures that the compiler copies into the library's functions that begin threads.
use std::hint::black_box;

fn main() {
    let way: i32 = std::env::args().nth(1).and_then(|way| way.parse().ok()).unwrap_or(0);
    let thread = match way {
        1 => std::thread::spawn(|| black_box(None::<i32>).unwrap()),
        2 => std::thread::spawn(|| black_box(None::<i32>).map(|one| one + 1).unwrap()),
        _ => return,
    };
    let _ = thread.join();
}
