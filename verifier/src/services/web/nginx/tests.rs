use super::{super::configured::Status, *};
use crate::here::testing::Server as Root;

fn read(files: &[(&str, &str)]) -> anyhow::Result<Option<Sites>> {
    sites(&Root::with(files).tree(), "/etc/nginx", &mut Finding::default())
}

/// What one file says.
fn all(text: &str) -> Sites {
    read(&[("etc/nginx/nginx.conf", text)]).unwrap().unwrap()
}

fn names(sites: &Sites) -> Vec<String> {
    sites.sites.iter().map(|site| format!("{}:{}", site.name.as_deref().unwrap_or("*"), site.port)).collect()
}

#[test]
fn servers_are_found_in_all_files_with_what_they_serve_and_what_they_keep_closed() {
    let sites = read(&[
        (
            "etc/nginx/nginx.conf",
            "http { root /srv/all; # not; {this}\n include sites-enabled/*; include /etc/nginx/conf.d/*.conf; }",
        ),
        (
            "etc/nginx/sites-enabled/shop",
            "server { listen 80; listen [::]:443 ssl http2; server_name _ shop.example;\n\
            ssl_certificate /etc/ssl/shop.pem; root \"/srv/the shop\";\n\
            location /admin { auth_basic \"Staff only\"; auth_basic_user_file /etc/web.users; }\n\
            location = /off { deny all; } location /lan { allow 10.0.0.0/8; deny all; } location ~ /\\.ht { deny all; } }",
        ),
        ("etc/nginx/conf.d/app.conf", "server { listen 127.0.0.1:8080; location / { proxy_pass http://app; } }"),
        ("etc/nginx/conf.d/old.conf~", "server { listen 99; }"),
    ]);
    let sites = sites.unwrap().unwrap();
    let [plain, tls, app] = &sites.sites[..] else { panic!("{sites:?}") };
    assert_eq!((plain.port, plain.tls, tls.port, tls.tls), (80, false, 443, true));
    assert_eq!(plain.name.as_deref(), Some("shop.example"));
    assert_eq!(plain.content, Content::Files("/srv/the shop".into()));
    assert_eq!(tls.restricted, ["/admin", "/off"]);
    assert_eq!((app.address.as_str(), &app.content), ("127.0.0.1", &Content::Any));
    assert_eq!(sites.files, ["/etc/nginx/sites-enabled/shop", "/etc/nginx/conf.d/app.conf"]);
}

#[test]
fn what_is_passed_on_as_it_comes_is_told() {
    let text = "stream { upstream db { server 127.0.0.1:1; } server { listen 3307; proxy_pass db; } \
        server { listen 5353 udp; proxy_pass db; } }\nmail { server { listen 143; protocol imap; } }\nhttp { server { listen 80; } }";
    let mut finding = Finding::default();
    sites(&Root::with(&[("etc/nginx/nginx.conf", text)]).tree(), "/etc/nginx", &mut finding).unwrap();
    let told = "what nginx passes on as it comes (stream, mail) is not exercised: 3307, 5353, 143";
    assert_eq!(finding.done().notes, [told]);
}

#[test]
fn a_server_of_ipv6_is_one_with_a_port_for_itself_beside() {
    let of_six = |listens: &str| {
        let sites = all(&format!("http {{ server {{ {listens} }} }}"));
        sites.sites.iter().map(|site| site.is_of_six).collect::<Vec<_>>()
    };
    assert_eq!(of_six("listen [::]:80; listen 127.0.0.1:80;"), [true, false]);
    assert_eq!(of_six("listen [::]:80; listen 80;"), [false, false]);
    assert_eq!(of_six("listen [::]:80;"), [true]);
}

#[test]
fn a_black_hole_is_one_and_gets_no_page() {
    let sites = all("http { server { listen 80 default_server; server_name _; return 444; root /srv/www; }\n\
        server { listen 443 ssl default_server; ssl_reject_handshake on; root /srv/www; }\n\
        server { listen 81; location / { return 444; } }\n\
        server { listen 82; root /srv/www; if ($unwanted) { return 444; } }\n\
        server { listen 80; server_name www.example; root /srv/www; } }");
    let refusals: Vec<Option<Refusal>> = sites.sites.iter().map(|site| site.refusal).collect();
    use Refusal::{Empty, Handshake, Perhaps};
    assert_eq!(refusals, [Some(Empty), Some(Handshake), Some(Empty), Some(Perhaps), None]);
    let pages: Vec<bool> = sites.sites.iter().map(|site| site.content != Content::Any).collect();
    assert_eq!(pages, [false, false, false, false, true]);
}

#[test]
fn pages_that_not_everybody_gets_are_not_asked_for() {
    for limit in [
        "allow 10.0.0.0/8; deny all;",
        "location / { allow 10.0.0.0/8; deny all; }",
        "auth_basic staff;",
        "auth_request /who;",
        "if ($scheme = http) { return 301 https://$host$request_uri; }",
        "location / { if ($allowed = 0) { return 403; } }",
        "location ~ \\.html$ { proxy_pass http://app; }",
        "rewrite ^ https://other.example$request_uri permanent;",
        "try_files /maintenance.html @app;",
        "location / { alias /srv/other/; }",
        "ssl_verify_client optional;",
    ] {
        let sites = all(&format!("http {{ server {{ listen 80; root /srv/www; {limit} }} }}"));
        assert_eq!(sites.sites[0].content, Content::Any, "{limit}");
    }
    for open in [
        "try_files $uri $uri/ =404;",
        "location ~ \\.php$ { fastcgi_pass x; }",
        "location /api { proxy_pass http://a; }",
    ] {
        let sites = all(&format!("http {{ deny 192.0.2.9; server {{ allow all; root /srv/www; {open} }} }}"));
        assert_eq!(sites.sites[0].content, Content::Files("/srv/www".into()), "{open}");
    }
}

#[test]
fn a_word_that_leaves_the_test_page_alone_does_not_take_it_away_and_one_that_may_is_told() {
    let page = |more: &str| {
        let text = format!("http {{ server {{ server_name a.example; root /srv/www; {more} }} }}");
        let mut finding = Finding::default();
        let tree = Root::with(&[("etc/nginx/nginx.conf", &text)]);
        let sites = sites(&tree.tree(), "/etc/nginx", &mut finding).unwrap().unwrap();
        (sites.sites[0].content != Content::Any, finding.done().notes.join("\n"))
    };
    for more in [
        "if ($request_method = TRACE) { return 405; }",
        "if ($http_user_agent ~* (AhrefsBot|SemrushBot)) { return 403; }",
        "if ($host ~* ^www\\.(.*)) { rewrite ^ https://a.example/ permanent; }",
        "set $cache 1; if ($cookies) { set $cache 0; }",
        "rewrite ^/old/(.*)$ /new/$1 permanent;",
        "location / { try_files ${uri} @app; }",
        "try_files $uri.html $uri/ $uri/index.html $uri =404;",
    ] {
        assert_eq!(page(more), (true, String::new()), "{more}");
    }
    for (more, why) in [
        ("if (-f /srv/off) { return 503; }", "(if, rewrite)"),
        ("if ($blocked) { return 403; }", "(if, rewrite)"),
        ("rewrite ^(.*)$ /public$1 break;", "(if, rewrite)"),
        ("deny 203.0.113.7;", "(allow, deny)"),
        ("location / { try_files $uri.html $uri/ =404; }", "(try_files)"),
        ("location / { try_files $uri/index.html =404; }", "(try_files)"),
        ("location / { try_files $uri/ @b; }", "(try_files)"),
        ("try_files /system/maintenance.html $uri =404;", "(try_files)"),
    ] {
        let (is_placed, note) = page(more);
        assert!(!is_placed && note.contains("document root /srv/www") && note.ends_with(why), "{more}: {note}");
    }
    assert_eq!(page("location / { proxy_pass http://b; }"), (false, String::new()));
    let (is_placed, note) = page("location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; }");
    assert!(is_placed && note.contains("not PHP behind nginx"), "{note}");
}

#[test]
fn a_restricted_location_that_another_one_answers_for_says_nothing() {
    let closed = |more: &str| {
        let text = format!("http {{ server {{ root /srv/www; {more} location /staff {{ auth_basic staff; }} }} }}");
        all(&text).sites.remove(0).restricted
    };
    assert_eq!(closed(""), ["/staff"]);
    for more in
        ["return 301 https://x;", "if ($a) { return 301 https://x; }", "location ~ ^/st { proxy_pass http://x; }"]
    {
        assert!(closed(more).is_empty(), "{more}");
    }
}

#[test]
fn a_trap_is_not_walked_into() {
    let closed = |more: &str| {
        let text = format!("http {{ server {{ root /srv/www; location /staff {{ deny all; {more} }} }} }}");
        all(&text).sites.remove(0).restricted
    };
    assert_eq!(closed("access_log off; error_log /dev/null;"), ["/staff"]);
    assert!(closed("access_log /var/log/nginx/trap.log;").is_empty());
    assert!(closed("error_log /var/log/nginx/trap.log info;").is_empty());
}

#[test]
fn each_port_is_asked_as_its_clients_ask() {
    let sites = all(
        "http { server { listen 443 quic reuseport; listen 443 ssl proxy_protocol; listen unix:/run/x; server_name www.example; }\n\
        server { listen 127.0.0.1; listen 192.0.2.7:8443 ssl; listen [::1]:81; listen 9000-9001; server_name .b.example; } }",
    );
    let shown: Vec<(String, &str, bool, bool)> = sites
        .sites
        .iter()
        .zip(names(&sites))
        .map(|(site, name)| (name, site.address.as_str(), site.tls, site.wants_proxy))
        .collect();
    let expected = [
        ("www.example:443", "", true, true),
        ("b.example:80", "127.0.0.1", false, false),
        ("b.example:8443", "192.0.2.7", true, false),
        ("b.example:81", "[::1]", false, false),
        ("b.example:9000", "", false, false),
        ("b.example:9001", "", false, false),
    ];
    assert_eq!(shown, expected.map(|(name, at, tls, proxy)| (name.to_owned(), at, tls, proxy)));
}

#[test]
fn what_speaks_http_2_in_plain_is_asked_so_and_what_is_changed_on_its_way_is_not_compared() {
    let sites = all("http { server { listen 50051 http2; listen 443 ssl http2; server_name grpc.example; } }");
    assert_eq!(sites.sites.iter().map(|site| site.is_plain_h2).collect::<Vec<_>>(), [true, false]);
    for changes in ["sub_filter a b;", "auth_gss on;", "auth_pam \"who\";", "access_by_lua_block { x() }"] {
        let sites = all(&format!("http {{ {changes} server {{ listen 80; root /srv/www; }} }}"));
        assert_eq!(sites.sites[0].content, Content::Any, "{changes}");
    }
    let sites = all("http { server { listen 80; root /srv/www; auth_pam off; auth_delay 1s; auth_basic off; } }");
    assert_eq!(sites.sites[0].content, Content::Files("/srv/www".into()));
}

#[test]
fn who_comes_by_no_name_meets_the_default_server_alone() {
    let sites = all(
        "http { server { listen 80; server_name _; root /srv/first; } server { listen 80; server_name ~^(.+)\\.x$; root /srv/no; }\n\
        server { listen 80; server_name *.wild.example; } server { listen 80; server_name intranet; }\n\
        server { listen 81; server_name _; root /srv/not; } server { listen 81 default_server; root /srv/it; }\n\
        server { listen 82; server_name a.example; root /srv/a; } server { listen 82; server_name a.example; root /srv/b; } }",
    );
    let expected = ["*:80", "atlas-verify.wild.example:80", "intranet:80", "*:81", "a.example:82"];
    assert_eq!(names(&sites), expected);
    assert_eq!(sites.sites[3].content, Content::Files("/srv/it".into()));
}

#[test]
fn a_variable_in_braces_ends_no_server() {
    let sites = all(
        "http { server { listen 80; server_name shop.example; access_log /var/log/${host}.log; root /srv/shop; }\n\
        server { listen 8081; server_name intra.example; root /srv/intra; } }",
    );
    assert_eq!(names(&sites), ["shop.example:80", "intra.example:8081"]);
    assert_eq!(sites.sites[0].content, Content::Files("/srv/shop".into()));
}

#[test]
fn nginx_says_itself_which_files_count() {
    let root = Root::with(&[("etc/nginx/nginx.conf", "http { server { listen 9; } }")]);
    root.program(
        "usr/sbin/nginx",
        "[ \"$1\" = -T ] || exit 1\nprintf '# configuration file /etc/nginx/nginx.conf:\\nhttp { include x/*; }\\n\
        # configuration file /etc/nginx/x/1:\\nserver { listen 8080; }\\n'",
    );
    let mut finding = Finding::default();
    let asked = sites(&root.tree().running(), "/etc/nginx", &mut finding).unwrap().unwrap();
    assert_eq!((names(&asked), finding.done().notes.len()), (vec!["*:8080".to_owned()], 0));
    let mut finding = Finding::default();
    root.program("usr/sbin/nginx", "echo 'nginx: [emerg] unknown directive' >&2; exit 1");
    let own = sites(&root.tree().running(), "/etc/nginx", &mut finding).unwrap().unwrap();
    assert_eq!((names(&own), finding.done().notes.len()), (vec!["*:9".to_owned()], 1));
}

#[test]
fn a_file_that_includes_itself_and_blocks_without_end_are_told() {
    let error = read(&[("etc/nginx/nginx.conf", "include nginx.conf;")]).unwrap_err();
    assert!(error.to_string().contains("16 deep"), "{error}");
    let error = read(&[("etc/nginx/nginx.conf", &"a {".repeat(100_000))]).unwrap_err();
    assert!(error.to_string().contains("16 deep"), "{error}");
    assert!(read(&[("etc/passwd", "")]).unwrap().is_none());
}

#[test]
fn a_condition_is_one_only_where_it_depends_on_something() {
    let refusal = |condition: &str| {
        let text = format!("http {{ server {{ server_name a.example; if ({condition}) {{ return 444; }} }} }}");
        all(&text).sites.remove(0).refusal
    };
    use Refusal::{Empty, Perhaps};
    for (condition, expected) in [
        ("$request_method !~ ^(GET|HEAD|POST)$", None),
        ("$request_method !~ \"^(POST|PUT)$\"", Some(Empty)),
        ("$http_user_agent ~* (wget|bot/)", None),
        ("$host != a.example", None),
        ("$host != 'b.example'", Some(Empty)),
        ("$http_referer ~ spam", None),
        ("$http_user_agent = \"\"", None),
        ("$arg_debug", None),
        ("$blocked", Some(Perhaps)),
        ("$host ~ (?<!x)", Some(Perhaps)),
        ("-f /srv/off", Some(Perhaps)),
    ] {
        assert_eq!(refusal(condition), expected, "{condition}");
    }
}

#[test]
fn what_is_answered_because_it_is_configured_is_known() {
    let answers = |server: &str| {
        let mut sites = all(&format!("http {{ limit_req_status 429; server {{ root /srv/www; {server} }} }}")).sites;
        let site = sites.remove(0);
        let limits: Vec<String> = site.limits.iter().map(u16::to_string).collect();
        [site.answers.map(Status::words).unwrap_or_default(), limits.join(" "), site.masked.join(" ")].join("|")
    };
    for (server, expected) in [
        ("return 503;", "503||"),
        ("return 404;", "||"),
        ("location / { return 502 x; }", "502||"),
        ("if (-f /srv/off) { return 503; } location / { try_files $uri =404; }", "503 perhaps||"),
        ("if ($request_method = POST) { return 503; }", "||"),
        ("location /api { return 503; }", "||"),
        ("limit_req zone=a;", "|429|"),
        ("location /x { limit_conn a 1; }", "|503|"),
        ("limit_conn_status 444; limit_conn a 1; limit_req zone=b;", "|429 444|"),
        ("error_page 403 @in; location /x/ { deny all; } location @in { return 302 /in; }", "||/x/"),
        ("error_page 403 /403.html; location /x/ { deny all; }", "||"),
        ("error_page 403 =404 /no; location /x/ { deny all; }", "||"),
        ("error_page 401 403 = /in; location /x/ { auth_basic x; }", "||/x/"),
        ("error_page 403 https://b.example/; location /x/ { deny all; }", "||/x/"),
        ("error_page 403 = /in; location /x/ { deny all; error_page 404 /x; }", "||"),
    ] {
        assert_eq!(answers(server), expected, "{server}");
    }
    let mut finding = Finding::default();
    let text = "http { server { error_page 403 = /in; location = /x { deny all; } } }";
    let sites = sites(&Root::with(&[("etc/nginx/nginx.conf", text)]).tree(), "/etc/nginx", &mut finding);
    assert!(sites.unwrap().unwrap().sites[0].restricted.is_empty());
    assert!(finding.done().notes[0].contains("whether /x of"));
}

#[test]
fn a_certificate_is_for_each_name_of_its_site() {
    let aliases = |text: &str| all(&format!("http {{ {text} }}")).sites.pop().unwrap().aliases.join(" ");
    let names = "server_name a.example www.a.example *.b.example ~^c 192.0.2.1 intra WWW.a.example;";
    assert_eq!(aliases(&format!("server {{ listen 443 ssl; {names} }}")), "www.a.example");
    assert_eq!(aliases(&format!("server {{ listen 80; {names} }}")), "");
    let first = "server { listen 443 ssl; server_name www.a.example; }";
    assert_eq!(aliases(&format!("{first} server {{ listen 443 ssl; {names} }}")), "");
}

#[test]
fn a_site_with_a_certificate_for_each_kind_of_key_is_known() {
    let several = |text: &str| {
        let all = all(&format!("http {{ ssl_certificate /a; server {{ listen 443 ssl; {text} }} }}"));
        all.sites[0].has_several_keys
    };
    assert!(several("ssl_certificate /b; ssl_certificate /c;"));
    assert!(!several("") && !several("ssl_certificate /b;"));
}
