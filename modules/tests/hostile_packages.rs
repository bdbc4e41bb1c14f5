//! Packages that want to do harm: each is refused with one clear line, and nothing of it is left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use common::Server;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};
use tar::{EntryType, Header};

/// A tar file that is put together byte by byte, so that it can be wrong in any way.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    /// Adds an entry under a name that no library would write.
    fn entry(mut self, name: &[u8], kind: EntryType, link: &[u8], content: &[u8]) -> Tar {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Tar {
        self.entry(name.as_bytes(), EntryType::Regular, b"", content)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// A `module.toml` for files with these contents, with changes to its text.
fn record(files: &[(&str, &[u8])], change: impl Fn(String) -> String) -> Vec<u8> {
    let mut text = "format = 1\nname = \"ssSync\"\nversion = \"v9\"\n".to_owned();
    for (name, content) in files {
        let (size, digest) = (content.len(), atlas_model::Digest::of(content));
        text += &format!("[[file]]\nname = \"{name}\"\nmode = \"0644\"\nsize = {size}\nsha256 = \"{digest}\"\n");
    }
    change(text).into_bytes()
}

fn good_record() -> Vec<u8> {
    record(&[("ssSync", b"program")], |text| text)
}

fn good() -> Tar {
    Tar::default().file("module.toml", &good_record()).file("ssSync", b"program")
}

/// Everything on the server, with what it holds.
fn everything(root: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let shown = if meta.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "dir".to_owned()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        };
        all.push((path, shown));
    }
    all.sort();
    all
}

/// Asserts that a package is refused for the reason expected, on one line, and that nothing is different afterwards.
#[track_caller]
fn assert_refused(server: &Server, package: &[u8], expected: &str) {
    let before = everything(server.root().parent().unwrap());
    let path = server.root().with_file_name("hostile.tar");
    fs::write(&path, package).unwrap();
    let told = server.run(&["install", "--allow-unsigned", path.to_str().unwrap()]).refused();
    fs::remove_file(&path).unwrap();
    let reasons: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("  because: ")).collect();
    assert!(reasons.len() == 1 && reasons[0].contains(expected), "expected '{expected}', told: {told}");
    assert!(told.lines().count() <= 3, "more than the error, its reason and a hint: {told}");
    assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
    assert_eq!(everything(server.root().parent().unwrap()), before, "something was left behind");
}

#[test]
fn the_package_that_the_hostile_ones_are_made_from_is_good() {
    let server = Server::with_two_versions();
    let path = server.folder().join("good.tar");
    fs::write(&path, good().end()).unwrap();
    server.run(&["install", "--allow-unsigned", path.to_str().unwrap()]).done();
    assert_eq!(fs::read(server.path("bin/update/ssSync.v9")).unwrap(), b"program");
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let server = Server::with_two_versions();
    for name in ["/etc/cron.d/x", "../../etc/x", "a/../../x", "sub/ssSync", "./ssSync", "..", ".hidden", "update"] {
        let in_tar = Tar::default().file("module.toml", &good_record()).file(name, b"program").end();
        assert_refused(&server, &in_tar, "file name");
        let in_record = record(&[(name, b"x")], |text| text);
        assert_refused(&server, &Tar::default().file("module.toml", &in_record).end(), "file name");
    }
}

#[test]
fn everything_but_plain_files_is_refused() {
    let server = Server::with_two_versions();
    for (kind, expected) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::Directory, "a directory"),
        (EntryType::GNUSparse, "a sparse file"),
        (EntryType::GNULongName, "a long name"),
        (EntryType::GNULongLink, "a long name"),
        (EntryType::XHeader, "an extension"),
        (EntryType::XGlobalHeader, "an extension"),
        (EntryType::new(b'Z'), "an extension"),
    ] {
        let start = Tar::default().file("module.toml", &good_record());
        assert_refused(&server, &start.entry(b"ssSync", kind, b"/etc/passwd", b"").end(), expected);
    }
    let record_as_link = Tar::default().entry(b"module.toml", EntryType::Symlink, b"/etc/shadow", b"").end();
    assert_refused(&server, &record_as_link, "does not begin with module.toml");
}

#[test]
fn what_is_twice_missing_or_too_much_is_refused() {
    let server = Server::with_two_versions();
    assert_refused(&server, &good().file("ssSync", b"program").end(), "the file ssSync twice");
    let twice = record(&[("ssSync", b"program"), ("ssSync", b"program")], |text| text);
    assert_refused(&server, &Tar::default().file("module.toml", &twice).end(), "lists the file ssSync twice");
    assert_refused(&server, &good().file("more", b"x").end(), "does not list: more");
    assert_refused(&server, &good().file("module.toml", &good_record()).end(), "does not list: module.toml");
    assert_refused(&server, &Tar::default().file("module.toml", &good_record()).end(), "lacks the file ssSync");
    assert_refused(&server, &Tar::default().file("ssSync", b"program").end(), "does not begin with module.toml");
    assert_refused(&server, &Tar::default().end(), "does not begin with module.toml");
}

#[test]
fn a_wrong_digest_or_size_is_refused() {
    let server = Server::with_two_versions();
    let start = || Tar::default().file("module.toml", &good_record());
    assert_refused(&server, &start().file("ssSync", b"Program").end(), "is not what its digest");
    assert_refused(
        &server,
        &start().file("ssSync", b"programs").end(),
        "has 8 bytes in the package; module.toml says 7",
    );
}

#[test]
fn versions_and_names_that_are_paths_or_hold_newlines_are_refused() {
    let server = Server::with_two_versions();
    for (from, to, expected) in [
        ("\"v9\"", "\"v9/../../../etc\"", "version"),
        ("\"v9\"", "\"../v9\"", "version"),
        ("\"v9\"", "\"v9\\nv10\"", "version"),
        ("\"v9\"", "\"v9\\u001b[31m\"", "version"),
        ("name = \"ssSync\"\nversion", "name = \"../ssSync\"\nversion", "module name"),
        ("name = \"ssSync\"\nmode", "name = \"ss\\nSync\"\nmode", "file name"),
        ("0644", "6755", "mode"),
        ("format = 1", "format = 2", "format 2"),
    ] {
        let changed = record(&[("ssSync", b"program")], |text| text.replacen(from, to, 1));
        assert_ne!(changed, good_record(), "the case {to} changed nothing");
        assert_refused(&server, &Tar::default().file("module.toml", &changed).end(), expected);
    }
    assert_refused(&server, &Tar::default().file("module.toml", &good_record()).file("a\nb", b"").end(), "file name");
}

#[test]
fn bombs_and_huge_counts_are_refused_before_they_fill_anything() {
    let server = Server::with_two_versions();
    let big = record(&[("ssSync", b"program")], |text| text.replace("size = 7", "size = 109951162777600"));
    assert_refused(&server, &Tar::default().file("module.toml", &big).end(), "1073741824 are allowed");
    let names: Vec<String> = (0..2000).map(|n| format!("f{n}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    let many = record(&files, |text| text);
    assert_refused(&server, &Tar::default().file("module.toml", &many).end(), "a module has 1 to 1000");
    assert_refused(
        &server,
        &Tar::default().file("module.toml", &vec![b'#'; (1 << 20) + 1]).end(),
        "larger than 1048576 bytes",
    );
    // Two gigabytes of zeros in a few kilobytes, in an entry whose header claims them.
    let mut header = Header::new_ustar();
    header.set_path("module.toml").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(2 << 30);
    header.set_cksum();
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..2048).for_each(|_| zstd.write_all(&zeros).unwrap());
    let bomb = zstd.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    assert_refused(&server, &bomb, "larger than 1048576 bytes");
}

#[test]
fn a_bomb_behind_a_good_beginning_is_read_no_further_than_the_bound() {
    let server = Server::with_two_versions();
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.write_all(&good().0).unwrap();
    let mut header = Header::new_ustar();
    header.set_path("more").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_size(8 << 30);
    header.set_cksum();
    zstd.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..2048).for_each(|_| zstd.write_all(&zeros).unwrap());
    assert_refused(&server, &zstd.finish().unwrap(), "does not list: more");
}

#[test]
fn a_package_that_ends_early_is_refused_wherever_it_was_cut() {
    let server = Server::with_two_versions();
    let whole = good().end();
    let last_content = whole.len() - 1024;
    for end in (1..=last_content).step_by(97).chain([last_content, last_content - 512, 512, 513]) {
        let path = server.root().with_file_name("short.tar");
        fs::write(&path, &whole[..end]).unwrap();
        let told = server.run(&["install", "--allow-unsigned", path.to_str().unwrap()]).refused();
        assert!(told.contains("ends early") || told.contains("does not begin"), "cut at {end}: {told}");
    }
    let packed = zstd::encode_all(whole.as_slice(), 3).unwrap();
    assert_refused(&server, &packed[..packed.len() / 2], "ends early");
    assert_refused(&server, b"", "does not begin with module.toml");
    assert_refused(&server, &[0xff; 4096], "cannot be read");
    assert!(!server.path("modules/staging").exists());
}

#[test]
fn a_package_that_is_a_pipe_or_a_device_is_refused_at_once() {
    let server = Server::with_two_versions();
    let pipe = server.folder().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [pipe.to_str().unwrap(), "/dev/zero"] {
        let told = server.run(&["install", "--allow-unsigned", path]).refused();
        assert!(told.contains("no regular file"), "{told}");
    }
}

#[test]
fn a_package_for_another_module_cannot_take_a_file_over() {
    let server = Server::with_two_versions();
    let thief = record(&[("ssSync", b"program")], |text| text.replacen("name = \"ssSync\"", "name = \"thief\"", 1));
    let tar = Tar::default().file("module.toml", &thief).file("ssSync", b"program").end();
    assert_refused(&server, &tar, "belongs to the module ssSync");
}
