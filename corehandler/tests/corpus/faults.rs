//! Ways to crash, in Rust. `faults N` crashes in the N-th way. With `--cfg old`, Rust 1.48, Debian 11's, understands it, too.
#[cfg(not(old))]
use std::hint as opaque;

use opaque::black_box;
use std::collections::HashMap;

/// What the compiler cannot see through, for compilers that are older than the standard library's.
#[cfg(old)]
mod opaque {
    #[inline(never)]
    pub fn black_box<T>(value: T) -> T {
        let seen = unsafe { std::ptr::read_volatile(&value) };
        std::mem::forget(value);
        seen
    }
}

mod x_shop {
    use crate::opaque::black_box;

    pub struct Item {
        pub price: Option<u32>,
    }

    impl Item {
        #[inline(never)]
        pub fn x_price(&self) -> u32 {
            black_box(self.price.unwrap())
        }
    }

    impl Drop for Item {
        #[inline(never)]
        fn drop(&mut self) {
            if black_box(self.price == Some(13)) {
                panic!("an unlucky price");
            }
        }
    }

    pub trait Sell {
        fn x_sell(&self) -> u32;
    }

    impl Sell for Item {
        #[inline(never)]
        fn x_sell(&self) -> u32 {
            let price: Result<u32, String> = black_box(Err("sold out".to_owned()));
            price.expect("a price")
        }
    }
}

use x_shop::{Item, Sell};

#[inline(never)]
fn x_panic(text: &str) -> u32 {
    if black_box(text.len()) > 1 {
        panic!("said {}", text);
    }
    1
}

#[inline(never)]
fn x_index(values: &[u32], at: usize) -> u32 {
    black_box(values[black_box(at)])
}

#[inline(never)]
fn x_slice(text: &str, at: usize) -> usize {
    black_box(text[black_box(at)..].len())
}

#[inline(never)]
fn x_lookup(map: &HashMap<String, u32>) -> u32 {
    black_box(map["missing"])
}

#[inline(never)]
fn x_borrow() -> u32 {
    let cell = black_box(std::cell::RefCell::new(3));
    let first = cell.borrow_mut();
    let second = cell.borrow_mut();
    black_box(*first + *second)
}

#[inline(never)]
fn x_read(pointer: *const u32) -> u32 {
    black_box(unsafe { pointer.read_volatile() })
}

#[inline(never)]
fn x_deep(depth: u64) -> u64 {
    let room = black_box([depth; 16]);
    let inner = x_deep(black_box(depth + 1));
    black_box(room[3] + inner)
}

#[inline(never)]
fn x_closure(values: &[u32]) -> u32 {
    let sum: u32 = values.iter().map(#[inline(never)] |value| x_read(*value as usize as *const u32)).sum();
    black_box(sum)
}

#[inline(never)]
fn x_divide(by: u32) -> u32 {
    black_box(12 / black_box(by))
}

#[inline(never)]
fn x_thread() -> u32 {
    black_box(std::thread::spawn(|| black_box(x_panic("in a thread"))).join().unwrap_or(3))
}

#[inline(never)]
fn x_sort(values: &mut [u32]) -> u32 {
    values.sort_by(|_, _| -> std::cmp::Ordering { std::process::abort() });
    black_box(values[0])
}

#[inline(never)]
fn x_drop() -> u32 {
    drop(black_box(Item { price: Some(13) }));
    black_box(1)
}

#[inline(never)]
fn x_work() -> u32 {
    black_box(x_read(black_box(std::ptr::null())) + 1)
}

#[inline(never)]
fn x_passed_on() -> u32 {
    black_box(std::thread::spawn(x_work).join().unwrap_or(3))
}

#[inline(never)]
fn x_boxed() -> u32 {
    let work: Box<dyn FnOnce() -> u32 + Send> = Box::new(|| black_box(x_index(&black_box([1, 2]), 9)) + 2);
    black_box(std::thread::spawn(black_box(work)).join().unwrap_or(3))
}

fn main() {
    let way: u32 = std::env::args().nth(1).and_then(|way| way.parse().ok()).unwrap_or(0);
    let result = match way {
        1 => x_panic("something"),
        2 => x_index(&[1, 2, 3], 7),
        3 => black_box(Item { price: None }).x_price(),
        4 => black_box(Item { price: Some(1) }).x_sell(),
        5 => x_slice("äöü", 1) as u32,
        6 => x_lookup(&HashMap::new()),
        7 => x_borrow(),
        8 => x_read(black_box(std::ptr::null())),
        9 => x_deep(1) as u32,
        10 => x_closure(&black_box([0, 1])),
        11 => x_divide(black_box(0)),
        12 => x_thread(),
        13 => x_drop(),
        15 => x_passed_on(),
        16 => x_boxed(),
        _ => 0,
    };
    black_box(result);
    if way == 14 {
        x_sort(&mut black_box([3, 2, 1]));
    }
}
