//! Panics that the compiler copies into the main function, and one that does not get there.
use std::hint::black_box;

struct Till(Vec<i32>);

impl Drop for Till {
    #[inline(always)]
    fn drop(&mut self) {
        black_box(self.0.pop().filter(|price| *price < 0)).unwrap();
    }
}

#[inline(always)]
fn sells(price: i32) -> i32 {
    black_box(None::<i32>).map(|more| price + more).unwrap()
}

#[inline(always)]
fn buys(price: i32) -> i32 {
    let prices = black_box([1, 2]);
    prices[black_box(price as usize)]
}

#[inline(never)]
fn apart(price: i32) -> i32 {
    black_box(None::<i32>).map(|more| price - more).unwrap() + 1
}

fn main() {
    let way: i32 = std::env::args().nth(1).and_then(|way| way.parse().ok()).unwrap_or(0);
    match way {
        1 => drop(Till(vec![1])),
        2 => std::process::exit(sells(way)),
        3 => std::process::exit(buys(way)),
        4 => std::process::exit(apart(way)),
        _ => {}
    }
}
