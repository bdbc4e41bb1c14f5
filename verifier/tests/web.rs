//! The web, exercised on the real servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::{Found, Verdict};
use common::{
    Daemon, database::Postgresql, expect, place, run, setup, tree, value, verify, verify_found, verify_on, wait_until,
    write,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

const NGINX: &str = "daemon off; master_process off; pid /run/nginx.pid; error_log stderr;\nevents {}\n\
    http { access_log off; include sites-enabled/*; }\n";
const SITE: &str = "server { listen 80; listen 443 ssl; server_name shop.example; root /srv/shop;\n\
    ssl_certificate /srv/tls/cert.pem; ssl_certificate_key /srv/tls/cert-key.pem;\n\
    location /staff/ { auth_basic staff; auth_basic_user_file /srv/tls/users; }\n\
    location = /orders { default_type text/plain; return 200 'orders: 3'; }\n\
    location = /broken { return 502; } }\n\
    server { listen 80 default_server; return 301 https://shop.example/; }\n";

/// A certificate that vouches for itself, unless `more` says who does.
fn certificate_of(tree: &Path, file: &str, name: &str, days: &str, more: &[&str]) {
    fs::create_dir_all(tree.join("srv/tls")).unwrap();
    let (key, file) = (format!("/srv/tls/{file}-key.pem"), format!("/srv/tls/{file}.pem"));
    let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-addext", &names, "-days", days];
    run("openssl", &[&args[..], &["-keyout", &key, "-out", &file], more].concat());
}

fn certificate(tree: &Path, days: &str) {
    certificate_of(tree, "cert", "shop.example", days, &[]);
}

/// What clients know: that very certificate.
const KNOWN: (&str, &str) = ("ca", "/srv/tls/cert.pem");

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
    let tls = check("shop.example:443", &[KNOWN]);
    expect(&tls, Verdict::Ok, &["https://shop.example:443"]);
    assert!((89.0..=90.0).contains(&value(&tls, "certificate")), "{tls:?}");
    let dynamic = check(plain, &[("dynamic", "/orders"), ("expect", "orders: ")]);
    expect(&dynamic, Verdict::Ok, &[]);
    assert!(value(&dynamic, "dynamic") > 0.0);
    expect(&check(plain, &[("dynamic", "/orders"), ("expect", "carts")]), Verdict::Unacceptable, &["without 'carts'"]);
    expect(&check(plain, &[("dynamic", "/broken")]), Verdict::Unacceptable, &["/broken answers 502"]);
    write(tree, "srv/shop/cart.php", "<?php $password = 'flour';\n");
    expect(&check(plain, &[("dynamic", "/cart.php")]), Verdict::Unacceptable, &["/cart.php is sent as its source"]);

    write(tree, "srv/shop/atlas-verify.html", "changed");
    expect(&check(plain, &[]), Verdict::Unacceptable, &["is not what was placed in /srv/shop"]);
    fs::remove_file("/srv/shop/atlas-verify.html").unwrap();
    expect(&check(plain, &[]), Verdict::Unacceptable, &["is not there"]);
    place(tree, &found);
    server.freeze();
    expect(&check(plain, &[("--deadline", "3")]), Verdict::Unacceptable, &["nothing comes from port 80"]);
    server.thaw();
    expect(&check(plain, &[]), Verdict::Ok, &[]);
}

#[test]
fn who_is_turned_away_as_configured_is_no_fault_and_who_is_served_instead_is_told() {
    if !own_network("who_is_turned_away_as_configured_is_no_fault_and_who_is_served_instead_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    certificate(tree, "90");
    write(tree, "etc/nginx/nginx.conf", NGINX);
    let holes = "server { listen 80 default_server; server_name _; return 444; }\n\
        server { listen 443 ssl default_server; server_name _; ssl_reject_handshake on; }\n\
        server { listen 81 proxy_protocol; server_name proxied.example; root /srv/shop; }\n\
        server { listen 443 ssl; server_name shop.example; root /srv/shop; ssl_verify_client on;\n\
        ssl_certificate /srv/tls/cert.pem; ssl_certificate_key /srv/tls/cert-key.pem; ssl_client_certificate /srv/tls/cert.pem; }\n\
        server { listen 82; server_name lan.example; root /srv/shop; allow 10.0.0.0/8; deny all; }\n";
    write(tree, "etc/nginx/sites-enabled/holes", holes);
    write(tree, "srv/shop/x", "");
    let found = found(tree);
    let check = |name: &str| verify_found("web", &found, name, &[]);
    expect(&check("*:80"), Verdict::Unacceptable, &["Connection refused"]);
    let server = nginx(tree);
    for (name, words) in [
        ("*:80", "turns away who comes so"),
        ("*:443", "turns away who comes so"),
        ("proxied.example:81", "comes as it was placed"),
        ("shop.example:443", "it answers"),
        ("lan.example:82", "it answers"),
    ] {
        expect(&check(name), Verdict::Ok, &[words]);
    }
    drop(server);
    write(tree, "etc/nginx/sites-enabled/holes", &holes.replace("return 444", "return 200 hello"));
    let _server = nginx(tree);
    expect(&check("*:80"), Verdict::Slow, &["should turn away who comes so, and answers 200", "nginx -T"]);
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
    let check = |name: &str| verify_found("web", &found, name, &[KNOWN]);
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

#[test]
fn a_certificate_that_clients_refuse_is_told_with_the_reason() {
    if !own_network("a_certificate_that_clients_refuse_is_told_with_the_reason") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let of_ours = ["-CA", "/srv/tls/ours.pem", "-CAkey", "/srv/tls/ours-key.pem"];
    certificate_of(tree, "ours", "An issuer of ours", "90", &[]);
    certificate_of(tree, "others", "Another issuer", "90", &[]);
    certificate_of(tree, "cert", "shop.example", "90", &of_ours);
    write(tree, "etc/nginx/nginx.conf", NGINX);
    write(tree, "etc/nginx/sites-enabled/shop", SITE);
    write(tree, "srv/tls/users", "");
    write(tree, "srv/shop/x", "");
    let found = found(tree);
    let check = |more: &[(&str, &str)]| verify_found("web", &found, "shop.example:443", more);
    let server = nginx(tree);
    let ours = ("ca", "/srv/tls/ours.pem");
    expect(&check(&[ours]), Verdict::Ok, &["comes as it was placed"]);
    // PRI's own certificate is of no issuer that is known there: nobody's is looked at, unless it is said which ones clients know.
    expect(&check(&[]), Verdict::Ok, &["comes as it was placed"]);
    expect(
        &check(&[("issuer", "known")]),
        Verdict::Slow,
        &["of no issuer that this server knows: unable to get", "[service.web]", "ca ="],
    );
    expect(&check(&[("trust", "no")]), Verdict::Ok, &["comes as it was placed"]);
    expect(&check(&[("ca", "/srv/tls/others.pem")]), Verdict::Unacceptable, &["not of the issuers in /srv/tls/others"]);
    expect(&check(&[("ca", "/srv/tls/gone.pem")]), Verdict::Unknown, &["cannot be told here", "/srv/tls/gone.pem"]);
    drop(server);
    certificate_of(tree, "cert", "other.example", "90", &of_ours);
    let _server = nginx(tree);
    expect(
        &check(&[ours]),
        Verdict::Unacceptable,
        &["clients refuse the certificate", "another name: ", "shop.example"],
    );
    // Whoever comes by a name that is not known here may come by the right one.
    let unnamed = [("port", "443"), ("tls", "yes"), ("root", "/srv/shop"), ours];
    expect(&verify("web", &unnamed), Verdict::Ok, &["comes as it was placed"]);
}

#[test]
fn what_nginx_answers_as_it_is_configured_to_is_no_fault() {
    if !own_network("what_nginx_answers_as_it_is_configured_to_is_no_fault") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    write(
        tree,
        "etc/nginx/nginx.conf",
        &NGINX.replace("include", "limit_req_zone $binary_remote_addr zone=a:1m rate=2r/s; include"),
    );
    let sites = "server { listen 80; server_name often.example; root /srv/www; limit_req zone=a;\n\
        location /a/ { deny all; } location /b/ { deny all; } location ~ /\\.ht { deny all; } }\n\
        server { listen 80; server_name off.example; return 503; }\n\
        server { listen 80; server_name perhaps.example; root /srv/www; if (-f /srv/off) { return 503; } }\n\
        server { listen 80; server_name login.example; root /srv/www; error_page 403 @login; error_page 401 = /in;\n\
        location /a/ { deny all; } location /b/ { auth_basic b; auth_basic_user_file /srv/users; }\n\
        location @login { return 302 /in; } location /in { return 200 login; } }\n";
    write(tree, "etc/nginx/sites-enabled/all", sites);
    for file in ["srv/www/a/index.html", "srv/www/b/index.html", "srv/users", "srv/off"] {
        write(tree, file, "");
    }
    let found = found(tree);
    let check = |name: &str| verify_found("web", &found, &format!("{name}.example:80"), &[]);
    let server = nginx(tree);
    for (name, word) in [("often", "as it was placed"), ("off", "answers 503, as it is"), ("login", "as it was placed")]
    {
        expect(&check(name), Verdict::Ok, &[word]);
    }
    expect(&check("perhaps"), Verdict::Slow, &["answers 503, as it is configured to", "a maintenance?"]);
    fs::remove_file("/srv/off").unwrap();
    expect(&check("perhaps"), Verdict::Ok, &["it answers"]);
    drop(server);
    // This server has another configuration than PRI.
    for (from, to) in
        [("location /a/ { deny all; } location /b/ { auth", "location /b/ { auth"), ("auth_basic b", "auth_basic off")]
    {
        assert!(sites.contains(from));
        write(tree, "etc/nginx/sites-enabled/all", &sites.replace(from, to));
        let _server = nginx(tree);
        expect(&check("login"), Verdict::Unacceptable, &["open to anybody"]);
    }
}

#[test]
fn what_apache_answers_as_it_is_configured_to_is_no_fault() {
    if !own_network("what_apache_answers_as_it_is_configured_to_is_no_fault") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let host = |name: &str, more: &str| {
        format!("<VirtualHost *:80>\nServerName {name}.example\nDocumentRoot /srv/www\n{more}\n</VirtualHost>\n")
    };
    let closed =
        "<Directory /srv/www/.git>\nRequire all denied\n</Directory>\nErrorDocument 403 http://other.example/\n";
    let hosts = [
        host("off", "Redirect 503 /"),
        host("rule", "RewriteEngine on\nRewriteRule ^ - [R=503,L]"),
        host("login", closed),
    ];
    apache_conf(tree, &["mpm_event", "authz_core", "alias", "rewrite"], &hosts.concat());
    write(tree, "srv/www/.git/config", "");
    let found = found(tree);
    let check = |name: &str| verify_found("web", &found, &format!("{name}.example:80"), &[]);
    let server = apache(tree);
    expect(&check("off"), Verdict::Ok, &["answers 503, as it is configured to"]);
    expect(&check("rule"), Verdict::Ok, &["answers 503, as it is configured to"]);
    expect(&check("login"), Verdict::Ok, &["as it was placed"]);
    drop(server);
    let open = hosts.concat().replace("Require all denied", "Options +Indexes\nRequire all granted");
    apache_conf(tree, &["mpm_event", "authz_core", "alias", "rewrite", "autoindex"], &open);
    let _server = apache(tree);
    expect(&check("login"), Verdict::Unacceptable, &["/.git/ should be restricted", "open to anybody"]);
}

#[test]
fn a_certificate_that_is_not_for_all_names_of_its_site_is_told() {
    if !own_network("a_certificate_that_is_not_for_all_names_of_its_site_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    certificate(tree, "90");
    write(tree, "etc/nginx/nginx.conf", NGINX);
    write(tree, "etc/nginx/sites-enabled/shop", &SITE.replace("shop.example;", "shop.example alias.example;"));
    write(tree, "srv/shop/x", "");
    let found = found(tree);
    let _server = nginx(tree);
    let check = |more: &[(&str, &str)]| verify_found("web", &found, "shop.example:443", more);
    expect(&check(&[KNOWN]), Verdict::Slow, &["come by alias.example refuse the certificate", "certbot"]);
    expect(&check(&[KNOWN, ("aliases", "shop.example")]), Verdict::Ok, &["as it was placed"]);
    expect(&check(&[("trust", "no")]), Verdict::Ok, &["as it was placed"]);
}

#[test]
fn a_document_root_that_is_a_link_is_exercised_where_it_leads_to() {
    if !own_network("a_document_root_that_is_a_link_is_exercised_where_it_leads_to") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    write(tree, "etc/nginx/nginx.conf", NGINX);
    let sites = "server { listen 80; server_name app.example; root /srv/app/current; }\n\
        server { listen 80; server_name dots.example; root /srv/./app//releases/1/.; }\n\
        server { listen 80; server_name gone.example; root /srv/gone; }\n";
    write(tree, "etc/nginx/sites-enabled/all", sites);
    for release in ["1", "2"] {
        write(tree, &format!("srv/app/releases/{release}/index.html"), "welcome");
    }
    let serve = |release: &str| {
        let _ = fs::remove_file("/srv/app/current");
        std::os::unix::fs::symlink(format!("releases/{release}"), "/srv/app/current").unwrap();
    };
    serve("1");
    let found = found(tree);
    assert!(found.paths.contains(&"/srv/app/current".to_owned()), "{found:?}");
    let check = |name: &str| verify_found("web", &found, &format!("{name}.example:80"), &[]);
    let _server = nginx(tree);
    expect(&check("app"), Verdict::Ok, &["comes as it was placed"]);
    expect(&check("dots"), Verdict::Ok, &["comes as it was placed"]);
    expect(&check("gone"), Verdict::Ok, &["it answers"]);
    serve("2");
    expect(&check("app"), Verdict::Unacceptable, &["/srv/app/current is missing", "VerifierControl setup"]);
    let next = setup("web", tree);
    assert_eq!(next.instances[0], found.instances[0], "a release changes nothing in what is exercised");
    place(tree, &next);
    expect(&check("app"), Verdict::Ok, &["comes as it was placed"]);
}

/// Asserts that the site of all addresses is exercised, though who comes by 10.9.0.10 meets another one, and that its fault is found.
fn is_met_beside_one_of_an_address(tree: &Path, start: impl Fn() -> Daemon) {
    for root in ["all", "one"] {
        write(tree, &format!("srv/{root}/x"), "");
    }
    run("ip", &["address", "add", "10.9.0.10/24", "dev", "lo"]);
    let found = found(tree);
    let check = |name: &str, host: &str| {
        let instance = found.instances.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("{found:?}"));
        verify_on(host, "web", &instance.options.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>())
    };
    let _server = start();
    let (name, itself) = ("star.example:80", "star.example:80 on loopback");
    expect(&check("one.example:80", "10.9.0.10"), Verdict::Ok, &["comes as it was placed"]);
    expect(&check(name, "10.9.0.10"), Verdict::Ok, &["not exercised from here: at 10.9.0.10 another site answers"]);
    expect(&check(name, "127.0.0.3"), Verdict::Ok, &["comes as it was placed"]);
    expect(&check(itself, "localhost"), Verdict::Ok, &["comes as it was placed"]);
    fs::remove_file("/srv/all/atlas-verify.html").unwrap();
    expect(&check(itself, "localhost"), Verdict::Unacceptable, &["is not there"]);
}

#[test]
fn a_site_of_all_addresses_is_exercised_beside_one_of_an_address_in_nginx() {
    if !own_network("a_site_of_all_addresses_is_exercised_beside_one_of_an_address_in_nginx") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    write(tree, "etc/nginx/nginx.conf", NGINX);
    let sites = "server { listen 80 default_server; server_name star.example; root /srv/all; }\n\
        server { listen 10.9.0.10:80; listen 127.0.0.1:80; server_name one.example; root /srv/one; }\n";
    write(tree, "etc/nginx/sites-enabled/all", sites);
    is_met_beside_one_of_an_address(tree, || nginx(tree));
}

#[test]
fn a_site_of_all_addresses_is_exercised_beside_one_of_an_address_in_apache() {
    if !own_network("a_site_of_all_addresses_is_exercised_beside_one_of_an_address_in_apache") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let host = |at: &str, name: &str, root: &str| {
        format!("<VirtualHost {at}>\nServerName {name}.example\nDocumentRoot /srv/{root}\n</VirtualHost>\n")
    };
    let never = host("*", "never", "never");
    let hosts = [host("*:80", "star", "all"), host("10.9.0.10:80", "one", "one"), never].concat();
    apache_conf(tree, &["mpm_event", "authz_core"], &hosts);
    is_met_beside_one_of_an_address(tree, || apache(tree));
}

const APACHE: &str = "PidFile /run/apache.pid\nErrorLog /dev/stderr\nUser www-data\nGroup www-data\nServerName here.example\n\
    IncludeOptional mods-enabled/*.load\nListen 80\nIncludeOptional sites-enabled/*.conf\n\
    <Directory />\n  Require all denied\n</Directory>\n<Directory /srv>\n  Require all granted\n</Directory>\n\
    <FilesMatch \"^\\.ht\">\n  Require all denied\n</FilesMatch>\n";
const HOST: &str = "<VirtualHost *:80>\n  ServerName shop.example\n  DocumentRoot /srv/shop\n\
    <Location /staff>\n    AuthType Basic\n    AuthName staff\n    AuthUserFile /srv/users\n    Require valid-user\n  </Location>\n</VirtualHost>\n";

fn apache_conf(tree: &Path, modules: &[&str], host: &str) {
    let load = |name: &&str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    write(tree, "etc/apache2/mods-enabled/all.load", &modules.iter().map(load).collect::<String>());
    write(tree, "etc/apache2/apache2.conf", APACHE);
    write(tree, "etc/apache2/sites-enabled/shop.conf", host);
}

fn apache(tree: &Path) -> Daemon {
    let dir = tree.join("etc/apache2");
    Daemon::start("apache2", &["-d", dir.to_str().unwrap(), "-f", "apache2.conf", "-DFOREGROUND"], 80)
}

#[test]
fn what_apache_serves_is_compared_and_what_it_should_not_is_told() {
    if !own_network("what_apache_serves_is_compared_and_what_it_should_not_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let modules = ["mpm_event", "authz_core", "authn_core", "auth_basic", "authn_file", "authz_user"];
    apache_conf(tree, &modules, HOST);
    write(tree, "srv/users", "");
    write(tree, "srv/shop/staff", "secret");
    let found = found(tree);
    let check = || verify_found("web", &found, "shop.example:80", &[]);
    let server = apache(tree);
    expect(&check(), Verdict::Ok, &["comes as it was placed"]);
    assert_eq!(found.instances[0].options["restricted"], "/staff");
    fs::set_permissions("/srv/shop/atlas-verify.html", PermissionsExt::from_mode(0o600)).unwrap();
    expect(&check(), Verdict::Unacceptable, &["may not be read (403)"]);
    place(tree, &found);
    drop(server);
    write(tree, "etc/apache2/sites-enabled/shop.conf", &HOST.replace("Require valid-user", "Require all granted"));
    let _server = apache(tree);
    expect(&check(), Verdict::Unacceptable, &["/staff should be restricted, and is open to anybody (it answers 200)"]);
}

const ORDERS_HOST: &str = "<VirtualHost *:80>\n  ServerName shop.example\n  DocumentRoot /srv/shop\n\
    ScriptAlias /orders /srv/bin/orders\n</VirtualHost>\n";
/// An application as small as one can be: it asks its database, and says what came of it.
const ORDERS: &str = r#"#!/bin/sh
if number=$(PGPASSWORD=secret psql -h 127.0.0.1 -U anne -d postgres -tAc 'SELECT sum(number) FROM orders' 2>&1); then
    printf 'Content-Type: text/html\n\n<p>orders: %s</p>\n' "$number"
else
    printf 'Status: 500 Internal Server Error\nContent-Type: text/html\n\n<h1>%s</h1>\n' "$number"
fi
"#;

#[test]
fn a_page_out_of_a_database_is_exercised_and_what_keeps_it_from_that_is_told() {
    if !own_network("a_page_out_of_a_database_is_exercised_and_what_keeps_it_from_that_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    apache_conf(tree, &["mpm_event", "authz_core", "alias", "cgi"], ORDERS_HOST);
    write(tree, "srv/bin/orders", ORDERS);
    fs::set_permissions("/srv/bin/orders", PermissionsExt::from_mode(0o755)).unwrap();
    write(tree, "srv/shop/index.html", "welcome");
    let found = found(tree);
    let page = [("dynamic@shop", "/orders"), ("expect@shop", "orders: 42"), ("--instance", "shop")];
    let check = |more: &[(&str, &str)]| verify_found("web", &found, "shop.example:80", &[&page[..], more].concat());
    let database = Postgresql::new(tree);
    let _web = apache(tree);
    let stopped = ["the dynamic page /orders answers 500", "port 5432 failed: Connection refused", "its database"];
    expect(&check(&[]), Verdict::Unacceptable, &stopped);

    let server = database.start();
    wait_until("it has started", || !check(&[]).summary.contains("starting up"));
    expect(&check(&[]), Verdict::Unacceptable, &["relation \"orders\" does not exist"]);
    database.say("CREATE TABLE orders (number integer); INSERT INTO orders VALUES (20), (22)");
    let profile = check(&[]);
    expect(&profile, Verdict::Ok, &["comes as it was placed"]);
    assert!(value(&profile, "dynamic") > 0.0);
    database.say("DELETE FROM orders WHERE number = 20");
    expect(&check(&[]), Verdict::Unacceptable, &["comes without 'orders: 42', and says 'orders: 22'"]);
    database.say("INSERT INTO orders VALUES (20)");
    server.freeze();
    expect(&check(&[("--deadline", "4")]), Verdict::Unacceptable, &["nothing comes from the dynamic page"]);
    server.thaw();
    wait_until("it goes on", || check(&[]).verdict == Verdict::Ok);
    drop(server);
    expect(&check(&[]), Verdict::Unacceptable, &stopped);
    expect(&verify("postgresql", &[]), Verdict::Unacceptable, &["connection refused", "pg_lsclusters"]);
}

#[test]
fn what_cannot_be_asked_is_unknown() {
    expect(
        &verify("web", &[("port", "eighty")]),
        Verdict::Unknown,
        &["port = \"eighty\" means nothing: it is to be a port"],
    );
}

#[test]
fn what_access_files_of_apache_say_is_no_fault_and_what_they_should_is_missed() {
    if !own_network("what_access_files_of_apache_say_is_no_fault_and_what_they_should_is_missed") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let login = "AuthType Basic\nAuthName x\nAuthUserFile /srv/users\n<Limit GET POST>\nRequire valid-user\n</Limit>\n";
    let all = [
        ("login", login, "it answers"),
        ("closed", "<FilesMatch \"\\.(html|inc)$\">\nRequire all denied\n</FilesMatch>\n", "it answers"),
        ("moved", "Redirect 301 / https://new.example/\n", "it answers"),
        ("rule", "RewriteEngine on\nRewriteRule ^(.*)\\.html$ /$1 [R=301,L]\n", "it answers"),
        ("off", "Redirect 503 /\n", "answers 503, as it is configured to"),
        (
            "blog",
            "RewriteEngine On\nRewriteRule .* - [E=X:%{HTTP:Authorization}]\nRewriteRule ^index\\.php$ - [L]\n\
             RewriteCond %{REQUEST_FILENAME} !-f\nRewriteCond %{REQUEST_FILENAME} !-d\nRewriteRule . /index.php [L]\n",
            "as it was placed",
        ),
    ];
    let mut hosts = "<Directory /srv>\nAllowOverride All\n</Directory>\n".to_owned();
    for (name, file, _) in all {
        write(tree, &format!("srv/{name}/.htaccess"), file);
        write(tree, &format!("srv/{name}/index.html"), "welcome");
        hosts.push_str(&format!(
            "<VirtualHost *:80>\nServerName {name}.example\nDocumentRoot /srv/{name}\n</VirtualHost>\n"
        ));
    }
    write(tree, "srv/users", "");
    let modules =
        ["mpm_event", "authz_core", "authn_core", "auth_basic", "authn_file", "authz_user", "alias", "rewrite", "dir"];
    apache_conf(tree, &modules, &hosts);
    let found = found(tree);
    let check = |name: &str| verify_found("web", &found, &format!("{name}.example:80"), &[]);
    let _server = apache(tree);
    for (name, _, word) in all {
        expect(&check(name), Verdict::Ok, &[word]);
    }
    write(tree, "srv/login/.htaccess", "");
    expect(&check("login"), Verdict::Unacceptable, &["/ should be restricted", "open to anybody"]);
    fs::remove_file("/srv/blog/atlas-verify.html").unwrap();
    expect(&check("blog"), Verdict::Unacceptable, &["/atlas-verify.html"]);
}

#[test]
fn who_shows_no_certificate_where_apache_asks_for_one_in_a_section_is_refused_as_configured() {
    if !own_network("who_shows_no_certificate_where_apache_asks_for_one_in_a_section_is_refused_as_configured") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    certificate(tree, "90");
    let host = |name: &str, section: &str| {
        format!(
            "<VirtualHost *:443>\nServerName {name}.example\nDocumentRoot /srv/www\nSSLEngine on\n\
            SSLCertificateFile /srv/tls/cert.pem\nSSLCertificateKeyFile /srv/tls/cert-key.pem\n\
            SSLCACertificateFile /srv/tls/cert.pem\n{section}\n</VirtualHost>\n"
        )
    };
    let location = "<Location />\nSSLVerifyClient require\n</Location>";
    let directory = "<Directory /srv/www>\nSSLVerifyClient require\n</Directory>";
    let hosts = [host("location", location), host("directory", directory)].concat();
    let modules = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "dir"];
    let conf = |hosts: &str| apache_conf(tree, &modules, &format!("Listen 443\n{hosts}"));
    conf(&hosts);
    write(tree, "srv/www/index.html", "welcome");
    let found = found(tree);
    let check = |name: &str| verify_found("web", &found, &format!("{name}.example:443"), &[("trust", "no")]);
    let server = apache(tree);
    for name in ["location", "directory"] {
        expect(&check(name), Verdict::Ok, &[]);
    }
    drop(server);
    conf(&hosts.replace("SSLVerifyClient require", "SSLVerifyClient none"));
    let _server = apache(tree);
    expect(&check("location"), Verdict::Slow, &["should turn away who comes so, and answers 200"]);
}

#[test]
fn a_chain_that_lacks_an_intermediate_or_whose_intermediate_ends_is_told() {
    if !own_network("a_chain_that_lacks_an_intermediate_or_whose_intermediate_ends_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    let by = |issuer: &str| {
        ["-CA", "-CAkey"]
            .map(str::to_owned)
            .into_iter()
            .zip([".pem", "-key.pem"])
            .flat_map({
                let issuer = issuer.to_owned();
                move |(option, end)| [option, format!("/srv/tls/{issuer}{end}")]
            })
            .collect::<Vec<String>>()
    };
    let make = |file: &str, name: &str, days: &str, more: &[String]| {
        certificate_of(tree, file, name, days, &more.iter().map(String::as_str).collect::<Vec<_>>());
    };
    make("root", "A root", "900", &[]);
    run("mount", &["--bind", "/srv/tls/root.pem", "/etc/ssl/certs/ca-certificates.crt"]);
    make("chain", "An intermediate", "90", &by("root"));
    make("cert", "shop.example", "80", &by("chain"));
    // One of a public issuer, with nothing beside it; one that vouches for itself, as ssl-cert makes it.
    let receipt = ["-addext", "1.3.6.1.4.1.11129.2.4.2=DER:0402000a"].map(str::to_owned);
    make("public", "public.example", "80", &[&by("chain")[..], &receipt].concat());
    make("own", "own.example", "80", &[]);
    let site = |name: &str, dir: &str| {
        fs::create_dir_all(format!("/srv/{dir}")).unwrap();
        for end in [".pem", "-key.pem"] {
            let _ = fs::copy(format!("/srv/tls/{name}{end}"), format!("/srv/{dir}/{name}{end}"));
        }
        format!(
            "server {{ listen 443 ssl; server_name {name}.example; ssl_certificate /srv/{dir}/{name}.pem;\n\
            ssl_certificate_key /srv/{dir}/{name}-key.pem; root /srv/shop; }}\n"
        )
    };
    let shop = site("cert", "shop").replace("cert.example", "shop.example").replace("/srv/shop/cert", "/srv/tls/cert");
    write(tree, "etc/nginx/nginx.conf", NGINX);
    write(tree, "etc/nginx/sites-enabled/all", &[shop, site("public", "public"), site("own", "own")].concat());
    let found = found(tree);
    let issuers: Vec<_> = found.instances.iter().map(|one| one.options.get("issuer").map(String::as_str)).collect();
    assert_eq!(issuers, [Some("incomplete"), Some("incomplete"), Some("unknown")], "{found:?}");
    let check = |name: &str| verify_found("web", &found, &format!("{name}.example:443"), &[]);
    let serve = || Daemon::start("nginx", &["-c", tree.join("etc/nginx/nginx.conf").to_str().unwrap()], 443);
    let server = serve();
    for name in ["shop", "public"] {
        let words = ["clients may not know the issuer", "the chain lacks an intermediate", "fullchain.pem"];
        expect(&check(name), Verdict::Slow, &words);
    }
    expect(&check("own"), Verdict::Ok, &["comes as it was placed"]);
    drop(server);
    let whole = || {
        let all = ["cert", "chain"].map(|file| fs::read_to_string(format!("/srv/tls/{file}.pem")).unwrap());
        fs::write("/srv/tls/cert.pem", all.concat()).unwrap();
    };
    whole();
    let server = serve();
    expect(&check("shop"), Verdict::Ok, &["comes as it was placed"]);
    assert!((79.0..=80.0).contains(&value(&check("shop"), "certificate")));
    drop(server);
    make("chain", "An intermediate", "10", &by("root"));
    make("cert", "shop.example", "80", &by("chain"));
    whole();
    let _server = serve();
    let ends = check("shop");
    expect(
        &ends,
        Verdict::Slow,
        &["the intermediate certificate of CN = An intermediate", "is sent with it, expires on"],
    );
    assert!((9.0..=10.0).contains(&value(&ends, "certificate")), "{ends:?}");
}

#[test]
fn a_certificate_for_another_kind_of_key_that_ends_is_told() {
    if !own_network("a_certificate_for_another_kind_of_key_that_ends_is_told") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    certificate(tree, "2");
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    certificate_of(tree, "ec", "shop.example", "80", &ec);
    write(tree, "etc/nginx/nginx.conf", NGINX);
    let site = "server { listen 80; listen 443 ssl; server_name shop.example; root /srv/shop;\n\
        ssl_certificate /srv/tls/ec.pem; ssl_certificate_key /srv/tls/ec-key.pem;\n\
        ssl_certificate /srv/tls/cert.pem; ssl_certificate_key /srv/tls/cert-key.pem; }\n";
    write(tree, "etc/nginx/sites-enabled/shop", site);
    write(tree, "srv/shop/x", "");
    let found = found(tree);
    let check = || verify_found("web", &found, "shop.example:443", &[]);
    let server = nginx(tree);
    expect(&check(), Verdict::Unacceptable, &["the certificate for RSA expires on", "renew"]);
    drop(server);
    certificate(tree, "70");
    let _server = nginx(tree);
    expect(&check(), Verdict::Ok, &["comes as it was placed"]);
    assert!((69.0..=70.0).contains(&value(&check(), "certificate")));
}
