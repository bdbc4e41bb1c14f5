//! A corpus of real configurations, and what is done with it; see README.md.

#![allow(dead_code, unreachable_pub, reason = "the test and the bench use their part of it")]

pub mod alarms;
pub mod case;
pub mod daemons;
pub mod documented;
pub mod room;
pub mod roots;
pub mod uml;
pub mod views;
