//! Everything that is done with this repository, as commands: `cargo xtask COMMAND`.

mod bench;
mod demo;
mod image;
mod process;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything that is done with this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a failover: two servers boot, PRI's disks move to the other one, and that one is PRI.
    Demo(demo::Arguments),
    /// Run every test there is, in tiers; ends with `N passed, M failed`.
    Test(test::Arguments),
    /// Build the Debian package and the servers' disk image, and say where they are.
    Image(image::Arguments),
    /// Measure ATLAS and its peer side by side.
    Bench(bench::Arguments),
    /// Write man pages, completions and the CLI reference from the programs' definitions.
    Generate {
        /// Write nothing; fail if what is there is stale.
        #[arg(long)]
        check: bool,
    },
    /// Install the Debian packages that the other commands need; they call this themselves.
    Setup,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Generate { check } => setup::run().and_then(|()| process::generate(check)).map(|()| true),
        Command::Setup => setup::with_tests().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
