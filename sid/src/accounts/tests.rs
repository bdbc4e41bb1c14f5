use super::*;
use proptest::prelude::*;

fn files(entries: &[(Which, &str)]) -> Files {
    entries.iter().map(|(which, text)| (*which, text.as_bytes().to_vec())).collect()
}

fn text(merged: &Merged, which: Which) -> String {
    String::from_utf8(merged.files[&which].clone()).unwrap()
}

const ROOT: &str = "root:x:0:0:root:/root:/bin/bash\n";

fn pri() -> Files {
    let passwd = format!(
        "{ROOT}www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nbind:x:105:113::/var/cache/bind:/bin/false\nann:x:1000:1000:Ann:/home/ann:/bin/zsh\n"
    );
    files(&[
        (Which::Passwd, &passwd),
        (Which::Group, "root:x:0:\nwww-data:x:33:\nssl-cert:x:110:bind\nbind:x:113:\nann:x:1000:\nstaff:x:50:ann\n"),
        (
            Which::Shadow,
            "root:$y$pri:19000:0:99999:7:::\nwww-data:*:1:0:99999:7:::\nbind:!:1::::::\nann:$y$ann:1:0:99999:7:::\n",
        ),
        (Which::Gshadow, "root:*::\nwww-data:!::\nssl-cert:!::bind\nbind:!::\nann:!::\nstaff:!::ann\n"),
    ])
}

fn here() -> Files {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\ntss:x:104:112::/var/lib/tpm:/bin/false\nann:x:1007:1007:Old:/home/old:/bin/sh\neve:x:1009:1009::/home/eve:/bin/sh\n";
    files(&[
        (Which::Passwd, passwd),
        (
            Which::Group,
            "root:x:0:\nwww-data:x:33:eve\nssl-cert:x:109:tss\nstaff:x:50:eve\nlocal:x:111:eve,tss\nann:x:1007:\neve:x:1009:\n",
        ),
        (
            Which::Shadow,
            "root:$y$here:18000:0:99999:7:::\nwww-data:*:1:0:99999:7:::\ntss:!:1::::::\nann:$y$old:1:0:99999:7:::\neve:$y$eve:1::::::\n",
        ),
        (Which::Gshadow, "root:*::\nwww-data:!::eve\nssl-cert:!::tss\nstaff:!::eve\nlocal:!::eve,tss\n"),
    ])
}

#[test]
fn people_come_as_on_pri_and_the_systems_accounts_keep_their_numbers() {
    let merged = merge(&pri(), &here()).unwrap();
    assert_eq!(
        text(&merged, Which::Passwd),
        "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\ntss:x:104:112::/var/lib/tpm:/bin/false\n\
         bind:x:105:113::/var/cache/bind:/bin/false\nann:x:1000:1000:Ann:/home/ann:/bin/zsh\n"
    );
    assert_eq!(
        text(&merged, Which::Group),
        "root:x:0:\nwww-data:x:33:\nssl-cert:x:109:bind,tss\nstaff:x:50:ann\nlocal:x:111:tss\nbind:x:113:\nann:x:1000:\n"
    );
    let told = merged.warnings.join("\n");
    assert!(told.contains("account ann had the number 1007 here and has PRI's now, 1000"), "{told}");
    assert!(told.contains("find / /home /var /srv /opt -xdev -gid 1007 -exec chgrp -h ann {} +"), "{told}");
    assert_eq!(merged.problems, Vec::<String>::new());
    let told = merged.warnings.join("\n");
    assert!(told.contains("group ssl-cert has the number 110 on PRI and 109 here"), "{told}");
    assert!(told.contains("account eve was removed") && told.contains("group eve was removed"), "{told}");
}

#[test]
fn of_who_swapped_numbers_all_is_found_before_it_is_given() {
    let people = |ann: u32, bob: u32| {
        let passwd = format!("{ROOT}ann:x:{ann}:100::/home/ann:/bin/sh\nbob:x:{bob}:100::/home/bob:/bin/sh\n");
        files(&[(Which::Passwd, &passwd), (Which::Group, "root:x:0:\nusers:x:100:\n")])
    };
    let merged = merge(&people(1000, 1001), &people(1001, 1000)).unwrap();
    let commands: Vec<&String> = merged.warnings.iter().filter(|told| told.contains("find /")).collect();
    let find = |was: u32| format!("find / /home /var /srv /opt -xdev -uid {was} -print0 > /root/of-{was}");
    let give = |was: u32, name: &str| format!("xargs -0r chown -h {name} < /root/of-{was}");
    let all = format!("in this order: {}; {}; {}; {}", find(1001), find(1000), give(1001, "ann"), give(1000, "bob"));
    assert!(commands.len() == 1 && commands[0].ends_with(&all), "{commands:?}");
    assert_eq!(merge(&people(1000, 1001), &merged.files).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn passwords_follow_the_accounts() {
    let merged = merge(&pri(), &here()).unwrap();
    let shadow = text(&merged, Which::Shadow);
    let names: Vec<&str> = shadow.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, ["root", "www-data", "tss", "bind", "ann"]);
    assert!(shadow.contains("root:$y$pri:") && shadow.contains("ann:$y$ann:") && !shadow.contains("eve"), "{shadow}");
    assert!(text(&merged, Which::Gshadow).contains("ssl-cert:!::bind,tss\n"));
}

#[test]
fn a_package_s_number_that_is_another_s_here_becomes_one_that_is_free_on_both() {
    let mut here = here();
    here.insert(Which::Passwd, format!("{ROOT}tss:x:105:112::/:/bin/false\nnew:x:999:999::/:/bin/false\n").into());
    here.insert(Which::Group, b"root:x:0:\ntss:x:112:\nother:x:113:\nnew:x:999:\n".to_vec());
    let mut pri = pri();
    pri.get_mut(&Which::Group).unwrap().extend(b"late:x:998:\n");
    let merged = merge(&pri, &here).unwrap();
    assert!(text(&merged, Which::Passwd).contains("bind:x:998:997::/var/cache/bind:/bin/false\n"));
    assert!(text(&merged, Which::Group).contains("bind:x:997:\n") && merged.problems.is_empty());
    assert!(text(&merged, Which::Shadow).contains("bind:!:"));
    let told = merged.warnings.join("\n");
    assert!(told.contains("account bind has the number 105 on PRI and 998 here"), "{told}");
    let again = merge(&pri, &merged.files).unwrap();
    assert_eq!(again.files, merged.files, "it has another number each time");
}

#[test]
fn a_number_that_means_the_same_on_every_debian_is_never_another_one() {
    let mut here = here();
    here.insert(Which::Passwd, format!("{ROOT}mine:x:33:33::/:/bin/false\n").into());
    let merged = merge(&pri(), &here).unwrap();
    assert!(!text(&merged, Which::Passwd).contains("www-data"));
    let told = merged.problems.join("\n");
    assert!(told.contains("account www-data was not added: its number 33 is another's here"), "{told}");
    assert!(!text(&merged, Which::Shadow).contains("www-data"));
}

#[test]
fn a_second_name_of_an_account_gets_the_number_that_the_first_has_here() {
    let shared = "www-data:x:33:33::/:/bin/sh\nsiteone:x:33:33::/srv/one:/bin/sh\nvmail:x:115:115::/srv/vmail:/bin/sh\nvmadmin:x:115:115::/srv/vmail:/bin/sh\n\
        one:x:120:115::/:/bin/sh\ntwo:x:120:115::/:/bin/sh\n";
    let group = "root:x:0:\nwww-data:x:33:\nvmail:x:115:\nvpost:x:115:\n";
    let pri = files(&[(Which::Passwd, &format!("{ROOT}{shared}")), (Which::Group, group)]);
    let own = "vmail:x:117:117::/srv/vmail:/bin/sh\nwww-data:x:33:33::/:/bin/sh\ntss:x:120:112::/:/bin/sh\n";
    let group = "root:x:0:\nwww-data:x:33:\nvmail:x:117:\n";
    let here = files(&[(Which::Passwd, &format!("{ROOT}{own}")), (Which::Group, group)]);
    let merged = merge(&pri, &here).unwrap();
    let added = "siteone:x:33:33::/srv/one:/bin/sh\nvmadmin:x:117:117::/srv/vmail:/bin/sh\none:x:999:117::/:/bin/sh\ntwo:x:999:117::/:/bin/sh\n";
    assert_eq!(text(&merged, Which::Passwd), format!("{ROOT}{own}{added}"));
    assert_eq!(text(&merged, Which::Group), format!("{group}vpost:x:117:\n"));
    assert_eq!(merged.problems, Vec::<String>::new());
    assert_eq!(merge(&pri, &merged.files).unwrap().files, merged.files, "it has another number each time");
}

#[test]
fn another_name_of_root_comes_and_merges_again_without_a_change() {
    let mut pri = pri();
    pri.insert(Which::Passwd, format!("{ROOT}toor:x:0:0::/root:/bin/sh\n").into());
    let merged = merge(&pri, &here()).unwrap();
    assert!(text(&merged, Which::Passwd).contains("\ntoor:x:0:0::/root:/bin/sh\n"));
    assert_eq!(merged.problems, Vec::<String>::new());
    let again: Files = here().into_iter().chain(merged.files.clone()).collect();
    assert_eq!(merge(&pri, &again).unwrap().files, merged.files);
}

#[test]
fn a_person_never_gets_into_an_account_of_the_system_by_its_name() {
    let mut pri = pri();
    pri.insert(Which::Passwd, format!("{ROOT}tss:x:1004:1004:Tess:/home/tss:/bin/bash\n").into());
    pri.insert(Which::Shadow, b"root:*:1::::::\ntss:$y$tess:1::::::\n".to_vec());
    let merged = merge(&pri, &here()).unwrap();
    assert!(text(&merged, Which::Passwd).contains("tss:x:104:112::/var/lib/tpm:/bin/false\n"));
    assert!(text(&merged, Which::Shadow).contains("tss:!:1"));
    assert!(merged.problems[0].contains("tss is one of people on PRI"), "{:?}", merged.problems);
}

#[test]
fn a_malformed_file_merges_with_nothing() {
    for (which, content) in [
        (Which::Passwd, ""),
        (Which::Passwd, "ann:x:1000:1000::/:/bin/sh\n"),
        (Which::Passwd, "root:x:0:0:root:/root\n"),
        (Which::Passwd, "root:x:0:0:root:/root:/bin/sh\nroot:x:0:0:root:/root:/bin/sh\n"),
        (Which::Passwd, "root:x:0:0:root:/root:/bin/sh\nann:x::1000::/:/bin/sh\n"),
        (Which::Passwd, "root:x:0:0:root:/root:/bin/sh\nann:x:4294967295:1000::/:/bin/sh\n"),
        (Which::Passwd, "root:x:0:0:root:/root:/bin/sh\nann:x:01000:1000::/:/bin/sh\n"),
        (Which::Passwd, "root:x:1:0:root:/root:/bin/sh\n"),
        (Which::Group, "root:x:0\n"),
        (Which::Shadow, "root:*:1\n"),
    ] {
        let mut bad = pri();
        bad.insert(which, content.into());
        assert_eq!(merge(&bad, &here()).unwrap_err().whose, "PRI's", "{content:?}");
        let mut bad = here();
        bad.insert(which, content.into());
        assert_eq!(merge(&pri(), &bad).unwrap_err().whose, "this server's", "{content:?}");
    }
}

#[test]
fn lines_for_a_directory_service_stand_at_the_end_as_on_pri() {
    let (mut pri, mut here) = (pri(), here());
    pri.get_mut(&Which::Passwd).unwrap().extend_from_slice(b"+@staff::::::\n-guest\n");
    here.get_mut(&Which::Passwd).unwrap().extend_from_slice(b"+::::::\n");
    here.get_mut(&Which::Group).unwrap().extend_from_slice(b"+:::\n");
    let merged = merge(&pri, &here).unwrap();
    assert!(text(&merged, Which::Passwd).ends_with("\n+@staff::::::\n-guest\n"));
    assert!(!text(&merged, Which::Passwd).contains("+::::::") && !text(&merged, Which::Group).contains('+'));
    let again: Files = here.into_iter().chain(merged.files.clone()).collect();
    assert_eq!(merge(&pri, &again).unwrap().files, merged.files);
}

#[test]
fn a_file_that_is_not_synchronised_is_not_made() {
    let only = files(&[(Which::Passwd, ROOT)]);
    assert_eq!(merge(&only, &here()).unwrap().files.keys().collect::<Vec<_>>(), [&Which::Passwd]);
    assert_eq!(merge(&Files::new(), &here()).unwrap(), Merged::default());
}

#[test]
fn owners_are_the_first_names_of_their_numbers() {
    let owners = owners(b"root:x:0:0:::\ntoor:x:0:0:::\nbroken\n#c:x:4:\nann:x:1000:1000:::\n", b"root:x:0:\n");
    assert_eq!(
        owners.users.into_iter().map(|(n, name)| format!("{n}{name}")).collect::<Vec<_>>(),
        ["0root", "1000ann"]
    );
}

/// Servers with some of a few names, numbers and memberships, so that everything that can meet does.
fn server() -> impl Strategy<Value = Files> {
    let number = prop_oneof![1..6u32, 1000..1004u32, Just(65_534), Just(70_000)];
    let account = ("[a-e]", number.clone(), number.clone(), "[xyz]");
    let group = ("[a-e]", number, "([a-e](,[a-e])?)?");
    (prop::collection::vec(account, 0..6), prop::collection::vec(group, 0..6)).prop_map(|(accounts, groups)| {
        let (mut passwd, mut shadow) = (ROOT.to_owned(), "root:r:1::::::\n".to_owned());
        let (mut group, mut gshadow) = ("root:x:0:\n".to_owned(), "root:*::\n".to_owned());
        let mut seen = BTreeSet::new();
        for (name, uid, gid, shell) in accounts.iter().filter(|(name, ..)| seen.insert(name.clone())) {
            passwd += &format!("{name}:x:{uid}:{gid}::/:{shell}\n");
            shadow += &format!("{name}:{shell}{uid}:1::::::\n");
        }
        seen.clear();
        for (name, gid, members) in groups.iter().filter(|(name, ..)| seen.insert(name.clone())) {
            group += &format!("{name}:x:{gid}:{members}\n");
            gshadow += &format!("{name}:!::{members}\n");
        }
        files(&[(Which::Passwd, &passwd), (Which::Group, &group), (Which::Shadow, &shadow), (Which::Gshadow, &gshadow)])
    })
}

proptest! {
    #[test]
    fn merging_what_was_merged_changes_nothing(pri in server(), here in server()) {
        let once = merge(&pri, &here).unwrap();
        let twice = merge(&pri, &once.files).unwrap();
        prop_assert_eq!(&once.files, &twice.files);
        prop_assert_eq!(once.problems, twice.problems);
        prop_assert!(agree(&pri, &twice.files));
    }

    #[test]
    fn numbers_and_people_are_where_they_belong(pri in server(), here in server()) {
        let merged = merge(&pri, &here).unwrap();
        let (theirs, own) = (Side::read("PRI's", &pri).unwrap(), Side::read("this server's", &here).unwrap());
        let result = Side::read("the merged", &merged.files).unwrap();
        for which in [Which::Passwd, Which::Group] {
            for line in own.lines(which).iter().filter(|line| !is_person(line.number())) {
                prop_assert_eq!(result.find(which, line.name()).unwrap().number(), line.number(), "kept");
            }
            for line in result.lines(which) {
                let (of_pri, of_here) = (theirs.find(which, line.name()), own.find(which, line.name()));
                let from = if of_here.is_some_and(|own| own.number() == line.number() && !is_person(own.number())) { of_here } else { of_pri };
                let is_twin = |own: &&Line| {
                    theirs.find(which, own.name()).is_some_and(|twin| of_pri.is_some_and(|of_pri| twin.number() == of_pri.number()))
                };
                let has_a_twin_s = own.lines(which).iter().filter(is_twin).any(|twin| twin.number() == line.number());
                prop_assert!(has_a_twin_s || from.unwrap().number() == line.number(), "no number is invented: {line:?}");
                prop_assert!(line.number() != 0 || line.name() == "root");
            }
            for line in theirs.lines(which).iter().filter(|line| is_person(line.number())) {
                let there = result.find(which, line.name());
                let told = merged.problems.iter().any(|told| told.contains(&format!("{} {} ", which.noun(), line.name())));
                prop_assert!(there.is_some_and(|there| there.number() == line.number()) || told);
            }
        }
        for (secret, of) in [(Which::Shadow, Which::Passwd), (Which::Gshadow, Which::Group)] {
            for line in result.lines(secret) {
                prop_assert!(result.find(of, line.name()).is_some(), "no password without an account");
            }
        }
    }

    #[test]
    fn a_server_agrees_with_itself(one in server()) {
        let merged = merge(&one, &one).unwrap();
        prop_assert_eq!(merged.problems, Vec::<String>::new());
        prop_assert_eq!(merged.warnings, Vec::<String>::new());
    }
}
