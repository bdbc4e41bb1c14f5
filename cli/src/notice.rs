//! Notices: what somebody should know of this server, kept until somebody says that it is dealt with.
//!
//! ```text
//! who notices   send ─► /var/lib/atlas/notices/SOURCE-KEY.json ─► VerifyService `notices`: a finding, here and on PRI, and its alerts
//!                                                              ─► `atlas notices` lists them, `atlas notices done ID` ends one
//! {"format":1,"source":"atlas-module","title":…,"text":…,"first":1763700000,"last":1763700000,"count":1}
//! ```
//!
//! They lie on the disk of the server, because they are about it, and a reboot ends none. What happens again counts up, and is one
//! notice still. What a check finds by itself as long as it is so needs none.

use atlas_host::{FileError, durable, tree::Dir};
use serde::{Deserialize, Serialize};
use std::{ffi::OsStr, io, path::Path, time::SystemTime};

/// Where they lie.
pub const PLACE: &str = "var/lib/atlas/notices";
/// The most notices that wait; beyond it the oldest make room.
const WAITING: usize = 200;
/// The longest title and text, in characters.
const LONGEST: (usize, usize) = (300, 20_000);
/// The largest file that is read, in bytes.
const MAX_FILE: usize = 200_000;
const END: &str = ".json";

/// What somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// Of this form of it: 1.
    pub format: u32,
    /// The program that noticed it.
    pub source: String,
    /// In one line.
    pub title: String,
    /// In full, as it was the last time.
    pub text: String,
    /// When it was noticed first, in seconds since 1970.
    pub first: u64,
    /// When it was noticed last.
    pub last: u64,
    /// How often.
    pub count: u64,
}

/// All that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// By their names, the newest first.
    pub notices: Vec<(String, Notice)>,
    /// Those that cannot be read, with why.
    pub unreadable: Vec<(String, String)>,
}

/// Keeps a notice until it is dealt with. `source` and `key` make its name: what has the same is the same, noticed again.
///
/// # Errors
/// Where it cannot be written.
pub fn send(root: &Path, source: &str, key: &str, title: &str, text: &str) -> Result<(), FileError> {
    let dir = Dir::open_root(root)?.make_dirs(PLACE)?;
    let id = id(source, key);
    let name = format!("{id}{END}");
    let before = read(&dir, &name).ok().flatten();
    if before.is_none() {
        make_room(&dir)?;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let cut = |text: &str, longest| text.chars().take(longest).collect();
    let notice = Notice {
        format: 1,
        source: source.into(),
        title: cut(title, LONGEST.0),
        text: cut(text, LONGEST.1),
        first: before.as_ref().map_or(now, |before| before.first),
        last: now,
        count: before.map_or(1, |before| before.count.saturating_add(1)),
    };
    let content =
        serde_json::to_vec(&notice).map_err(|error| FileError::on("write", dir.show(&name))(io::Error::from(error)))?;
    durable::write(&dir, OsStr::new(&name), &content, 0o644)
}

/// All that wait on this server.
///
/// # Errors
/// Where the place itself cannot be read.
pub fn waiting(root: &Path) -> Result<Waiting, FileError> {
    let mut waiting = Waiting::default();
    let Some(dir) = place(root)? else { return Ok(waiting) };
    for name in dir.names(10 * WAITING)? {
        let name = name.to_string_lossy();
        // What a program was about to write when it was cut off is none yet.
        let Some(id) = name.strip_suffix(END).filter(|_| !durable::is_temporary(OsStr::new(&*name))) else { continue };
        match read(&dir, &name) {
            Ok(Some(notice)) => waiting.notices.push((id.into(), notice)),
            Ok(None) => {}
            Err(error) => waiting.unreadable.push((id.into(), error.source.to_string())),
        }
    }
    waiting.notices.sort_by(|(a_id, a), (b_id, b)| b.last.cmp(&a.last).then_with(|| a_id.cmp(b_id)));
    Ok(waiting)
}

/// What was noticed is over by itself.
///
/// # Errors
/// Where it is there, and cannot be removed.
pub fn over(root: &Path, source: &str, key: &str) -> Result<bool, FileError> {
    done(root, &id(source, key))
}

/// Somebody has dealt with it. Says whether there was one of this name.
///
/// # Errors
/// Where it is there, and cannot be removed.
pub fn done(root: &Path, id: &str) -> Result<bool, FileError> {
    let is_one = !id.is_empty() && id.chars().all(is_plain);
    let Some(dir) = place(root)?.filter(|_| is_one) else { return Ok(false) };
    let name = format!("{id}{END}");
    if dir.stat(OsStr::new(&name))?.is_none() {
        return Ok(false);
    }
    dir.remove(OsStr::new(&name))?;
    Ok(true)
}

fn place(root: &Path) -> Result<Option<Dir>, FileError> {
    match Dir::open_root(root)?.dir(PLACE) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(dir: &Dir, name: &str) -> Result<Option<Notice>, FileError> {
    let Some(content) = dir.read_if_there(name, MAX_FILE)? else { return Ok(None) };
    let wrong = |why: String| FileError::on("read", dir.show(name))(io::Error::other(why));
    let notice: Notice =
        serde_json::from_slice(&content).map_err(|error| wrong(format!("it is no notice: {error}")))?;
    match notice.format {
        1 => Ok(Some(notice)),
        other => Err(wrong(format!("it is of format {other}; this program reads format 1"))),
    }
}

/// The oldest go where there are too many.
fn make_room(dir: &Dir) -> Result<(), FileError> {
    let names = dir.names(100_000)?;
    let too_many = (names.len() + 1).saturating_sub(WAITING);
    if too_many == 0 {
        return Ok(());
    }
    let age = |name: &OsStr| Ok(dir.stat(name)?.map_or((0, 0), |stat| (stat.st_mtime, stat.st_mtime_nsec)));
    let mut dated = names.iter().map(|name| Ok((age(name)?, name))).collect::<Result<Vec<_>, FileError>>()?;
    dated.sort();
    dated.iter().take(too_many).try_for_each(|(_, name)| dir.remove(name).map(drop))
}

/// The name of a notice, which people type.
fn id(source: &str, key: &str) -> String {
    let plain = |c: char| if is_plain(c) { c } else { '_' };
    format!("{source}-{key}").chars().map(plain).take(100).collect()
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_notice_waits_until_it_is_dealt_with_and_counts_what_happens_again() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        assert_eq!(waiting(root).unwrap(), Waiting::default());
        assert!(!done(root, "atlas-module-oven").unwrap());
        for text in ["first", "second"] {
            send(root, "atlas-module", "oven", "oven was set back", text).unwrap();
        }
        send(root, "ssSync", "../x y", "a call was refused", "").unwrap();
        let mut told = waiting(root).unwrap();
        told.notices.sort_by(|(a, _), (b, _)| a.cmp(b));
        let said: Vec<_> = told.notices.iter().map(|(id, one)| (id.as_str(), one.text.as_str(), one.count)).collect();
        assert_eq!(said, [("atlas-module-oven", "second", 2), ("ssSync-___x_y", "", 1)]);
        assert!(!done(root, "../atlas-module-oven").unwrap() && !done(root, "").unwrap());
        assert!(done(root, "atlas-module-oven").unwrap() && !done(root, "atlas-module-oven").unwrap());
        assert_eq!(waiting(root).unwrap().notices.len(), 1);
        assert!(over(root, "ssSync", "../x y").unwrap());
    }

    #[test]
    fn what_is_no_notice_is_told_and_can_be_ended() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join(PLACE);
        fs::create_dir_all(&dir).unwrap();
        for (name, content) in [("cut.json", "{\"format\":1,"), ("new.json", "{\"format\":2}"), ("README", "")] {
            fs::write(dir.join(name), content).unwrap();
        }
        let told = waiting(tmp.path()).unwrap();
        assert_eq!((told.notices.len(), told.unreadable.len()), (0, 2), "{told:?}");
        assert!(done(tmp.path(), "cut").unwrap() && done(tmp.path(), "new").unwrap());
        assert!(waiting(tmp.path()).unwrap().unreadable.is_empty());
    }

    #[test]
    fn the_oldest_make_room() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join(PLACE);
        send(tmp.path(), "a", "oldest", "it", "").unwrap();
        let old = SystemTime::now() - std::time::Duration::from_secs(100);
        fs::File::options().write(true).open(dir.join("a-oldest.json")).unwrap().set_modified(old).unwrap();
        for number in 0..WAITING {
            send(tmp.path(), "a", &number.to_string(), "it", "").unwrap();
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), WAITING);
        assert!(!dir.join("a-oldest.json").exists());
    }
}
