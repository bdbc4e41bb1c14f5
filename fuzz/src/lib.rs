//! The properties that the fuzz targets check; `model/tests/fuzz_seeds.rs` and `converters/tests/fuzz_seeds.rs` include the same files.

pub mod converters;
pub mod properties;
