//! `cargo xtask demo`: a failover that one can watch.

use anyhow::Result;
use atlas_image::Options;

use crate::{image, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Returns whether the failover did what it should.
pub(crate) fn run(_arguments: &Arguments) -> Result<bool> {
    setup::run()?;
    let _image = atlas_image::server_image(&Options::new(&image::say)?)?;
    anyhow::bail!("the servers' part of the demo is not there yet")
}
