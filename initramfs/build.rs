//! Small, because it lies in the initramfs, where it is linked statically. At a fixed address: that a program which runs once, before there is
//! a network, lies where an attacker may expect it costs nothing, and the relocations that it does without are a tenth of its size. And without
//! the index of unwinding information, which a program that aborts never reads.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if features.split(',').any(|feature| feature == "crt-static") {
        for argument in ["-no-pie", "-static", "-Wl,--no-eh-frame-hdr"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
