//! The web, exercised on the real servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::{Found, Verdict};
use common::{Daemon, expect, place, run, setup, tree, value, verify, verify_found, write};
use std::{fs, path::Path};

const NGINX: &str = "daemon off; master_process off; pid /run/nginx.pid; error_log stderr;\nevents {}\n\
    http { access_log off; include sites-enabled/*; }\n";
const SITE: &str = "server { listen 80; listen 443 ssl; server_name shop.example; root /srv/shop;\n\
    ssl_certificate /srv/tls/cert.pem; ssl_certificate_key /srv/tls/key.pem;\n\
    location /staff/ { auth_basic staff; auth_basic_user_file /srv/tls/users; }\n\
    location = /orders { default_type text/plain; return 200 'orders: 3'; }\n\
    location = /broken { return 502; } }\n\
    server { listen 80 default_server; return 301 https://shop.example/; }\n";

fn certificate(tree: &Path, days: &str) {
    fs::create_dir_all(tree.join("srv/tls")).unwrap();
    let subject = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=shop.example", "-days", days];
    run("openssl", &[&subject[..], &["-keyout", "/srv/tls/key.pem", "-out", "/srv/tls/cert.pem"]].concat());
}

fn nginx(tree: &Path) -> Daemon {
    let config = tree.join("etc/nginx/nginx.conf");
    Daemon::start("nginx", &["-c", config.to_str().unwrap()], 80)
}

fn found(tree: &Path) -> Found {
    let found = setup("web", tree);
    place(tree, &found);
    found
}

#[test]
fn what_nginx_serves_is_compared_and_what_it_should_not_is_told() {
    if !own_network("what_nginx_serves_is_compared_and_what_it_should_not_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    certificate(tree, "90");
    write(tree, "etc/nginx/nginx.conf", NGINX);
    write(tree, "etc/nginx/sites-enabled/shop", SITE);
    write(tree, "srv/tls/users", "anne:x\n");
    write(tree, "srv/shop/staff/list", "secret");
    let found = found(tree);
    assert!(found.problems.is_empty() && found.paths.iter().any(|path| path == "/etc/nginx"), "{found:?}");
    let check = |name: &str, more: &[(&str, &str)]| verify_found("web", &found, name, more);
    let plain = "shop.example:80";
    expect(&check(plain, &[]), Verdict::Unacceptable, &["Connection refused", "nginx -t"]);
    let server = nginx(tree);

    expect(&check(plain, &[]), Verdict::Ok, &["comes as it was placed"]);
    expect(&check("*:80", &[]), Verdict::Ok, &["it answers"]);
    let tls = check("shop.example:443", &[]);
    expect(&tls, Verdict::Ok, &["https://shop.example:443"]);
    assert!((89.0..=90.0).contains(&value(&tls, "certificate")), "{tls:?}");
    let dynamic = check(plain, &[("dynamic", "/orders"), ("expect", "orders: ")]);
    expect(&dynamic, Verdict::Ok, &[]);
    assert!(value(&dynamic, "dynamic") > 0.0);
    expect(&check(plain, &[("dynamic", "/orders"), ("expect", "carts")]), Verdict::Unacceptable, &["without 'carts'"]);
    expect(&check(plain, &[("dynamic", "/broken")]), Verdict::Unacceptable, &["/broken answers 502"]);

    write(tree, "srv/shop/atlas-verify.html", "changed");
    expect(&check(plain, &[]), Verdict::Unacceptable, &["is not what was placed in /srv/shop"]);
    fs::remove_file("/srv/shop/atlas-verify.html").unwrap();
    expect(&check(plain, &[]), Verdict::Unacceptable, &["is not there"]);
    place(tree, &found);
    server.freeze();
    expect(&check(plain, &[("--deadline", "3")]), Verdict::Unacceptable, &["timed out"]);
    server.thaw();
    expect(&check(plain, &[]), Verdict::Ok, &[]);
}

#[test]
fn a_page_that_is_open_and_a_certificate_that_ends_are_told() {
    if !own_network("a_page_that_is_open_and_a_certificate_that_ends_are_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    certificate(tree, "10");
    write(tree, "etc/nginx/nginx.conf", NGINX);
    write(tree, "etc/nginx/sites-enabled/shop", SITE);
    write(tree, "srv/tls/users", "");
    write(tree, "srv/shop/staff/index.html", "secret");
    let found = found(tree);
    let check = |name: &str| verify_found("web", &found, name, &[]);
    // As it was found on PRI; this server has another configuration, and listens on another address.
    write(tree, "etc/nginx/sites-enabled/shop", &SITE.replace("auth_basic staff", "auth_basic off"));
    let server = nginx(tree);
    expect(&check("shop.example:80"), Verdict::Unacceptable, &["/staff/", "open to anybody", "auth_basic"]);
    drop(server);
    write(tree, "etc/nginx/sites-enabled/shop", &SITE.replace("listen 443", "listen 127.0.0.2:443"));
    let server = nginx(tree);
    expect(&check("shop.example:443"), Verdict::Unacceptable, &["Connection refused"]);
    drop(server);
    write(tree, "etc/nginx/sites-enabled/shop", SITE);
    let server = nginx(tree);
    expect(&check("shop.example:443"), Verdict::Slow, &["the certificate expires on", "renew"]);
    drop(server);
    certificate(tree, "2");
    let _server = nginx(tree);
    expect(&check("shop.example:443"), Verdict::Unacceptable, &["the certificate expires on"]);
}

const APACHE: &str = "PidFile /run/apache.pid\nErrorLog /dev/stderr\nUser www-data\nGroup www-data\nServerName here.example\n\
    IncludeOptional mods-enabled/*.load\nListen 80\nIncludeOptional sites-enabled/*.conf\n\
    <Directory />\n  Require all denied\n</Directory>\n<Directory /srv>\n  Require all granted\n</Directory>\n\
    <FilesMatch \"^\\.ht\">\n  Require all denied\n</FilesMatch>\n";
const HOST: &str = "<VirtualHost *:80>\n  ServerName shop.example\n  DocumentRoot /srv/shop\n\
    <Location /staff>\n    AuthType Basic\n    AuthName staff\n    AuthUserFile /srv/users\n    Require valid-user\n  </Location>\n</VirtualHost>\n";

#[test]
fn what_apache_serves_is_compared_and_what_it_should_not_is_told() {
    if !own_network("what_apache_serves_is_compared_and_what_it_should_not_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let modules = ["mpm_event", "authz_core", "authn_core", "auth_basic", "authn_file", "authz_user"];
    let load = |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    write(tree, "etc/apache2/mods-enabled/all.load", &modules.map(load).concat());
    write(tree, "etc/apache2/apache2.conf", APACHE);
    write(tree, "etc/apache2/sites-enabled/shop.conf", HOST);
    write(tree, "srv/users", "");
    write(tree, "srv/shop/staff", "secret");
    let found = found(tree);
    let check = || verify_found("web", &found, "shop.example:80", &[]);
    let dir = tree.join("etc/apache2");
    let start = || Daemon::start("apache2", &["-d", dir.to_str().unwrap(), "-f", "apache2.conf", "-DFOREGROUND"], 80);
    let server = start();
    expect(&check(), Verdict::Ok, &["comes as it was placed"]);
    assert_eq!(found.instances[0].options["restricted"], "/.htaccess /staff");
    fs::set_permissions("/srv/shop/atlas-verify.html", std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    expect(&check(), Verdict::Unacceptable, &["may not be read (403)"]);
    place(tree, &found);
    drop(server);
    write(tree, "etc/apache2/sites-enabled/shop.conf", &HOST.replace("Require valid-user", "Require all granted"));
    let _server = start();
    expect(&check(), Verdict::Unacceptable, &["/staff should be restricted, and is open to anybody (it answers 200)"]);
}

#[test]
fn what_cannot_be_asked_is_unknown() {
    expect(&verify("web", &[("port", "eighty")]), Verdict::Unknown, &["port=eighty is no port"]);
}
