use super::super::{Content, Refusal};
use super::*;
use crate::here::testing::Server;

fn read(files: &[(&str, &str)]) -> anyhow::Result<Option<Sites>> {
    sites(&Server::with(files).tree(), "/etc/apache2", &mut Finding::default())
}

const MAIN: &str = "IncludeOptional mods-enabled/*.load\nInclude ports.conf\nIncludeOptional sites-enabled/*.conf\n\
    <FilesMatch \"^\\.ht\">\n  Require all denied\n</FilesMatch>\n<Directory />\n  Require all denied\n</Directory>\n<Directory /srv>\n  Require all granted\n</Directory>\n";
const PORTS: &str =
    "Listen 80\n<IfModule ssl_module>\n  Listen 443\n</IfModule>\n<IfModule mod_gnutls.c>\n  Listen 444\n</IfModule>\n";

#[test]
fn virtual_hosts_are_found_with_what_they_serve_and_what_they_keep_closed() {
    let sites = read(&[
        ("etc/apache2/apache2.conf", MAIN),
        ("etc/apache2/ports.conf", PORTS),
        ("etc/apache2/mods-enabled/ssl.load", "LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so\n"),
        (
            "etc/apache2/sites-enabled/a.conf",
            "Define top /srv/shop\n<VirtualHost *:80>\n  ServerName shop.example:80\n  DocumentRoot ${top}\n\
            <Directory /srv/shop/staff>\n AuthType Basic\n Require valid-user\n </Directory>\n</VirtualHost>\n\
            <VirtualHost *:443>\n  DocumentRoot \"/srv/the shop\"\n SSLEngine on\n SSLCertificateFile /etc/ssl/shop.pem\n\
            <Location /admin>\n <RequireAll>\n Require user \\\n anne\n </RequireAll>\n </Location>\n</VirtualHost>\n\
            <VirtualHost *:80>\n  ServerName ol\\\nd.example\n DocumentRoot /srv/old\n Redirect permanent / https://shop.example/\n</VirtualHost>\n",
        ),
    ]);
    let sites = sites.unwrap().unwrap();
    let [plain, tls, old] = &sites.sites[..] else { panic!("{sites:?}") };
    assert_eq!((plain.port, plain.tls, plain.name.as_deref()), (80, false, Some("shop.example")));
    assert_eq!(plain.content, Content::Files("/srv/shop".into()));
    assert_eq!(plain.restricted, ["/staff/"]);
    assert_eq!((tls.port, tls.tls, &tls.content), (443, true, &Content::Files("/srv/the shop".into())));
    assert_eq!(tls.restricted, ["/admin"]);
    assert_eq!((old.name.as_deref(), &old.content), (Some("old.example"), &Content::Any));
    let included = ["mods-enabled/ssl.load", "ports.conf", "sites-enabled/a.conf"];
    assert_eq!(sites.files, included.map(|file| format!("/etc/apache2/{file}")));
}

#[test]
fn filters_turn_away_whom_their_rules_do_not_like() {
    for (text, codes) in [
        (
            "SecRuleEngine On\nSecRule ARGS x \"id:1,phase:1,deny,status:406\"\nSecRule ARGS y \"id:2,drop\"\n",
            &[403, 406][..],
        ),
        ("SecRuleEngine DetectionOnly\nSecRule ARGS x \"id:1,deny,status:406\"\n", &[]),
        ("SecRuleEngine On\nSecRule ARGS x \"id:1,pass,log\"\n", &[]),
        ("DOSPageCount 2\nDOSSiteCount 50\n", &[403]),
        ("DOSPageCount 2\nDOSHTTPStatus 429\n", &[429]),
        ("", &[]),
    ] {
        let text = format!("Listen 80\n{text}<VirtualHost *:80>\n DocumentRoot /srv/a\n</VirtualHost>\n");
        let sites = read(&[("etc/apache2/apache2.conf", &text)]).unwrap().unwrap();
        assert_eq!(sites.sites[0].filter, codes, "{text}");
    }
}

fn all(text: &str) -> Vec<(String, Content, Vec<String>)> {
    let sites = read(&[("etc/apache2/apache2.conf", text)]).unwrap().unwrap().sites;
    let name = |site: &Site| format!("{}:{}", site.name.as_deref().unwrap_or("*"), site.port);
    sites.into_iter().map(|site| (name(&site), site.content, site.restricted)).collect()
}

#[test]
fn pages_that_not_everybody_gets_are_not_asked_for() {
    let host = |more: &str| {
        let text = format!(
            "Listen 80\n<FilesMatch \"^\\.ht\">\n Require all denied\n</FilesMatch>\n<Directory />\n Require all denied\n</Directory>\n\
            <Directory /srv>\n Require all granted\n</Directory>\n<VirtualHost *:80>\n ServerName a.example\n DocumentRoot /srv/a\n{more}\n</VirtualHost>\n"
        );
        all(&text).remove(0)
    };
    let open = host("<Directory /srv/a/staff>\n Require ip 10.0.0.0/8\n</Directory>\nAlias /icons /usr/share/icons\n");
    assert_eq!((open.1, open.2), (Content::Files("/srv/a".into()), Vec::<String>::new()));
    for limit in [
        "<Location />\n Require ip 10.0.0.0/8\n</Location>",
        "<Directory /srv/a/>\n Require host a.example\n</Directory>",
        "<Directory /srv/a>\n Order deny,allow\n Deny from all\n Allow from 10.0.0.0/8\n</Directory>",
        "SSLVerifyClient require",
        "Alias / /srv/other/",
        "<Location />\n ProxyPass http://127.0.0.1:8080/\n</Location>",
        "<If \"%{HTTPS} != 'on'\">\n Redirect permanent https://a.example/\n</If>",
    ] {
        assert_eq!(host(limit).1, Content::Any, "{limit}");
    }
    let sent = host("Redirect permanent / https://a.example/");
    assert_eq!((sent.1, sent.2), (Content::Any, vec![]), "it is sent elsewhere before anybody looks who may read");
}

#[test]
fn macros_and_conditions_are_followed_and_each_host_is_met_once() {
    let text = "Listen 80\n<Macro Host $name $name2>\n<VirtualHost *:80>\nServerName $name\nDocumentRoot /srv/$name2\n</VirtualHost>\n</Macro>\n\
        Use Host a.example one\nUse host http://b.example:80 two\nUndefMacro Host\n\
        <IfFile /etc/gone>\nListen 81\n</IfFile>\n<VirtualHost *:80>\nDocumentRoot /srv/never\n</VirtualHost>\n\
        <VirtualHost *:80>\nServerName A.example\nServerName a.example\n</VirtualHost>\n";
    let sites = all(text);
    let shown: Vec<(&str, &Content)> = sites.iter().map(|(name, content, _)| (name.as_str(), content)).collect();
    let files = ["/srv/one", "/srv/two"].map(|root| Content::Files(root.into()));
    assert_eq!(shown[..2], [("a.example:80", &files[0]), ("b.example:80", &files[1])]);
    assert!(!shown.iter().any(|(name, _)| *name == "*:80" || name.ends_with(":81")), "{shown:?}");
}

#[test]
fn a_port_of_no_virtual_host_is_the_server_s_and_who_shows_no_certificate_is_refused() {
    let sites = read(&[(
        "etc/apache2/apache2.conf",
        "Listen 80\nListen 443\n<VirtualHost *:443>\nServerName a.example\nSSLEngine on\nSSLVerifyClient require\n</VirtualHost>\n\
         <VirtualHost *:444>\n</VirtualHost>\n",
    )]);
    let sites = sites.unwrap().unwrap().sites;
    let shown: Vec<_> = sites.iter().map(|site| (site.port, site.name.as_deref(), site.refusal)).collect();
    assert_eq!(shown, [(443, Some("a.example"), Some(Refusal::Handshake)), (80, None, None)]);
}

#[test]
fn a_directive_is_there_with_its_module() {
    let ports = |module: &str| {
        let main = format!(
            "{module}\n<IfDirective SSLEngine>\nListen 443\n</IfDirective>\n<IfDirective !SSLEngine>\nListen 80\n</IfDirective>\n"
        );
        let sites = read(&[("etc/apache2/apache2.conf", &main)]).unwrap().unwrap().sites;
        sites.iter().map(|site| site.port).collect::<Vec<_>>()
    };
    assert_eq!(ports(""), [80]);
    assert_eq!(ports("LoadModule ssl_module x.so"), [443]);
}

#[test]
fn a_directory_is_included_with_all_that_is_in_it() {
    let sites = read(&[
        ("etc/apache2/apache2.conf", "Listen 80\nInclude more\n"),
        ("etc/apache2/more/a", "<VirtualHost *:80>\nServerName a.example\n</VirtualHost>\n"),
        ("etc/apache2/more/b/c.conf", "<VirtualHost *:80>\nServerName c.example\n</VirtualHost>\n"),
    ]);
    let names: Vec<_> = sites.unwrap().unwrap().sites.into_iter().map(|site| site.name).collect();
    assert_eq!(names, [Some("a.example".to_owned()), Some("c.example".to_owned())]);
}

#[test]
fn a_file_that_includes_itself_is_told() {
    let error = read(&[("etc/apache2/apache2.conf", "Include apache2.conf\n")]).unwrap_err();
    assert!(error.to_string().contains("16 deep"), "{error}");
    assert!(read(&[]).unwrap().is_none());
    let error = read(&[("etc/apache2/apache2.conf", &"<a>\n".repeat(100))]).unwrap_err();
    assert!(error.to_string().contains("32 deep"), "{error}");
}

#[test]
fn what_is_defined_is_put_in_once_and_makes_no_word_endless() {
    let root = |value: &str, root: &str| {
        let main = format!("Listen 80\nDefine a {value}\nDefine b ${{a}}/b\nDocumentRoot {root}\n");
        read(&[("etc/apache2/apache2.conf", &main)]).unwrap().unwrap().sites.remove(0).content
    };
    assert_eq!(root("/srv", "${b}/c"), Content::Files("/srv/b/c".into()));
    assert_eq!(root("/srv", "/x${c"), Content::Any);
    let long = "/x".repeat(1500);
    assert_eq!(root(&long, &"${a}".repeat(100_000)), Content::Any);
}

#[test]
fn apache_s_own_word_comes_before_its_files_and_both_say_what_travels() {
    let server = Server::with(&[
        ("etc/apache2/apache2.conf", "Listen 9\nIncludeOptional sites/*\nIncludeOptional /srv/*.conf\n"),
        ("etc/apache2/envvars", ""),
        ("etc/apache2/sites/a", "<VirtualHost *:9>\nServerName read.example\n</VirtualHost>\n"),
        ("srv/empty.conf", "# nothing counts here\n"),
        (&INFO[1..], ""),
    ]);
    let says = "printf '# In file: /etc/apache2/apache2.conf\\n#   1:\\nListen 80\\n# In file: macro %s (defined on line 1 of \"/x\")\\n\
        #   4:\\n<VirtualHost *:80>\\n  #   5:\\n  ServerName told.example\\n  #   6:\\n  DocumentRoot \"/srv/a b\"\\n</VirtualHost>\\n' h\n";
    server.program("bin/sh", &format!("[ \"$1 $3\" = '-c apache2' ] && {says}"));
    let found = |tree: Tree, finding: &mut Finding| {
        let sites = sites(&tree, "/etc/apache2", finding).unwrap().unwrap();
        let names: Vec<_> = sites.sites.iter().map(|site| (site.name.clone().unwrap(), site.port)).collect();
        (names, sites.files)
    };
    let (names, files) = found(server.tree().running(), &mut Finding::default());
    assert_eq!(names, [("told.example".to_owned(), 80)]);
    assert_eq!(files, ["/etc/apache2/apache2.conf", "/etc/apache2/sites/a", "/srv/empty.conf"]);
    server.program("bin/sh", "echo 'Syntax error' >&2; exit 1");
    let mut finding = Finding::default();
    assert_eq!(found(server.tree().running(), &mut finding).0, [("read.example".to_owned(), 9)]);
    let notes = finding.done().notes;
    assert!(
        notes.len() == 1 && notes[0].starts_with("apache2 does not tell") && notes[0].contains("Syntax error"),
        "{notes:?}"
    );
}

#[test]
fn a_host_of_the_very_port_or_address_comes_before_one_of_all() {
    let host = |at: &str, name: &str| format!("<VirtualHost {at}>\nServerName {name}.example\n</VirtualHost>\n");
    let met = |listens: &[&str], hosts: &[(&str, &str)]| {
        let listens = listens.iter().map(|at| format!("Listen {at}\n"));
        let text: String = listens.chain(hosts.iter().map(|(at, name)| host(at, name))).collect();
        let sites = read(&[("etc/apache2/apache2.conf", &text)]).unwrap().unwrap();
        let shown = |site: Site| format!("{} {}:{}", site.name.unwrap_or_default(), site.address, site.port);
        let apart: Vec<String> = sites.apart.iter().map(|(at, port)| format!("{at}:{port}")).collect();
        (sites.sites.into_iter().map(shown).collect::<Vec<_>>(), apart.join(" "))
    };
    let (sites, apart) = met(&["80", "81"], &[("*", "any"), ("*:80", "port"), ("_default_:*", "default")]);
    assert_eq!(
        (sites, apart.as_str()),
        (vec!["any.example :81".into(), "port.example :80".into(), "default.example :81".into()], "")
    );
    let (sites, apart) =
        met(&["80", "81"], &[("*:80", "all"), ("192.0.2.7:80 192.0.2.8", "one"), ("192.0.2.7:*", "no")]);
    let expected = [
        "all.example :80",
        "one.example 192.0.2.7:80",
        "one.example 192.0.2.8:80",
        "one.example 192.0.2.8:81",
        "no.example 192.0.2.7:81",
    ];
    assert_eq!(sites, expected);
    assert_eq!(apart, "192.0.2.7:80 192.0.2.8:80 192.0.2.8:81 192.0.2.7:80 192.0.2.7:81");
    let (sites, _) = met(&["192.0.2.7:80", "192.0.2.9:80"], &[("*:80", "all"), ("192.0.2.7:80", "one")]);
    assert_eq!(sites, ["all.example 192.0.2.9:80", "one.example 192.0.2.7:80"]);
}

#[test]
fn what_is_answered_because_it_is_configured_is_known() {
    let answers = |more: &str| {
        let text =
            format!("Listen 443\n<VirtualHost *:443>\nSSLEngine on\nServerName a.example\n{more}\n</VirtualHost>\n");
        let site = read(&[("etc/apache2/apache2.conf", &text)]).unwrap().unwrap().sites.remove(0);
        let answers = site.answers.map(crate::services::web::Status::words).unwrap_or_default();
        [answers, site.masked.join(" "), site.aliases.join(" ")].join("|")
    };
    let closed = "<Location /x>\nRequire all denied\n</Location>\n";
    for (more, expected) in [
        ("Redirect 503 /", "503||"),
        ("Redirect 301 / https://b.example/", "||"),
        ("Redirect 503 /x", "503 perhaps||"),
        ("RewriteRule ^ - [R=503,L]", "503||"),
        ("RewriteCond /srv/off -f\nRewriteRule ^ - [L,R=503]", "503 perhaps||"),
        ("ServerAlias www.a.example *.b.example A.example intra", "||www.a.example"),
        (&format!("{closed}ErrorDocument 403 https://b.example/"), "|/x|"),
        (&format!("{closed}ErrorDocument 403 /in.php"), "|/x|"),
        (&format!("{closed}ErrorDocument 403 \"no\""), "||"),
    ] {
        assert_eq!(answers(more), expected, "{more}");
    }
}

#[test]
fn a_section_in_which_nothing_is_ends_though_apache_does_not_print_that() {
    let server = Server::with(&[("etc/apache2/apache2.conf", ""), (&INFO[1..], "")]);
    let told = "# In file: /etc/apache2/apache2.conf\nListen 80\n#   9:\n<Directory /srv>\n\
        <VirtualHost *:80>\n  ServerName a.example\n  <If \"-R '10.0.0.0/8'\">\n  #  18:\n  <Else >\n    Redirect 403 /\n  </Else>\n  \
        DocumentRoot /srv/a\n  <Location /x>\n</VirtualHost>\n\
        <VirtualHost *:80>\n  ServerName b.example\n  SSLEngine on\n  Redirect 503 /\n</VirtualHost>\n";
    server.write("told", told);
    server.program("bin/sh", &format!("cat {}", server.root().join("told").display()));
    let sites = sites(&server.tree().running(), "/etc/apache2", &mut Finding::default()).unwrap().unwrap().sites;
    let shown = sites.iter().map(|site| (site.name.as_deref().unwrap(), site.tls, site.answers.is_some()));
    assert_eq!(shown.collect::<Vec<_>>(), [("a.example", false, false), ("b.example", true, true)]);
}

/// Apache 2.4 as people set it, with an access file in the document root of `a.example`, and in what lies above it.
fn may_override(more: &str) -> String {
    format!(
        "LoadModule rewrite_module x.so\nLoadModule authz_core_module x.so\nListen 80\n<Directory />\n\
        AllowOverride None\n</Directory>\n\
        <Directory /srv>\nAllowOverride All\nRequire all granted\n</Directory>\n\
        <VirtualHost *:80>\nServerName a.example\nDocumentRoot /srv/a\n{more}\n</VirtualHost>\n"
    )
}

fn with_access_file(more: &str, files: &[(&str, &str)]) -> (Site, Vec<String>) {
    let text = may_override(more);
    let server = Server::with(&[&[("etc/apache2/apache2.conf", text.as_str())], files].concat());
    let mut finding = Finding::default();
    let mut sites = sites(&server.tree(), "/etc/apache2", &mut finding).unwrap().unwrap();
    assert!(!sites.files.iter().any(|file| file.starts_with("/srv")), "client data is not synchronised");
    (sites.sites.remove(0), finding.done().notes)
}

#[test]
fn tls_may_be_said_where_apache_listens_and_a_login_may_lead_elsewhere() {
    let one = |text: &str| {
        let server = Server::with(&[("etc/apache2/apache2.conf", text)]);
        sites(&server.tree(), "/etc/apache2", &mut Finding::default()).unwrap().unwrap().sites.remove(0)
    };
    let host = |port: u16, more: &str| {
        format!("<VirtualHost *:{port}>\nServerName a.example\nDocumentRoot /srv/a\n{more}</VirtualHost>\n")
    };
    let certificate = "SSLCertificateFile /srv/a.pem\n";
    for (text, tls) in [
        (format!("Listen 8200 https\n{}", host(8200, certificate)), true),
        (format!("Listen 443\n{}", host(443, certificate)), true),
        (format!("Listen 443 http\n{}", host(443, certificate)), false),
        (format!("Listen 8200 https\n{}", host(8200, "")), false),
        (format!("Listen 8200 https\n{}", host(8200, &format!("SSLEngine off\n{certificate}"))), false),
        (format!("Listen 8200\n{}", host(8200, certificate)), false),
    ] {
        assert_eq!(one(&text).tls, tls, "{text}");
    }
    let forgotten = |more: &str| {
        let text = format!("Listen 80\n<Directory />\nRequire all denied\n</Directory>\n{more}{}", host(80, ""));
        let server = Server::with(&[("etc/apache2/apache2.conf", &text)]);
        let mut finding = Finding::default();
        sites(&server.tree(), "/etc/apache2", &mut finding).unwrap();
        finding.done().notes.iter().any(|note| note.starts_with("nobody may read the document root /srv/a"))
    };
    assert!(forgotten(""));
    assert!(!forgotten("<Directory /srv>\nRequire all granted\n</Directory>\n"));
    assert!(!forgotten("<Directory /srv/a>\nRequire valid-user\n</Directory>\n"));
    let closed = |more: &str| {
        let site = one(&format!("Listen 80\n{}", host(80, &format!("<Location />\n{more}\n</Location>\n"))));
        (site.restricted.join(" "), site.content == Content::Any)
    };
    assert_eq!(closed("AuthType Basic\nRequire valid-user"), ("/".into(), true));
    assert_eq!(
        closed("AuthType form\nAuthFormLoginRequiredLocation \"/login\"\nRequire valid-user"),
        (String::new(), true)
    );
    assert_eq!(closed("AllowMethods POST OPTIONS"), (String::new(), true));
    assert_eq!(closed("AllowMethods GET POST"), (String::new(), false));
}

#[test]
fn what_an_access_file_says_counts_where_it_may_say_so() {
    let page = Content::Files("/srv/a".into());
    let site = |more: &str, text: &str| with_access_file(more, &[("srv/a/.htaccess", text)]);
    for text in [
        "AuthType Basic\nRequire valid-user\n",
        "<Limit GET POST>\nRequire valid-user\n</Limit>\n",
        "Order deny,allow\nDeny from all\nAllow from 10.0.0.0/8\n",
        "<IfVersion >= 2.4>\nRequire ip 10.0.0.0/8\n</IfVersion>\n",
        "<IfModule mod_authz_core.c>\nRequire ip 10.0.0.0/8\n</IfModule>\n",
        "SSLRequireSSL\n",
        "Redirect 301 / https://new.example/\n",
        "RedirectMatch 301 ^/(.*)\\.html$ /$1\n",
        "RewriteEngine on\nRewriteCond %{THE_REQUEST} \\s/+(.+?)\\.html[\\s?] [NC]\nRewriteRule ^ /%1 [R=301,L]\n",
        "RewriteEngine on\nRewriteCond %{HTTPS} off\nRewriteRule ^(.*)$ https://%{HTTP_HOST}/$1 [R=301,L]\n",
        "RewriteEngine on\nRewriteCond %{REMOTE_ADDR} !^10\\.\nRewriteRule ^ - [F]\n",
        "<FilesMatch \"\\.(html|inc)$\">\nRequire all denied\n</FilesMatch>\n",
        "<Files *.html>\nDeny from all\n</Files>\n",
        "<If \"%{HTTPS} != 'on'\">\nRedirect 301 / https://a.example/\n</If>\n",
        "SetHandler server-status\n",
    ] {
        let (site, notes) = site("", text);
        assert_eq!(site.content, Content::Any, "{text}");
        assert!(notes.len() == 1 && notes[0].contains("document root /srv/a: by its access file"), "{text}: {notes:?}");
        let none = "<Directory /srv/a>\nAllowOverride None\n</Directory>";
        assert_eq!(with_access_file(none, &[("srv/a/.htaccess", text)]).0.content, page, "{text}");
    }
    assert_eq!(site("", "Require valid-user\n").0.restricted, ["/"]);
    assert_eq!(site("", "<Limit GET>\nRequire valid-user\n</Limit>\n").0.restricted, ["/"]);
    let restricted = "<Directory /srv/a>\nRequire all denied\n</Directory>";
    assert_eq!(site(restricted, "").0.restricted, ["/"]);
    assert_eq!(
        (
            site(restricted, "Require all granted\n").0.content,
            site(restricted, "Require all granted\n").0.restricted.len()
        ),
        (page.clone(), 0)
    );
    assert_eq!(site("", "Redirect 503 /\n").0.answers.map(|status| status.words()).as_deref(), Some("503"));
    let named = with_access_file(
        "AccessFileName .acl .htaccess",
        &[("srv/a/.acl", "Require valid-user\n"), ("srv/a/.htaccess", "")],
    );
    assert_eq!(named.0.content, Content::Any);
    assert_eq!(with_access_file("", &[("srv/.htaccess", "Require valid-user\n")]).0.content, Content::Any);
    assert_eq!(with_access_file("", &[(".htaccess", "Require valid-user\n")]).0.content, page);
    let kept = Server::with(&[
        ("etc/apache2/apache2.conf", &*may_override("")),
        ("etc/passwd", "www-data:x:33:33::/var/www:/bin/sh\n"),
        ("srv/a/.htaccess", "Require ip 10.0.0.0/8\n"),
    ]);
    let content =
        || sites(&kept.tree(), "/etc/apache2", &mut Finding::default()).unwrap().unwrap().sites.remove(0).content;
    assert_eq!(content(), Content::Any);
    let file = kept.root().join("srv/a/.htaccess");
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(content(), page, "Apache may not read it, and refuses everybody: the page is asked for");
    let (broken, notes) = site("", &"<a>\n".repeat(100));
    assert!(broken.content == Content::Any && notes[0].contains("32 deep"), "{notes:?}");
}

#[test]
fn a_rule_of_the_host_that_takes_the_test_page_away_is_told() {
    for (more, rule) in [
        ("RewriteRule ^/old/(.*)$ /new/$1 [R=301,L]", "RewriteRule"),
        ("RedirectMatch 301 ^/blog/(.*)$ /news/$1", "RedirectMatch"),
    ] {
        let (site, notes) = with_access_file(more, &[]);
        assert_eq!(site.content, Content::Any, "{more}");
        assert!(notes.len() == 1 && notes[0].contains(&format!("/srv/a: by {rule} in its host")), "{notes:?}");
    }
    let (_, notes) = with_access_file("RewriteRule ^/old /new\nProxyPass / http://127.0.0.1:3000/", &[]);
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn applications_rewrite_only_what_is_no_file() {
    let wordpress = "# BEGIN WordPress\n<IfModule mod_rewrite.c>\nRewriteEngine On\n\
        RewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]\nRewriteBase /\n\
        RewriteRule ^index\\.php$ - [L]\n\
        RewriteCond %{REQUEST_FILENAME} !-f\nRewriteCond %{REQUEST_FILENAME} !-d\nRewriteRule . /index.php [L]\n\
        </IfModule>\n";
    let nextcloud = "<IfModule mod_rewrite.c>\n  RewriteEngine on\n  RewriteCond %{HTTP_USER_AGENT} DavClnt\n\
        RewriteRule ^$ /remote.php/webdav/ [L,R=302]\n\
        RewriteRule .* - [env=HTTP_AUTHORIZATION:%{HTTP:Authorization}]\n\
        RewriteRule ^\\.well-known/carddav /remote.php/dav/ [R=301,L]\n\
        RewriteRule ^remote/(.*) remote.php [QSA,L]\n\
        RewriteRule ^(?:build|tests|config|lib|3rdparty|templates)/.* - [R=404,L]\n\
        RewriteRule ^\\.well-known/(?!acme-challenge|pki-validation) /index.php [QSA,L]\n\
        RewriteRule ^(?:\\.(?!well-known)|autotest|occ|issue|indie|db_|console).* - [R=404,L]\n</IfModule>\n\
        ErrorDocument 403 /index.php/error/403\nAddDefaultCharset utf-8\nOptions -Indexes\n\
        <IfModule mod_rewrite.c>\n  Options -MultiViews\n\
        RewriteRule ^core/js/oc.js$ index.php [PT,E=PATH_INFO:$1]\n\
        RewriteCond %{REQUEST_FILENAME} !\\.(css|js|svg|gif|ico|jpg|png|html|ttf|woff2?)$\n\
        RewriteCond %{REQUEST_FILENAME} !/core/ajax/update\\.php\n\
        RewriteRule . index.php [PT,E=PATH_INFO:$1]\n</IfModule>\n";
    let laravel = "<IfModule mod_rewrite.c>\n<IfModule mod_negotiation.c>\nOptions -MultiViews -Indexes\n\
        </IfModule>\nRewriteEngine On\n\
        RewriteCond %{HTTP:Authorization} .\nRewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]\n\
        RewriteCond %{REQUEST_FILENAME} !-d\nRewriteCond %{REQUEST_URI} (.+)/$\nRewriteRule ^ %1 [L,R=301]\n\
        RewriteCond %{REQUEST_FILENAME} !-d\nRewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule ^ index.php [L]\n\
        </IfModule>\n";
    let drupal = "<FilesMatch \"\\.(engine|inc|install|make|module|sh|.*sql|twig|yml)$|^(\\..*|Entries.*|composer\\.json)$\">\n\
        <IfModule mod_authz_core.c>\nRequire all denied\n</IfModule>\n<IfModule !mod_authz_core.c>\n\
        Order allow,deny\n</IfModule>\n</FilesMatch>\n\
        RewriteEngine on\nRewriteRule ^ - [E=protossl]\nRewriteCond %{HTTPS} on\nRewriteRule ^ - [E=protossl:s]\n\
        RewriteRule \"/\\.|^\\.(?!well-known/)\" - [F]\nRewriteCond %{REQUEST_FILENAME} !-f\n\
        RewriteCond %{REQUEST_FILENAME} !-d\n\
        RewriteCond %{REQUEST_URI} !=/favicon.ico\nRewriteRule ^ index.php [L]\n";
    let symfony = "RewriteEngine On\nRewriteCond %{REQUEST_URI}::$0 ^(/.+)/(.*)::\\2$\nRewriteRule .* - [E=BASE:%1]\n\
        RewriteCond %{ENV:REDIRECT_STATUS} =\"\"\nRewriteRule ^index\\.php(?:/(.*)|$) %{ENV:BASE}/$1 [R=301,L]\n\
        RewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule ^ %{ENV:BASE}/index.php [L]\nSetOutputFilter DEFLATE\n";
    let clean = "RewriteEngine on\nRewriteCond %{REQUEST_FILENAME}.php -f\nRewriteRule ^(.*)$ $1.php [L]\n\
        Redirect 301 /old /new\n\
        RewriteCond %{HTTP_HOST} ^www\\.a\\.example$ [NC,OR]\nRewriteCond %{HTTP_HOST} ^b\\.example$\n\
        RewriteRule ^ https://a.example/ [R]\n\
        <FilesMatch \"^\\.ht\">\nRequire all denied\n</FilesMatch>\n<FilesMatch \\.php$>\n\
        SetHandler proxy:unix:/run/php\n</FilesMatch>\n";
    let off = "RewriteRule ^ /elsewhere [R]\n";
    for text in [wordpress, nextcloud, laravel, drupal, symfony, clean, off] {
        let (site, notes) = with_access_file("", &[("srv/a/.htaccess", text)]);
        assert_eq!(site.content, Content::Files("/srv/a".into()), "{text}");
        assert!(notes.is_empty(), "{notes:?}");
    }
}

#[test]
fn who_shows_no_certificate_is_refused_where_a_section_of_the_whole_site_asks_for_it() {
    let site = |more: &str| {
        let text = format!(
            "Listen 443\n<VirtualHost *:443>\nServerName a.example\nSSLEngine on\nDocumentRoot /srv/a\n{more}\n\
        </VirtualHost>\n"
        );
        let site = read(&[("etc/apache2/apache2.conf", &text)]).unwrap().unwrap().sites.remove(0);
        (site.refusal, site.content == Content::Any, site.restricted.join(" "))
    };
    let of = |section: &str, who: &str, more: &str| {
        let end = section.split(' ').next().unwrap();
        site(&format!("<{section}>\nSSLVerifyClient {who}\n{more}\n</{end}>"))
    };
    let certificate = (Some(Refusal::Certificate), true, String::new());
    for section in ["Location /", "Directory /srv/a", "Directory /srv"] {
        assert_eq!(of(section, "require", ""), certificate, "{section}");
    }
    assert_eq!(of("Location /", "require", "ProxyPass http://127.0.0.1:8080/").0, Some(Refusal::Perhaps));
    assert_eq!(of("Location /", "optional", ""), (None, true, String::new()));
    assert_eq!(of("Location /admin", "require", "Require valid-user"), (None, false, String::new()));
    assert_eq!(site("SSLVerifyClient require").0, Some(Refusal::Handshake));
    assert_eq!(site("SSLVerifyClient none\n<Location /admin>\nRequire valid-user\n</Location>").2, "/admin");
}

#[test]
fn a_host_with_a_certificate_for_each_kind_of_key_is_known() {
    let several = |files: &[&str]| {
        let files: String = files.iter().map(|file| format!("SSLCertificateFile {file}\n")).collect();
        let text = format!("Listen 443\n<VirtualHost *:443>\nSSLEngine on\n{files}</VirtualHost>\n");
        read(&[("etc/apache2/apache2.conf", &text)]).unwrap().unwrap().sites.remove(0).has_several_keys
    };
    assert!(several(&["/a", "/b"]) && !several(&["/a"]) && !several(&[]));
}
