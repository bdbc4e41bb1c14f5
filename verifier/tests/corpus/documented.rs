//! Configurations that others wrote: what each package installs, and the examples in its documentation, as they lie in a root file system.

use super::{case::Case, daemons};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every package's own configuration, as it is installed.
pub fn defaults(is_other: bool) -> Vec<Case> {
    let of = |daemon: &'static daemons::Daemon| Case::parse(&format!("{}/as-installed", daemon.name), daemon, "");
    daemons::ALL.iter().filter(|daemon| daemon.is_other == is_other).map(of).collect()
}

/// Where whole files lie, and what they are put in the place of.
struct Whole {
    daemon: &'static str,
    /// Below the root; the last name may have stars.
    from: &'static str,
    to: &'static str,
    setup: &'static str,
}

/// Where pages lie, of which the parts that look like configuration are taken.
struct Pages {
    daemon: &'static str,
    from: &'static str,
    to: &'static str,
    /// What one of these words is in.
    words: &'static [&'static str],
    before: &'static str,
    setup: &'static str,
}

const APACHE_MODULES: &str = "a2dissite -q 000-default >/dev/null; a2enmod -q ssl rewrite proxy proxy_http proxy_balancer lbmethod_byrequests headers macro vhost_alias expires include cgi dav dav_fs auth_digest authz_host authn_socache cache socache_shmcb deflate ext_filter session session_cookie remoteip userdir info status substitute speling >/dev/null";

const WHOLE: &[Whole] = &[
    Whole {
        daemon: "apache",
        from: "etc/apache2/sites-available/default-ssl.conf",
        to: "/etc/apache2/sites-enabled/default-ssl.conf",
        setup: "a2enmod -q ssl",
    },
    Whole {
        daemon: "apache",
        from: "usr/share/doc/apache2/examples/apache2/extra/*",
        to: "/etc/apache2/sites-enabled/example.conf",
        setup: APACHE_MODULES,
    },
    Whole {
        daemon: "apache",
        from: "usr/share/doc/apache2/examples/apache2/*.conf*",
        to: "/etc/apache2/sites-enabled/example.conf",
        setup: APACHE_MODULES,
    },
    Whole { daemon: "unbound", from: "usr/share/doc/unbound/examples/*", to: "/etc/unbound/unbound.conf", setup: "" },
    Whole { daemon: "dnsmasq", from: "usr/share/doc/dnsmasq-base/examples/*", to: "/etc/dnsmasq.conf", setup: "" },
    Whole { daemon: "chrony", from: "usr/share/doc/chrony/examples/*", to: "/etc/chrony/chrony.conf", setup: "" },
    Whole { daemon: "samba", from: "usr/share/doc/samba/examples/*", to: "/etc/samba/smb.conf", setup: "" },
    Whole { daemon: "samba", from: "usr/share/samba/smb.conf*", to: "/etc/samba/smb.conf", setup: "" },
    Whole {
        daemon: "postfix",
        from: "usr/share/postfix/main.cf*",
        to: "/etc/postfix/main.cf",
        // The package's postinst says it, and without it smtpd ends as soon as somebody comes.
        setup: "grep -q '^compatibility_level' /etc/postfix/main.cf || echo 'compatibility_level = 2' >>/etc/postfix/main.cf",
    },
    Whole { daemon: "postfix", from: "usr/share/postfix/master.cf*", to: "/etc/postfix/master.cf", setup: "" },
    Whole {
        daemon: "mariadb",
        from: "usr/share/mysql/*.cnf",
        to: "/etc/mysql/mariadb.conf.d/99-example.cnf",
        setup: "",
    },
    Whole {
        daemon: "postgresql",
        from: "usr/share/postgresql/*/postgresql.conf.sample",
        to: "/etc/postgresql/sample",
        setup: "v=$(ls /usr/lib/postgresql)\nsed \"s,^#data_directory = .*,data_directory = '/var/lib/postgresql/$v/main',\" /etc/postgresql/sample >/etc/postgresql/$v/main/postgresql.conf; rm /etc/postgresql/sample",
    },
    Whole { daemon: "ssh", from: "usr/share/openssh/sshd_config*", to: "/etc/ssh/sshd_config", setup: "" },
    Whole {
        daemon: "exim",
        from: "usr/share/doc/exim4-base/examples/example.conf*",
        to: "/etc/exim4/exim4.conf",
        setup: "",
    },
    Whole { daemon: "ntpsec", from: "usr/share/doc/ntpsec/examples/*", to: "/etc/ntpsec/ntp.conf", setup: "" },
    Whole {
        daemon: "dovecot",
        from: "usr/share/doc/dovecot-core/example-config/*.conf",
        to: "/etc/dovecot/dovecot.conf",
        setup: "",
    },
    Whole {
        daemon: "dovecot",
        from: "usr/share/doc/dovecot-core/example-config/conf.d/*",
        to: "/etc/dovecot/conf.d/99-example.conf",
        setup: "",
    },
];

const PAGES: &[Pages] = &[
    Pages {
        daemon: "apache",
        from: "usr/share/doc/apache2-doc/manual/en",
        to: "/etc/apache2/sites-enabled/example.conf",
        words: &["<VirtualHost", "Listen ", "DocumentRoot "],
        before: "",
        setup: APACHE_MODULES,
    },
    Pages {
        daemon: "bind",
        from: "usr/share/doc/bind9-doc/arm",
        to: "/etc/bind/named.conf",
        words: &["options {", "zone \"", "zone "],
        before: "",
        setup: "",
    },
    Pages {
        daemon: "postfix",
        from: "usr/share/doc/postfix-doc/html",
        to: "/etc/postfix/main.cf",
        words: &["/etc/postfix/main.cf:"],
        before: "compatibility_level = 2\n",
        setup: "",
    },
];

/// The examples of a release's packages.
pub fn examples(root: &Path, is_other: bool) -> Vec<Case> {
    let mut all = vec![];
    for whole in WHOLE.iter().filter(|one| daemons::of(one.daemon).is_other == is_other) {
        for path in matching(root, whole.from) {
            let Some(text) = text_of(&path) else { continue };
            let name = format!("{}/{}", whole.daemon, path.strip_prefix(root).unwrap().display());
            all.push(excerpt(whole.daemon, &name, whole.to, text, whole.setup));
        }
    }
    for pages in PAGES.iter().filter(|one| daemons::of(one.daemon).is_other == is_other) {
        let mut files = vec![];
        below(&root.join(pages.from), &mut files);
        for path in files {
            for (number, text) in blocks(&text_of(&path).unwrap_or_default()).into_iter().enumerate() {
                if !pages.words.iter().any(|word| text.contains(word)) {
                    continue;
                }
                let text = of_one_file(&text);
                let name = format!("{}/{} {number}", pages.daemon, path.strip_prefix(root).unwrap().display());
                all.push(excerpt(pages.daemon, &name, pages.to, format!("{}{text}", pages.before), pages.setup));
            }
        }
    }
    // The same example stands in several pages.
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|case| seen.insert((case.daemon.name, case.files.clone())));
    all
}

fn excerpt(daemon: &str, name: &str, to: &str, text: String, setup: &str) -> Case {
    let mut case = Case::parse(name, daemons::of(daemon), "");
    case.files = vec![(to.to_owned(), text)];
    case.setup = setup.to_owned();
    case.is_excerpt = true;
    case
}

fn matching(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let script = format!("cd \"$0\" && for one in {pattern}; do [ -f \"$one\" ] && echo \"$one\"; done; true");
    let output = Command::new("sh").arg("-c").arg(script).arg(root).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(|line| root.join(line)).collect()
}

fn below(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true => below(&path, files),
            false if path.to_string_lossy().contains(".html") => files.push(path),
            false => (),
        }
    }
}

/// What is in a file, unpacked where it is packed.
fn text_of(path: &Path) -> Option<String> {
    let bytes = match path.extension().is_some_and(|end| end == "gz") {
        true => Command::new("zcat").arg(path).output().ok()?.stdout,
        false => fs::read(path).ok()?,
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What stands in `<pre>` in a page, as text.
fn blocks(page: &str) -> Vec<String> {
    let pieces = page.split("<pre").skip(1).filter_map(|rest| rest.split_once('>')?.1.split("</pre>").next());
    pieces.map(plain).collect()
}

/// Without tags, and with characters for their names.
fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html.replace("<br />", "\n");
    while let Some((before, after)) = rest.clone().split_once('<') {
        text.push_str(before);
        rest = after.split_once('>').map_or(String::new(), |(_, after)| after.to_owned());
    }
    text.push_str(&rest);
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&")]
        .iter()
        .fold(text, |text, (name, sign)| text.replace(name, sign))
}

/// Of an example that names the files whose parts it shows, with those indented, the part of the first.
fn of_one_file(text: &str) -> String {
    let Some((_, part)) = text.split_once("/etc/postfix/main.cf:\n") else { return text.to_owned() };
    let lines: Vec<&str> =
        part.lines().take_while(|line| line.is_empty() || line.starts_with([' ', '\t', '#'])).collect();
    let indent =
        lines.iter().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len()).min();
    lines.iter().map(|line| line.get(indent.unwrap_or(0)..).unwrap_or_default().to_owned() + "\n").collect()
}
