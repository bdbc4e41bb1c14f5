//! The log of a program that runs on and on: one line per event on standard error, which systemd keeps.

use tracing_subscriber::fmt;

/// Begins to log. Times are left to whoever keeps the lines; colour is for a terminal only.
pub fn begin() {
    let colour = crate::Style::for_stream(&std::io::stderr()).has_colour();
    let format = fmt().without_time().with_target(false).with_ansi(colour).with_writer(std::io::stderr);
    // One that logs already goes on to.
    let _ = format.try_init();
}
