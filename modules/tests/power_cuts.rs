//! The power goes: what was not flushed may be on the disk or not, in any order that one directory allows.
//!
//! The real program is recorded (`strace`) while it sets, installs and removes. Its calls are replayed on a model that keeps what is live
//! and what is durable apart: `fsync` of a file makes its content durable, of a directory the names in it, and nothing else does. After
//! every call, the disks that a power cut could leave are made real, and ATLAS looks at them.
//!
//! ```text
//!   calls ──► live tree ──────────► compared with the real tree at the end: the model is true
//!        └──► durable tree + names that wait ──► any choice of these, per directory in order ──► real trees ──► verify
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::cuts::copy_tree;
use atlas_module::{
    links::SetState,
    name::ModuleName,
    store::Store,
    verify::verify,
    view::{self, Part},
};
use common::Server;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

type Ino = usize;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Node {
    Dir(BTreeMap<String, Ino>),
    File { content: Vec<u8>, mode: u32 },
    Link(String),
}

/// A change of names, which is durable as a whole or not at all.
#[derive(Clone, Debug)]
enum Names {
    Put(Ino, String, Ino),
    Drop(Ino, String),
    Move(Ino, String, Ino, String),
    Exchange(Ino, String, Ino, String),
}

impl Names {
    fn dirs(&self) -> [Ino; 2] {
        match self {
            Names::Put(dir, ..) | Names::Drop(dir, _) => [*dir, *dir],
            Names::Move(a, _, b, _) | Names::Exchange(a, _, b, _) => [*a, *b],
        }
    }

    fn apply(&self, nodes: &mut [Node]) {
        fn names(nodes: &mut [Node], dir: Ino) -> &mut BTreeMap<String, Ino> {
            match &mut nodes[dir] {
                Node::Dir(names) => names,
                other => panic!("{other:?} is no directory"),
            }
        }
        match self {
            Names::Put(dir, name, ino) => {
                names(nodes, *dir).insert(name.clone(), *ino);
            }
            Names::Drop(dir, name) => {
                names(nodes, *dir).remove(name);
            }
            Names::Move(a, from, b, to) => {
                let ino = names(nodes, *a).remove(from).expect("what is moved is there");
                names(nodes, *b).insert(to.clone(), ino);
            }
            Names::Exchange(a, from, b, to) => {
                let (x, y) = (names(nodes, *a)[from], names(nodes, *b)[to]);
                names(nodes, *a).insert(from.clone(), y);
                names(nodes, *b).insert(to.clone(), x);
            }
        }
    }
}

/// A disk: what programs see, and what would be there after a power cut.
#[derive(Clone, Default)]
struct Disk {
    live: Vec<Node>,
    durable: Vec<Node>,
    waiting: Vec<Names>,
    flushes_count: bool,
}

const ROOT: Ino = 0;

impl Disk {
    fn load(root: &Path) -> Disk {
        let mut disk = Disk { flushes_count: true, ..Disk::default() };
        disk.load_node(root, &mut BTreeMap::new());
        disk.durable = disk.live.clone();
        disk
    }

    fn load_node(&mut self, path: &Path, known: &mut BTreeMap<u64, Ino>) -> Ino {
        let meta = fs::symlink_metadata(path).unwrap();
        if let Some(ino) = known.get(&meta.ino()) {
            return *ino;
        }
        let ino = self.live.len();
        known.insert(meta.ino(), ino);
        self.live.push(Node::Dir(BTreeMap::new()));
        self.live[ino] = if meta.is_dir() {
            let mut names = BTreeMap::new();
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                names.insert(entry.file_name().into_string().unwrap(), self.load_node(&entry.path(), known));
            }
            Node::Dir(names)
        } else if meta.is_symlink() {
            Node::Link(fs::read_link(path).unwrap().to_str().unwrap().to_owned())
        } else {
            Node::File { content: fs::read(path).unwrap(), mode: meta.permissions().mode() & 0o7777 }
        };
        ino
    }

    fn find(&self, path: &str) -> Ino {
        path.split('/').filter(|part| !part.is_empty()).fold(ROOT, |at, part| match &self.live[at] {
            Node::Dir(names) => *names.get(part).unwrap_or_else(|| panic!("{path} is not in the model")),
            other => panic!("{path} leads through {other:?}"),
        })
    }

    fn create(&mut self, dir: &str, name: String, live: Node, durable: Node) {
        let ino = self.live.len();
        self.live.push(live);
        self.durable.push(durable);
        self.change(Names::Put(self.find(dir), name, ino));
    }

    fn change(&mut self, names: Names) {
        names.apply(&mut self.live);
        self.waiting.push(names);
    }

    fn flush(&mut self, path: &str) {
        if !self.flushes_count {
            return;
        }
        let ino = self.find(path);
        if let Node::File { .. } = self.live[ino] {
            self.durable[ino] = self.live[ino].clone();
            return;
        }
        let (done, waiting): (Vec<Names>, Vec<Names>) =
            self.waiting.drain(..).partition(|names| names.dirs().contains(&ino));
        done.iter().for_each(|names| names.apply(&mut self.durable));
        self.waiting = waiting;
    }

    /// The disk after a power cut that kept the waiting names which `kept` says, and the content of unflushed files where `content`.
    fn cut(&self, kept: impl Fn(usize, &Names) -> bool, content: bool) -> Vec<Node> {
        let mut nodes = self.durable.clone();
        for (index, names) in self.waiting.iter().enumerate() {
            if kept(index, names) {
                names.apply(&mut nodes);
            }
        }
        if content {
            for (node, live) in nodes.iter_mut().zip(&self.live) {
                if let (Node::File { .. }, Node::File { .. }) = (&node, live) {
                    node.clone_from(live);
                }
            }
        }
        nodes
    }

    /// The disks that a power cut could leave now.
    fn cuts(&self, random: &mut Random) -> Vec<Vec<Node>> {
        let count = self.waiting.len();
        let mut cuts = Vec::new();
        for content in [false, true] {
            // As a journal keeps them: all names up to some moment.
            cuts.extend((0..=count).map(|end| self.cut(|index, _| index < end, content)));
            // As POSIX allows: every directory up to some moment of its own.
            for _ in 0..if count > 1 { 12 } else { 0 } {
                let ends: Vec<usize> = self.live.iter().map(|_| random.below(count + 1)).collect();
                cuts.push(self.cut(|index, names| names.dirs().iter().all(|dir| index < ends[*dir]), content));
            }
        }
        cuts
    }
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

fn make_real(nodes: &[Node], at: &Path, ino: Ino, made: &mut BTreeMap<Ino, std::path::PathBuf>) {
    match &nodes[ino] {
        Node::Dir(names) => {
            fs::create_dir(at).unwrap();
            for (name, ino) in names {
                make_real(nodes, &at.join(name), *ino, made);
            }
        }
        _ if made.contains_key(&ino) => fs::hard_link(&made[&ino], at).unwrap(),
        Node::File { content, mode } => {
            fs::write(at, content).unwrap();
            fs::set_permissions(at, fs::Permissions::from_mode(*mode)).unwrap();
            made.insert(ino, at.to_owned());
        }
        Node::Link(target) => {
            symlink(target, at).unwrap();
            made.insert(ino, at.to_owned());
        }
    }
}

/// The tree that can be reached, without the numbers of inodes: equal where nobody could tell a difference.
fn shape(nodes: &[Node], ino: Ino) -> String {
    match &nodes[ino] {
        Node::Dir(names) => {
            let inner: Vec<String> = names.iter().map(|(name, ino)| format!("{name}:{}", shape(nodes, *ino))).collect();
            format!("{{{}}}", inner.join(","))
        }
        other => format!("{other:?}"),
    }
}

/// One call as strace writes it: its name, its arguments, what it gave.
fn parse(line: &str) -> Option<(&str, Vec<String>, &str)> {
    let (name, rest) = line.split_once('(')?;
    let (inner, result) = rest.rsplit_once(") = ")?;
    let (mut args, mut text, mut quoted, mut depth) = (Vec::new(), String::new(), false, 0);
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => text.push_str(&unescape(&mut chars)),
            '"' => quoted = !quoted,
            '{' | '<' if !quoted => depth += 1,
            '}' | '>' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => args.push(std::mem::take(&mut text)),
            _ => {}
        }
        let between = !quoted && depth == 0 && matches!(c, ',' | ' ');
        let syntax = c == '"' || (c == '\\' && quoted) || between;
        if !syntax {
            text.push(c);
        }
    }
    args.push(text);
    Some((name, args, result))
}

fn unescape(chars: &mut std::str::Chars<'_>) -> String {
    match chars.next().unwrap() {
        'n' => "\n".into(),
        't' => "\t".into(),
        same @ ('"' | '\\') => same.to_string(),
        other => panic!("the recording has an escape that the model does not read: \\{other}"),
    }
}

/// The path of `5</tmp/x/root/opt>`, below the root of the model.
fn fd_path<'a>(arg: &'a str, root: &str) -> Option<&'a str> {
    arg.split_once('<')?.1.strip_suffix('>')?.strip_prefix(root)
}

/// Replays one call; gives whether it changed anything.
fn replay(disk: &mut Disk, call: (&str, Vec<String>, &str), root: &str) -> bool {
    let (name, args, result) = call;
    if result.starts_with('-') {
        return false;
    }
    let at = |index: usize| fd_path(&args[index], root).unwrap_or_else(|| panic!("{name} outside the tree: {args:?}"));
    match name {
        "openat" | "openat2" => {
            if !args[2].contains("O_CREAT") {
                return false;
            }
            let mode = args[2].split("mode=").nth(1).unwrap().split(',').next().unwrap();
            let mode = u32::from_str_radix(mode.trim(), 8).unwrap();
            let empty = Node::File { content: vec![], mode };
            disk.create(at(0), args[1].clone(), empty.clone(), empty);
        }
        "write" => {
            let Some(path) = fd_path(&args[0], root) else { return false };
            let ino = disk.find(path);
            match &mut disk.live[ino] {
                Node::File { content, .. } => content.extend_from_slice(args[1].as_bytes()),
                other => panic!("{other:?} is written to"),
            }
        }
        "fchmod" => {
            let ino = disk.find(at(0));
            if let Node::File { mode, .. } = &mut disk.live[ino] {
                *mode = u32::from_str_radix(&args[1], 8).unwrap();
            }
        }
        "mkdirat" => disk.create(at(0), args[1].clone(), Node::Dir(BTreeMap::new()), Node::Dir(BTreeMap::new())),
        "symlinkat" => {
            let link = Node::Link(args[0].clone());
            disk.create(at(1), args[2].clone(), link.clone(), link);
        }
        "linkat" => {
            let from = disk.find(&format!("{}/{}", at(0), args[1]));
            let to = disk.find(at(2));
            disk.change(Names::Put(to, args[3].clone(), from));
        }
        "unlinkat" => {
            let dir = disk.find(at(0));
            disk.change(Names::Drop(dir, args[1].clone()));
        }
        "renameat" | "renameat2" => {
            let (from, to) = (disk.find(at(0)), disk.find(at(2)));
            let (a, b) = (args[1].clone(), args[3].clone());
            let exchange = args.get(4).is_some_and(|flags| flags == "RENAME_EXCHANGE");
            disk.change(if exchange { Names::Exchange(from, a, to, b) } else { Names::Move(from, a, to, b) });
        }
        "fsync" => disk.flush(at(0)),
        other => panic!("the program makes a call that the model does not know: {other}"),
    }
    true
}

/// Everything that can change a disk: what the model does not know must not be missed.
const CHANGING: &str = "trace=openat,openat2,creat,write,pwrite64,writev,copy_file_range,sendfile,splice,ftruncate,truncate,fallocate,\
    fchmod,fchmodat,chmod,fchown,fchownat,chown,mkdir,mkdirat,symlink,symlinkat,link,linkat,unlink,unlinkat,rmdir,rename,renameat,\
    renameat2,fsync,fdatasync,syncfs,sync,mknodat,setxattr,fsetxattr";

struct Result {
    moments: usize,
    disks: usize,
    bad: Vec<String>,
}

/// Records a run, and gives to `check` every disk that a power cut could leave: with how far the run had come, from 0 to 1.
fn cut_power(server: &Server, args: &[&str], flushes_count: bool, check: impl Fn(&Path, bool)) -> Result {
    let base = server.root().parent().unwrap().to_owned();
    let work = base.join("recorded");
    copy_tree(&server.root(), &work);
    let mut disk = Disk { flushes_count, ..Disk::load(&work) };
    let log = base.join("strace");
    let options = ["-qq", "-y", "-s", "10000000", "-e", CHANGING, "-o"];
    let mut strace = Command::new("strace");
    strace.args(options).arg(&log).arg(common::PROGRAM).arg("--root").arg(&work).args(args);
    assert!(strace.stdout(Stdio::null()).status().expect("strace must be installed").success());
    let root = work.to_str().unwrap();
    let (mut random, mut seen, mut result) = (Random(1), HashSet::new(), Result { moments: 0, disks: 0, bad: vec![] });
    let recording = fs::read_to_string(&log).unwrap();
    let calls: Vec<&str> = recording.lines().collect();
    for (index, line) in calls.iter().enumerate() {
        let Some(call) = parse(line) else { continue };
        if !replay(&mut disk, call, root) {
            continue;
        }
        result.moments += 1;
        let ended = !calls[index + 1..].iter().any(|line| line.contains("renameat") || line.contains("fsync"));
        for nodes in disk.cuts(&mut random) {
            if seen.insert((shape(&nodes, ROOT), ended)) {
                result.disks += 1;
                try_disk(&nodes, &base.join("cut"), ended, line, &check, &mut result.bad);
            }
        }
    }
    let (model, real) = (shape(&disk.live, ROOT), shape(&Disk::load(&work).live, ROOT));
    assert!(model == real, "the model must end as the real tree does:\n{model}\n{real}");
    result
}

fn try_disk(nodes: &[Node], at: &Path, ended: bool, line: &str, check: &impl Fn(&Path, bool), bad: &mut Vec<String>) {
    let _ = fs::remove_dir_all(at);
    make_real(nodes, at, ROOT, &mut BTreeMap::new());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(at, ended)));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into());
        bad.push(format!("after {line}: {text}"));
    }
}

fn name() -> ModuleName {
    "ssSync".parse().unwrap()
}

fn versions(store: &Store) -> BTreeSet<String> {
    store.installed().unwrap().remove(&name()).unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// Looks as a person would, before anything is repaired, and again after the next change; gives what is set.
fn assert_whole(root: &Path) -> String {
    let store = Store::open(root).unwrap();
    let set = store.links().unwrap().state_of(&store, &name()).unwrap();
    let SetState::Whole(set) = set else { panic!("what is set is {set:?}") };
    assert_eq!(verify(&store, None).unwrap().findings, []);
    let overview = view::look(&store, &Part::default()).unwrap();
    assert!(overview.modules.iter().all(|module| module.problems.is_empty()), "{overview:?}");
    let (links, installed) = (store.links().unwrap(), versions(&store));
    drop(store.change().unwrap());
    assert_eq!(store.links().unwrap().entries().collect::<Vec<_>>(), links.entries().collect::<Vec<_>>());
    assert_eq!(versions(&store), installed);
    assert_eq!(verify(&store, None).unwrap().findings, []);
    for gone in ["opt/atlas/.bin-next", "opt/atlas/modules/staging"] {
        assert!(!root.join(gone).exists(), "{gone} is left");
    }
    set.to_string()
}

fn report(what: &str, result: &Result) {
    assert!(result.bad.is_empty(), "{what}: {} of {} disks: {:#?}", result.bad.len(), result.disks, result.bad);
    println!("{what}: {} moments, {} different disks after a power cut, all whole", result.moments, result.disks);
}

fn set_check(root: &Path, ended: bool) {
    let set = assert_whole(root);
    let history = fs::read_to_string(root.join("opt/atlas/bin/.history")).unwrap();
    assert_eq!(history.contains("\"to\":\"update/v2\""), set == "update/v2", "history and links disagree");
    assert!(!ended || set == "update/v2", "it had ended, and the power cut undid it");
}

#[test]
fn a_power_cut_during_set_leaves_the_old_or_the_new_version_whole() {
    let server = Server::with_two_versions();
    server.install_module("atlas", "v1", &[("atlas", "a"), ("atlas.cfg", "b")]);
    server.run(&["set", "atlas", "v1"]).done();
    report("set", &cut_power(&server, &["set", "ssSync", "v2"], true, set_check));
}

#[test]
fn a_power_cut_during_install_leaves_the_version_out_or_in() {
    let server = Server::with_two_versions();
    let package = server.package("v3", &[("ssSync", "three"), ("ssSync.cfg", "cfg three")]);
    let result =
        cut_power(&server, &["install", "--allow-unsigned", package.to_str().unwrap()], true, |root, ended| {
            assert_eq!(assert_whole(root), "update/v1");
            let there = versions(&Store::open(root).unwrap()).contains("update/v3");
            assert!(!ended || there, "it had ended, and the power cut undid it");
            let files = fs::read_dir(root.join("opt/atlas/modules/update")).unwrap().count();
            assert_eq!(files, if there { 8 } else { 6 }, "files are left");
        });
    report("install", &result);
}

#[test]
fn a_power_cut_during_remove_leaves_the_version_in_or_out() {
    let server = Server::with_two_versions();
    let result = cut_power(&server, &["remove", "ssSync", "v2"], true, |root, ended| {
        assert_eq!(assert_whole(root), "update/v1");
        let there = versions(&Store::open(root).unwrap()).contains("update/v2");
        assert!(!ended || !there, "it had ended, and the power cut undid it");
        let files = fs::read_dir(root.join("opt/atlas/modules/update")).unwrap().count();
        assert_eq!(files, if there { 6 } else { 3 }, "files are left, or lost");
    });
    report("remove", &result);
}

#[test]
fn the_model_finds_a_program_that_does_not_flush() {
    let server = Server::with_two_versions();
    let result = cut_power(&server, &["set", "ssSync", "v2"], false, set_check);
    assert!(!result.bad.is_empty(), "without any flush, {} disks were all whole: the model sees nothing", result.disks);
}
