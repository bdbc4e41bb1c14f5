//! A PostgreSQL of a test's own.

use super::{Daemon, run, write};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// An account that is not root's, as databases want it.
pub const OWNER: &str = "www-data";

/// Makes a directory of that account's.
pub fn own(path: &Path) {
    fs::create_dir_all(path).unwrap();
    run("chown", &[OWNER, path.to_str().unwrap()]);
}

/// A file that only its owner reads; gives its path.
pub fn secret(tree: &Path, name: &str, content: &str) -> String {
    write(tree, name, content);
    fs::set_permissions(tree.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    tree.join(name).to_str().unwrap().to_owned()
}

/// A cluster with one account: anne, whose password is `secret`.
pub struct Postgresql {
    programs: String,
    data: PathBuf,
}

impl Postgresql {
    /// Makes it below `tree/pg`.
    pub fn new(tree: &Path) -> Postgresql {
        fs::set_permissions(tree, PermissionsExt::from_mode(0o755)).unwrap();
        own(&tree.join("pg"));
        let versions = fs::read_dir("/usr/lib/postgresql").unwrap().map(|entry| entry.unwrap().file_name());
        let newest = versions.filter_map(|name| name.into_string().ok()?.parse::<u32>().ok()).max().unwrap();
        let new = Postgresql { programs: format!("/usr/lib/postgresql/{newest}/bin"), data: tree.join("pg/data") };
        let password = secret(tree, "password", "secret\n");
        run("chown", &[OWNER, &password]);
        let (program, password) = (format!("{}/initdb", new.programs), format!("--pwfile={password}"));
        let args = ["-D", new.data.to_str().unwrap(), "-U", "anne", &password, "--auth=scram-sha-256", "--no-sync"];
        run("setpriv", &as_owner(&program, &args));
        new
    }

    /// Starts it on port 5432 of loopback.
    pub fn start(&self) -> Daemon {
        let args = ["-D", self.data.to_str().unwrap(), "-k", "", "-h", "127.0.0.1", "-c", "max_connections=20"];
        let program = format!("{}/postgres", self.programs);
        let args = [&args[..], &["-c", "superuser_reserved_connections=0"]].concat();
        Daemon::start("setpriv", &as_owner(&program, &args), 5432)
    }

    /// Has it do something.
    pub fn say(&self, sql: &str) -> String {
        run("env", &["PGPASSWORD=secret", "psql", "-h", "127.0.0.1", "-U", "anne", "-d", "postgres", "-tAc", sql])
    }
}

fn as_owner<'a>(program: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["--reuid", OWNER, "--regid", OWNER, "--clear-groups", program], args].concat()
}
