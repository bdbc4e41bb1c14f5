//! The properties that the fuzz targets check; `fuzz_seeds.rs` in the tests of `model`, `host`, `converters`, `corehandler`, `synchronizer` and `verifier` includes the same files.

pub mod converters;
pub mod crashes;
pub mod network;
pub mod properties;
pub mod synchronizer;
pub mod verifier;
