//! What ATLAS adds to a boot.

use std::fs;

use anyhow::{Context, Result};
use atlas_image::{Options, plain_image, server_image};

use super::{Row, say};

const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn run() -> Result<Vec<Row>> {
    let options = Options::new(&say)?;
    let (with, without) = (server_image(&options)?, plain_image(&options)?);
    let early_boot = with.package.as_ref().and_then(|package| package.programs.first());
    let early_boot = early_boot.context("the server image has no programs of ours")?;
    let initrd_bytes = |path| fs::metadata(path).map(|metadata| metadata.len() as f64);
    let added = initrd_bytes(&with.initrd)? - initrd_bytes(&without.initrd)?;
    Ok(vec![
        Row::at_most("atlas-boot, stripped", early_boot.size_bytes as f64 / MIB, 2.0, "MiB"),
        Row::at_most("added to the initramfs, compressed", added / MIB, 1.0, "MiB"),
    ])
}
