//! Databases, exercised on the real servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::Verdict;
use common::{
    Daemon,
    database::{OWNER, Postgresql, own, secret},
    expect, run, setup, value, verify_found, verify_on, write,
};
use std::{fs, os::unix::fs::PermissionsExt};

#[test]
fn postgresql_writes_and_reads_and_what_keeps_it_from_that_is_told() {
    if !own_network("postgresql_writes_and_reads_and_what_keeps_it_from_that_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let postgresql = Postgresql::new(tree);
    write(tree, "etc/postgresql/15/main/postgresql.conf", "port = 5432\nlisten_addresses = '*'\n");
    write(tree, "etc/postgresql/15/old/postgresql.conf", "port = 5433\nlisten_addresses = '*'\n");
    write(tree, "etc/postgresql/15/old/start.conf", "# never\ndisabled\n");
    let found = setup("postgresql", tree);
    assert_eq!(found.instances.len(), 1, "{found:?}");
    let credentials = secret(tree, "pgpass", "*:*:*:anne:secret\n");
    let account = [("user", "anne"), ("database", "postgres"), ("credentials", credentials.as_str())];
    let check = |more: &[(&str, &str)]| verify_found("postgresql", &found, "15/main", more);
    expect(&check(&[]), Verdict::Unacceptable, &["connection refused", "pg_lsclusters"]);

    let server = postgresql.start();
    common::wait_until("it accepts connections", || check(&account).verdict == Verdict::Ok);
    let profile = check(&account);
    expect(&profile, Verdict::Ok, &["a table was made, written and read"]);
    assert!(value(&profile, "query") > 0.0);
    expect(&check(&[]), Verdict::Ok, &["asks who is there"]);
    let wrong = secret(tree, "wrong", "*:*:*:anne:guessed\n");
    expect(
        &check(&[("user", "anne"), ("database", "postgres"), ("credentials", &wrong)]),
        Verdict::Unacceptable,
        &["password authentication failed"],
    );
    server.freeze();
    expect(&check(&[("--deadline", "3")]), Verdict::Unacceptable, &["no answer in time"]);
    server.thaw();
    drop(server);

    write(tree, "pg/data/pg_hba.conf", "local all all scram-sha-256\n");
    let server = postgresql.start();
    common::wait_until("it has started again", || !check(&account).summary.contains("starting up"));
    expect(
        &check(&account),
        Verdict::Unacceptable,
        &["does not let this account in from here", "no pg_hba.conf entry"],
    );
    expect(&check(&[]), Verdict::Ok, &["lets nobody unknown in"]);
    drop(server);
}

#[test]
fn mariadb_writes_and_reads_and_what_keeps_it_from_that_is_told() {
    if !own_network("mariadb_writes_and_reads_and_what_keeps_it_from_that_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    fs::set_permissions(tree, PermissionsExt::from_mode(0o755)).unwrap();
    own(&tree.join("data"));
    let dir = tree.join("data");
    let datadir = format!("--datadir={}", dir.display());
    let user = format!("--user={OWNER}");
    run(
        "mariadb-install-db",
        &["--no-defaults", &datadir, &user, "--auth-root-authentication-method=normal", "--skip-test-db"],
    );
    write(tree, "etc/mysql/my.cnf", "[client-server]\n!includedir /etc/mysql/conf.d/\n");
    write(tree, "etc/mysql/conf.d/server.cnf", "[mysqld]\nbind-address = 0.0.0.0\n");
    let start_sql = secret(
        tree,
        "start.sql",
        "CREATE USER bob@'%' IDENTIFIED BY 'secret';\nCREATE DATABASE verify;\nCREATE USER anne@'127.0.0.1' IDENTIFIED BY 'secret';\nGRANT ALL ON verify.* TO anne@'127.0.0.1';\n",
    );
    run("chown", &[OWNER, &start_sql]);
    let found = setup("mariadb", tree);
    let credentials = secret(tree, "client.cnf", "[client]\nuser=anne\npassword=secret\n");
    let account = [("credentials", credentials.as_str()), ("database", "verify")];
    let check = |more: &[(&str, &str)]| verify_found("mariadb", &found, "3306", more);
    expect(&check(&[]), Verdict::Unacceptable, &["connection refused", "systemctl status mariadb"]);

    run("ip", &["address", "add", "192.0.2.7/32", "dev", "lo"]);
    write(tree, "hosts", "127.0.0.1 localhost\n192.0.2.7 client.example\n");
    run("mount", &["--bind", tree.join("hosts").to_str().unwrap(), "/etc/hosts"]);
    let socket = format!("--socket={}/socket", dir.display());
    let init = format!("--init-file={start_sql}");
    let start = |more: &[&str]| {
        let args = ["--no-defaults", &datadir, &user, &socket, "--max-connect-errors=2", "--bind-address=0.0.0.0"];
        Daemon::start("mariadbd", &[&args[..], more].concat(), 3306)
    };
    let server = start(&[&init]);
    expect(&check(&[]), Verdict::Ok, &["MariaDB", "answers"]);
    // It knows this host by a name, and counts what comes from it.
    for _ in 0..5 {
        expect(&verify_on("192.0.2.7", "mariadb", &[("port", "3306")]), Verdict::Ok, &["MariaDB", "answers"]);
    }
    common::wait_until("the account is there", || check(&account).verdict == Verdict::Ok);
    let profile = check(&account);
    expect(&profile, Verdict::Ok, &["a table was made, written and read"]);
    assert!(value(&profile, "query") > 0.0);
    let wrong = secret(tree, "wrong.cnf", "[client]\nuser=anne\npassword=guessed\n");
    expect(&check(&[("credentials", &wrong), ("database", "verify")]), Verdict::Unacceptable, &["Access denied"]);
    expect(&check(&[account[0], ("database", "gone")]), Verdict::Unacceptable, &["gone"]);
    server.freeze();
    expect(&check(&[("--deadline", "3")]), Verdict::Unacceptable, &["no answer in time"]);
    server.thaw();
}
