//! The properties that the fuzz targets check; `model/tests/fuzz_seeds.rs` includes the same file.

pub mod properties;
