//! ssRun runs every other program of ATLAS and keeps what it says [397-399]; ssStartHandler looks at the server before [403].
//!
//! There is no log server and nothing to link into a program: its output comes through a pipe, and goes where the caller wants it.
//!
//! | module | is |
//! |---|---|
//! | [`run`] | ssRun: the command line, the handlers before and after |
//! | [`supervise`] | the program that runs: its output, signals to it, its end |
//! | [`trial`] | a module's version on trial: its starts counted, how they went reported |
//! | [`handlers`] | the handlers before a run, within a deadline |
//! | [`copies`] | which runs of a program have begun and not ended |
//! | [`copy`] | the output on its way: time stamps, a full disk, several targets |
//! | [`log`] | log files: their names, their turn, their age |
//! | [`start`] | ssStartHandler: the command line and the notices |
//! | [`profile`] | what is normal for a server and a program; the rules that compare |
//! | [`measure`] | what the server is like now |

pub mod copies;
pub mod copy;
pub mod handlers;
pub mod log;
pub mod measure;
pub mod profile;
pub mod run;
pub mod start;
pub mod supervise;
pub mod trial;
