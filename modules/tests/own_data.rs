//! A switch under a running program: it goes on with the data of its own version.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use common::Server;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Version `version` of a module whose program is the example `own_data`.
fn install(server: &Server, version: &str) {
    // Built with all tests, and here for a run of this one alone.
    let build = ["build", "--quiet", "--locked", "--package", "atlas-module", "--example", "own_data"];
    assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    let example = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/own_data");
    let folder = server.folder().join(version);
    fs::create_dir(&folder).unwrap();
    fs::copy(example, folder.join("ssSync")).unwrap();
    fs::write(folder.join("ssSync.cfg"), format!("data of {version}")).unwrap();
    let package = server.folder().join(format!("{version}.tar"));
    let (folder, package) = (folder.to_str().unwrap(), package.to_str().unwrap());
    server.run(&["pack", folder, package, "--name", "ssSync", "--version", version]).done();
    server.run(&["install", "--allow-unsigned", package]).done();
}

struct Program {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    fn start(server: &Server) -> Program {
        let mut command = Command::new(server.path("bin/ssSync"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Program { child, asks, answers }
    }

    /// What it reads as its data now.
    fn data(&mut self) -> String {
        writeln!(self.asks).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn end(mut self) {
        drop(self.asks);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn a_running_program_keeps_the_data_of_its_version_while_others_are_set() {
    let server = Server::new();
    install(&server, "v1");
    install(&server, "v2");
    server.run(&["set", "ssSync", "v1"]).done();
    let mut first = Program::start(&server);
    assert_eq!(first.data(), "data of v1");
    server.run(&["set", "ssSync", "v2"]).done();
    assert_eq!(
        fs::read_to_string(server.path("bin/ssSync.cfg")).unwrap(),
        "data of v2",
        "the link leads elsewhere now"
    );
    let mut second = Program::start(&server);
    assert_eq!((first.data().as_str(), second.data().as_str()), ("data of v1", "data of v2"));
    server.run(&["set", "ssSync", "v1"]).done();
    assert_eq!((first.data().as_str(), second.data().as_str()), ("data of v1", "data of v2"));
    first.end();
    second.end();
}
