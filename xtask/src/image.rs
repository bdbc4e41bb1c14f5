//! `cargo xtask image`: the Debian package and the disk image, where a person finds them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use atlas_image::{KERNEL_ARGUMENTS, Options, Package, ServerImage};

use crate::{process, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the Debian package.
    #[arg(long)]
    package: bool,
    /// Copy the package into this directory.
    #[arg(long, value_name = "DIR", default_value = "target/debian")]
    output: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    setup::run()?;
    let options = Options::new(&say)?;
    if arguments.package {
        tell_package(&atlas_image::package(&options)?, &arguments.output)?;
        return Ok(true);
    }
    let image = atlas_image::server_image(&options)?;
    image.package.iter().try_for_each(|package| tell_package(package, &arguments.output))?;
    tell_image(&image);
    Ok(true)
}

/// How a step of the image is announced.
pub(crate) fn say(step: &str) {
    println!("image: {step}");
}

fn tell_package(package: &Package, output: &std::path::Path) -> Result<()> {
    let output = process::repository().join(output);
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let copy = output.join(package.path.file_name().context("a package without a name")?);
    fs::copy(&package.path, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    println!("\npackage  {}", copy.display());
    for program in &package.programs {
        println!("         {:<16} {:>6} KiB", program.name, program.size_bytes.div_ceil(1024));
    }
    Ok(())
}

fn tell_image(image: &ServerImage) {
    println!("\ndisk     {}", image.root.display());
    println!("kernel   {}  ({})", image.kernel.display(), image.kernel_release);
    println!("initrd   {}", image.initrd.display());
    println!("\nTo look at it (log in as root, password atlas; Ctrl-A X ends it; nothing is written to the disk):");
    println!("qemu-system-x86_64 -m 512 -nographic -snapshot -nic none \\");
    println!("  -kernel {} -initrd {} \\", image.kernel.display(), image.initrd.display());
    println!("  -append '{KERNEL_ARGUMENTS}' \\");
    println!("  -drive file={},format=raw,if=virtio", image.root.display());
}
