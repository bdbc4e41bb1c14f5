//! Instances of one generic function, methods of one name of several traits, and closures of one function.
use std::hint::black_box;

struct Item;

trait Sell {
    fn act(&self);
}

trait Buy {
    fn act(&self);
}

impl Sell for Item {
    #[inline(never)]
    fn act(&self) {
        black_box::<Option<u8>>(None).unwrap();
    }
}

impl Buy for Item {
    #[inline(never)]
    fn act(&self) {
        black_box::<Option<u8>>(None).unwrap();
        black_box(3);
    }
}

struct Price;

impl From<i32> for Price {
    #[inline(never)]
    fn from(value: i32) -> Price {
        black_box::<Option<i32>>(None).unwrap_or_else(|| panic!("{value}"));
        Price
    }
}

impl From<u8> for Price {
    #[inline(never)]
    fn from(value: u8) -> Price {
        black_box::<Option<u8>>(None).unwrap_or_else(|| panic!("{value}"));
        Price
    }
}

#[inline(never)]
fn counts<T: std::fmt::Debug>(value: T) {
    if black_box(true) {
        panic!("{value:?}");
    }
}

#[inline(never)]
fn once<T: std::fmt::Debug>(value: T) {
    if black_box(true) {
        panic!("{value:?}");
    }
}

fn main() {
    let way: u32 = std::env::args().nth(1).and_then(|way| way.parse().ok()).unwrap_or(0);
    match way {
        1 => counts(1),
        2 => counts("one"),
        3 => Sell::act(&black_box(Item)),
        4 => Buy::act(&black_box(Item)),
        5 => drop(Price::from(black_box(1i32))),
        6 => drop(Price::from(black_box(1u8))),
        7 => once(1),
        _ => {}
    }
}
