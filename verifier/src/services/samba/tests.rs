use super::{
    config::{joined, *},
    *,
};

#[test]
fn shares_are_found_with_whom_they_are_for() {
    let text = "[global]\nsmb ports = 4450 139\n[homes]\npath = /home/%S\n[printers]\npath = /var/spool/samba\n[data]\n  Path = /srv/data/\n  Guest OK = Yes\n\
        [team]\ndirectory = \"/srv/the team\"\nwriteable = yes\n[off]\npath = /srv/off\navailable = no\n[user]\npath = /srv/%U\n";
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    let shown: Vec<(String, String, bool, bool)> = shares(&lines)
        .into_iter()
        .map(|share| (share.name, share.path, share.is_for_guests, share.is_read_only))
        .collect();
    let expected = [("data", "/srv/data", true, true), ("team", "/srv/the team", false, false)];
    let expected = expected.map(|(name, path, guests, ro)| (name.to_owned(), path.to_owned(), guests, ro));
    assert_eq!(shown, expected);
    let global = ["[global]", "writable = yes", "[a]", "path = /a", "[b]", "path = /b", "read only = yes"];
    let global: Vec<bool> = shares(&global.map(str::to_owned)).iter().map(|share| share.is_read_only).collect();
    assert_eq!(global, [false, true]);
    let expected = Server {
        port: 4450,
        others: vec![139],
        is_local: false,
        is_limited: false,
        addresses: vec![],
        usershares: None,
    };
    assert_eq!(Server::read(&lines), expected);
    assert_eq!(Server::read(&["[global]".to_owned()]).port, 445);
}

#[test]
fn nothing_is_written_where_it_would_be_kept_nor_asked_for_where_it_is_not_seen() {
    let server = crate::here::testing::Server::with(&[
        (
            "etc/samba/smb.conf",
            "[global]\ninclude = registry\nsecurity = ADS\n\
             [bin]\npath = /srv/bin\nguest ok = yes\nwritable = yes\nvfs objects = acl_xattr, recycle\n\
             [upper]\npath = /srv/upper\ncase sensitive = yes\ndefault case = upper\npreserve case = no\n\
             [open]\npath = /srv/open\nwritable = yes\nvfs objects = full_audit\npreserve case = no\n",
        ),
        ("var/lib/samba/private/passdb.tdb", ""),
        ("srv/bin/x", ""),
        ("srv/upper/x", ""),
        ("srv/open/x", ""),
    ]);
    for dir in ["bin", "open"] {
        let dir = server.root().join("srv").join(dir);
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let found = find(&server.tree()).unwrap();
    let option = |name: &str, key: &str| {
        let one = found.instances.iter().find(|one| one.name == name).unwrap();
        one.options.get(key).cloned().unwrap_or_default()
    };
    assert_eq!((option("bin", "access"), option("open", "access")), (String::new(), "rw".into()));
    assert_eq!((option("upper", "share"), option("open", "share")), (String::new(), "open".into()));
    assert_eq!(found.place.len(), 2, "{:?}", found.place);
    let notes = found.notes.join("\n");
    for told in ["nothing is written to the share bin", "no file of the share upper", "member of a domain"] {
        assert!(notes.contains(told), "{told}: {notes}");
    }
    assert!(found.problems[0].contains("in its registry does not travel"), "{:?}", found.problems);
    assert!(found.paths.contains(&ACCOUNTS.to_owned()), "{:?}", found.paths);
}

#[test]
fn who_is_old_or_has_programs_run_is_left_alone() {
    let found = |text: &str| {
        let server = crate::here::testing::Server::with(&[("etc/samba/smb.conf", text), ("srv/a/x", "")]);
        let found = find(&server.tree()).unwrap();
        (found.instances.first().map(|one| one.options.contains_key("guest")), found.notes.join("\n"))
    };
    let share = "[a]\npath = /srv/a\nguest ok = yes\n";
    assert_eq!(found(&format!("[global]\n{share}")).0, Some(true));
    let (guest, notes) = found(&format!("[global]\n{share}root preexec = /usr/local/bin/x\n"));
    assert!(guest == Some(false) && notes.contains("a program runs each time"), "{notes}");
    let (guest, notes) = found(&format!("[global]\nserver max protocol = NT1\n{share}"));
    assert!(guest.is_none() && notes.contains("SMB 1 alone at port 445"), "{notes}");
    assert_eq!(found(&format!("[global]\nserver max protocol = SMB3\n{share}")).0, Some(true));
}

#[test]
fn the_test_file_lies_where_a_share_leads_to_and_nowhere_where_nothing_is_synchronised() {
    use std::os::unix::fs::PermissionsExt;
    let text = "[linked]\npath = /srv/link\nguest ok = yes\n[tmp]\npath = /tmp/x\nguest ok = yes\n\
        [drop]\npath = /srv/drop\nguest ok = yes\nread only = no\n[gone]\npath = /srv/gone\nguest ok = yes\n";
    let server = crate::here::testing::Server::with(&[
        ("etc/samba/smb.conf", text),
        ("srv/p/x", ""),
        ("tmp/x/y", ""),
        ("srv/drop/x", ""),
        ("var/lib/samba/usershares/mine", ""),
    ]);
    server.link("p", "srv/link");
    std::fs::set_permissions(server.root().join("srv/drop"), PermissionsExt::from_mode(0o733)).unwrap();
    let found = find(&server.tree()).unwrap();
    let placed: Vec<&str> = found.place.iter().map(|data| data.path.as_str()).collect();
    assert_eq!(placed, ["/srv/p/.atlas-verify", "/srv/drop/.atlas-verify"]);
    let with = |key: &str| {
        let with = found.instances.iter().filter(|one| one.options.contains_key(key));
        with.map(|one| one.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!((with("share"), with("access")), (vec!["linked", "drop", "gone"], vec![]));
    assert!(found.paths.contains(&"/srv/link".to_owned()) && found.problems.len() == 1, "{found:?}");
    assert!(found.notes.iter().any(|note| note.contains("1 shares that people made")), "{:?}", found.notes);
}

#[test]
fn lines_go_on_as_testparm_shows_them() {
    let text = "netbios name = BREAD\\\nBOX\nworkgroup = WORK\\\n   GROUP\n[sh\\\nare]\npath = /srv/the \\\n\tshop";
    let expected = "netbios name = BREADBOX\nworkgroup = WORK GROUP\n[share]\npath = /srv/the shop";
    assert_eq!(joined(text), expected);
}

#[test]
fn one_whose_unit_is_masked_is_none_though_that_of_a_controller_is_not() {
    let server = crate::here::testing::Server::with(&[
        ("var/lib/dpkg/status", ""),
        ("lib/systemd/system/smbd.service", "[Unit]\n"),
        ("lib/systemd/system/samba-ad-dc.service", "[Unit]\n"),
        ("etc/samba/smb.conf", "[global]\n[data]\npath = /srv\n"),
    ]);
    server.program("usr/sbin/smbd", "");
    let found = || find(&server.tree()).unwrap().instances.len();
    assert_eq!(found(), 1);
    server.link("/dev/null", "etc/systemd/system/smbd.service");
    assert_eq!(found(), 0);
    server.write(
        "etc/samba/smb.conf",
        "[global]\nServer  Role = Active Directory Domain Controller\n[data]\npath = /srv\n",
    );
    assert_eq!(found(), 1);
}

#[test]
fn a_heading_may_have_a_comment_and_a_share_may_be_for_some_alone() {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let text = lines(
        "[global]\ninterfaces = lo 127.0.0.1/8\nbind interfaces only = yes\nhosts allow = 127.\n\
        [data] # a comment\npath = /srv/data\nguest ok = on\nvalid users = anne\n[team]\npath = /srv/team\nguest ok = yes\nhosts allow = 10.\n",
    );
    assert_eq!((Server::read(&text).is_local, Server::read(&text).is_limited), (true, true));
    assert!(shares(&text).iter().all(|share| share.is_for_guests && share.is_limited));
    assert_eq!(shares(&text)[0].name, "data");
    // Of one share, that says nothing of the server.
    assert!(!Server::read(&lines("[global]\n[a]\nhosts allow = 10.\n")).is_limited);
    let at = |interfaces: &str| {
        let text = format!("[global]\nbind interfaces only = yes\ninterfaces = {interfaces}\n");
        crate::services::found::bound(Server::read(&lines(&text)).addresses.iter().map(String::as_str))
            .map(|(_, addresses)| addresses)
    };
    assert_eq!(at("lo 192.0.2.10/24").as_deref(), Some("192.0.2.10"));
    assert_eq!(at("lo lan0 192.0.2.10/24").as_deref(), Some("lan0 192.0.2.10"), "SetUp knows which one lan0 is");
    assert_eq!((at("192.0.2.0/24"), at("eth*")), (None, None), "which addresses those are is each server's");
}

#[test]
fn testparm_s_word_comes_before_the_file_and_a_client_alone_is_no_server() {
    let server = crate::here::testing::Server::with(&[("etc/samba/smb.conf", "[a]\npath = /srv/a\n")]);
    server.program("usr/bin/testparm", "printf '[global]\\n\\tsmb ports = 4445\\n[b]\\n\\tpath = /srv/b\\n'");
    let found = || find(&server.tree().running()).unwrap().instances;
    assert!(found().is_empty());
    server.program("usr/sbin/smbd", "");
    assert_eq!((found()[0].name.as_str(), found()[0].options["port"].as_str()), ("b", "4445"));
}

#[test]
fn debian_s_own_setting_names_another_configuration() {
    let server = crate::here::testing::Server::with(&[
        ("etc/samba/smb.conf", "[old]\npath = /srv/old\n"),
        ("srv/alt.conf", "[global]\nsmb ports = 1445\n[new]\npath = /srv/new\n"),
        ("etc/default/samba", "SMBDOPTIONS=\"-s /srv/alt.conf\"\n"),
    ]);
    let found = find(&server.tree()).unwrap();
    assert_eq!((found.instances[0].name.as_str(), found.instances[0].options["port"].as_str()), ("new", "1445"));
    assert!(found.paths.contains(&"/srv/alt.conf".to_owned()), "{:?}", found.paths);
}

#[test]
fn a_file_that_includes_itself_is_told_and_one_for_each_client_is_not_read() {
    let tmp = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tmp.path().join("etc/samba")).unwrap();
    let write = |text: &str| std::fs::write(tmp.path().join("etc/samba/smb.conf"), text).unwrap();
    write("[global]\ninclude = /etc/samba/smb.conf\n");
    let tree = Tree::open(tmp.path()).unwrap();
    assert!(find(&tree).unwrap_err().to_string().contains("8 deep"));
    write("[global]\ninclude = /etc/samba/%m.conf\n");
    assert_eq!(find(&tree).unwrap().instances[0].name, "smbd");
}
