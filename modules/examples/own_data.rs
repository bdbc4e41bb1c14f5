//! A module's program as it should be: it reads its data by its own version, so that a switch while it runs is none of its concern.
//!
//! Prints the content of `ssSync.cfg` of its own version, once for every line that it reads.

use std::io::{BufRead, Write};

fn main() -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        line?;
        let path = atlas_cli::version::own_file("ssSync.cfg")?;
        writeln!(std::io::stdout(), "{}", std::fs::read_to_string(path)?)?;
    }
    Ok(())
}
