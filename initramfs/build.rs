//! At a fixed address, where it is linked statically: that a program which runs once, before there is a network, lies where an
//! attacker may expect it costs nothing, and the relocations that it does without are a tenth of its size.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
        println!("cargo::rustc-link-arg-bins=-static");
    }
}
