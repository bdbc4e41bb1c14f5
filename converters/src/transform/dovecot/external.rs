//! The files that `passdb` and `userdb` of 2.3 name for SQL and LDAP. In 2.4 they are parts of the configuration like others, with full names, and so
//! stay what they are: files of their own, closed to others.

use super::{
    auth,
    syntax::{Block, Node, Setting, settings},
    variables::{self, Scope},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sql,
    Ldap,
}

/// With the values that stand without it: 2.3's for a passdb, where 2.4 has another one.
const SCHEME: &str = "default_pass_scheme";
const NEWER_SCHEME: &str = "passdb_default_password_scheme";

/// Settings whose value is expanded, and those that are as they are.
const SQL: [(&str, &str, bool); 6] = [
    ("driver", "sql_driver", false),
    (SCHEME, NEWER_SCHEME, false),
    ("password_query", "passdb_sql_query", true),
    ("update_query", "passdb_sql_update_query", true),
    ("user_query", "userdb_sql_query", true),
    ("iterate_query", "userdb_sql_iterate_query", true),
];
const LDAP: [(&str, &str, bool); 19] = [
    ("uris", "ldap_uris", false),
    ("dn", "ldap_auth_dn", false),
    ("dnpass", "ldap_auth_dn_password", false),
    ("base", "ldap_base", true),
    ("deref", "ldap_deref", false),
    ("scope", "ldap_scope", false),
    ("ldap_version", "ldap_version", false),
    ("tls", "ldap_starttls", false),
    ("tls_ca_cert_file", "ssl_client_ca_file", false),
    ("tls_ca_cert_dir", "ssl_client_ca_dir", false),
    ("tls_cert_file", "ssl_client_cert_file", false),
    ("tls_key_file", "ssl_client_key_file", false),
    ("debug_level", "ldap_debug_level", false),
    ("auth_bind", "passdb_ldap_bind", false),
    ("auth_bind_userdn", "passdb_ldap_bind_userdn", true),
    ("pass_filter", "passdb_ldap_filter", true),
    ("user_filter", "userdb_ldap_filter", true),
    ("iterate_filter", "userdb_ldap_iterate_filter", true),
    (SCHEME, NEWER_SCHEME, false),
];
/// What 2.3 takes where nothing is said, and 2.4 does not.
const LDAP_DEFAULTS: [(&str, &str); 7] = [
    ("user_attrs", "homeDirectory=home,uidNumber=uid,gidNumber=gid"),
    ("user_filter", "(&(objectClass=posixAccount)(uid=%u))"),
    ("pass_attrs", "uid=user,userPassword=password"),
    ("pass_filter", "(&(objectClass=posixAccount)(uid=%u))"),
    ("iterate_attrs", "uid=user"),
    ("iterate_filter", "(objectClass=posixAccount)"),
    (SCHEME, "CRYPT"),
];
const SQL_DEFAULTS: [(&str, &str); 1] = [(SCHEME, "MD5")];
/// Lists of attributes, with the blocks that they are in 2.4, and whose they are.
const ATTRIBUTES: [(&str, &str, &str); 3] = [
    ("user_attrs", "userdb_fields", "userdb"),
    ("pass_attrs", "passdb_fields", "passdb"),
    ("iterate_attrs", "userdb_ldap_iterate_fields", "userdb"),
];
/// Words of a connection to MySQL that 2.4 has as settings.
const MYSQL: [&str; 6] = ["port", "user", "password", "dbname", "option_file", "option_group"];

impl Kind {
    fn names(self) -> &'static [(&'static str, &'static str, bool)] {
        match self {
            Kind::Sql => &SQL,
            Kind::Ldap => &LDAP,
        }
    }

    fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::Sql => &SQL_DEFAULTS,
            Kind::Ldap => &LDAP_DEFAULTS,
        }
    }
}

/// The file of 2.4. What has no certain counterpart keeps its name, which 2.4 does not know.
pub(super) fn newer(nodes: Vec<Node>, kind: Kind) -> Vec<Node> {
    let there: Vec<String> = settings(&nodes).map(|one| one.key.clone()).collect();
    // A file of comments alone is no configuration that is in use; an empty 'base =' is how Debian ships LDAP's.
    let in_use = settings(&nodes).any(|one| !one.value.is_empty());
    let driver = settings(&nodes).filter(|one| one.key == "driver").last().map(Setting::text);
    let mut out = Vec::new();
    for node in nodes {
        match node {
            Node::Set(setting) => out.extend(newer_setting(setting, kind, driver.as_deref())),
            node => out.push(node),
        }
    }
    if in_use {
        close_last(&mut out);
    }
    for (key, value) in kind.defaults().iter().filter(|(key, _)| in_use && !there.iter().any(|there| there == key)) {
        out.extend(newer_setting(Setting::new("", key, value), kind, None));
    }
    out
}

/// Ends the last line, so that another may follow.
fn close_last(nodes: &mut [Node]) {
    let end = match nodes.last_mut() {
        Some(Node::Text(last)) => last,
        Some(Node::Set(last)) => &mut last.tail,
        Some(Node::Block(last)) => &mut last.close,
        None => return,
    };
    if !end.ends_with('\n') {
        end.push('\n');
    }
}

fn newer_setting(setting: Setting, kind: Kind, driver: Option<&str>) -> Vec<Node> {
    let made = match (kind, setting.key.as_str()) {
        (Kind::Sql, "connect") => driver.and_then(|driver| connection(&setting, driver)),
        (Kind::Ldap, "hosts") => {
            let uris: Vec<String> = setting.text().split_whitespace().map(|host| format!("ldap://{host}")).collect();
            Some(vec![Node::Set(setting.becomes("ldap_uris", &uris.join(" ")))])
        }
        (Kind::Ldap, "blocking") if setting.is_no() => {
            Some(vec![super::syntax::commented(&Node::Set(setting.clone()))])
        }
        (Kind::Ldap, "tls_require_cert") => match setting.text().as_str() {
            "demand" | "hard" => Some(vec![Node::Set(setting.becomes("ssl_client_require_valid_cert", "yes"))]),
            "never" => Some(vec![Node::Set(setting.becomes("ssl_client_require_valid_cert", "no"))]),
            _ => None,
        },
        (Kind::Ldap, key) if ATTRIBUTES.iter().any(|(attributes, ..)| *attributes == key) => attributes(&setting),
        (_, key) => kind.names().iter().find(|(older, ..)| *older == key).and_then(|(_, newer, is_expanded)| {
            let is_query = kind == Kind::Sql && *is_expanded;
            if is_query && gives_old_fields(&setting.text()) {
                return None;
            }
            // As it is written, with its lines; what 2.3 does not expand must not be expanded by 2.4.
            let value =
                if *is_expanded { variables::newer(&setting.value, Scope::Auth)? } else { setting.value.clone() };
            let is_safe = *is_expanded || !value.contains("%{");
            is_safe.then(|| vec![Node::Set(Setting { key: (*newer).to_owned(), value, ..setting.clone() })])
        }),
    };
    made.unwrap_or_else(|| vec![Node::Set(setting)])
}

/// Whether a query gives fields that 2.4 calls otherwise, with values that only the database knows.
fn gives_old_fields(query: &str) -> bool {
    let lower = query.to_ascii_lowercase();
    let selected = lower.split(" from ").next().unwrap_or_default();
    selected.split(',').any(|item| {
        let name = item.split_whitespace().last().unwrap_or_default();
        let name = name.rsplit('.').next().unwrap_or_default().trim_matches(['`', '"', '\'', '(', ')']);
        let name = name.strip_prefix("userdb_").unwrap_or(name);
        name == "mail" || name.starts_with("quota")
    })
}

/// `connect = host=… user=…`.
fn connection(setting: &Setting, driver: &str) -> Option<Vec<Node>> {
    let text = setting.text();
    let indent = setting.indent.as_str();
    if text.contains("%{") {
        return None;
    }
    if driver == "sqlite" {
        return (!text.contains(char::is_whitespace)).then(|| vec![Node::Set(setting.becomes("sqlite_path", &text))]);
    }
    let mut hosts = Vec::new();
    let mut others = Vec::new();
    for word in text.split_whitespace() {
        match word.split_once('=')? {
            ("host", host) => hosts.push(host),
            (key, value) => others.push((key, value)),
        }
    }
    let known = |key: &str| MYSQL.contains(&key);
    let inner = format!("{indent}  ");
    let set = |indent: &str| {
        others.iter().map(|(key, value)| Node::Set(Setting::new(indent, key, value))).collect::<Vec<_>>()
    };
    let nodes = match driver {
        "mysql" if others.iter().all(|(key, _)| known(key)) => set(&inner),
        // The connections to a server are another setting in 2.4, and another number.
        "pgsql" if others.iter().all(|(key, _)| *key != "maxconns") => {
            vec![Node::Block(Block::new(&inner, "parameters", "", set(&format!("{inner}  "))))]
        }
        _ => return None,
    };
    let blocks: Vec<Node> =
        hosts.iter().map(|host| Node::Block(Block::new(indent, driver, host, nodes.clone()))).collect();
    (!blocks.is_empty()).then_some(blocks)
}

/// `attribute=field`, `=field=template`, `attribute=field=template`.
fn attributes(setting: &Setting) -> Option<Vec<Node>> {
    let (_, block, kind) = ATTRIBUTES.iter().find(|(attributes, ..)| *attributes == setting.key)?;
    let mut nodes = Vec::new();
    let inner = format!("{}  ", setting.indent);
    let text = setting.text();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let mut parts = item.splitn(3, '=');
        let (attribute, field, template) = (parts.next()?, parts.next()?, parts.next());
        let value = format!("%{{ldap:{attribute}}}");
        let template = match (attribute, template) {
            ("", Some(template)) if !template.contains("%$") => template.to_owned(),
            ("", _) => return None,
            (_, Some(template)) => template.replace("%$", &value),
            (_, None) => value,
        };
        let made = auth::field(kind, field, &template)?;
        nodes.extend(made.iter().map(|(key, value)| Node::Set(Setting::new(&inner, key, value))));
    }
    Some(vec![Node::Block(Block::new(&setting.indent, block, "", nodes))])
}

/// The file of 2.3.
pub(super) fn older(nodes: Vec<Node>, kind: Kind) -> Vec<Node> {
    let driver = settings(&nodes).filter(|one| one.key == "sql_driver").last().map(Setting::text).unwrap_or_default();
    let mut out: Vec<Node> = Vec::new();
    let mut connections: Vec<(String, String)> = Vec::new();
    for node in nodes {
        let made = match &node {
            Node::Set(setting) => older_setting(setting, kind),
            Node::Block(block) if kind == Kind::Ldap => older_attributes(block),
            Node::Block(block) if block.kind == driver => older_connection(block).map(|(host, rest)| {
                // Several hosts are one line in 2.3.
                let line = Setting::new(&block.indent, "connect", &format!("host={host}{rest}"));
                connections.push((host, rest));
                Node::Set(line)
            }),
            _ => None,
        };
        out.push(made.unwrap_or(node));
    }
    merge_connections(&mut out, &connections);
    // 2.4 takes passwords as they are where nothing else is said.
    let has = |key: &str| settings(&out).any(|one| one.key == key);
    let is_silent = has("password_query") && !has(SCHEME);
    if is_silent {
        close_last(&mut out);
        out.push(Node::Set(Setting::new("", SCHEME, "PLAIN")));
    }
    out
}

fn merge_connections(nodes: &mut Vec<Node>, connections: &[(String, String)]) {
    let [(_, first), others @ ..] = connections else { return };
    if others.is_empty() || others.iter().any(|(_, rest)| rest != first) {
        return;
    }
    let hosts: Vec<String> = connections.iter().map(|(host, _)| format!("host={host}")).collect();
    let whole = format!("{}{first}", hosts.join(" "));
    let mut is_first = true;
    nodes.retain_mut(|node| match node {
        Node::Set(setting) if setting.key == "connect" => {
            if is_first {
                *setting = setting.becomes("connect", &whole);
            }
            std::mem::take(&mut is_first)
        }
        _ => true,
    });
}

fn older_setting(setting: &Setting, kind: Kind) -> Option<Node> {
    let made = match (kind, setting.key.as_str()) {
        (Kind::Sql, "sqlite_path") => setting.renamed("connect"),
        (Kind::Ldap, "ssl_client_require_valid_cert") => {
            setting.becomes("tls_require_cert", if setting.is_no() { "never" } else { "hard" })
        }
        (_, key) => {
            let (older, _, is_expanded) = kind.names().iter().find(|(_, newer, _)| *newer == key)?;
            let value =
                if *is_expanded { variables::older(&setting.value, Scope::Auth)? } else { setting.value.clone() };
            if !is_expanded && value.contains("%{") {
                return None;
            }
            Setting { key: (*older).to_owned(), value, ..setting.clone() }
        }
    };
    Some(Node::Set(made))
}

fn older_connection(block: &Block) -> Option<(String, String)> {
    let inner = match block.nodes.as_slice() {
        [Node::Block(parameters)] if block.kind == "pgsql" && parameters.kind == "parameters" => parameters,
        _ if block.kind == "pgsql" => return None,
        _ => block,
    };
    let mut words = String::new();
    for node in &inner.nodes {
        let Node::Set(setting) = node else { return None };
        let text = setting.text();
        if text.contains(char::is_whitespace)
            || text.is_empty()
            || block.kind == "mysql" && !MYSQL.contains(&setting.key.as_str())
        {
            return None;
        }
        words.push_str(&format!(" {}={text}", setting.key));
    }
    let host = block.bare_name();
    (!host.is_empty() && !host.contains(char::is_whitespace)).then_some((host, words))
}

fn older_attributes(block: &Block) -> Option<Node> {
    let (attributes, _, kind) =
        ATTRIBUTES.iter().find(|(_, newer, _)| *newer == block.kind && block.name.is_empty())?;
    let mut items = Vec::new();
    for (key, value) in auth::older_fields(kind, block)? {
        let attribute =
            value.strip_prefix("%{ldap:").and_then(|rest| rest.strip_suffix('}')).filter(|name| !name.contains('}'));
        let item = match attribute {
            Some(attribute) => format!("{attribute}={key}"),
            None => format!("={key}={value}"),
        };
        if item.contains(',') || key.contains(':') {
            return None;
        }
        items.push(item);
    }
    Some(Node::Set(Setting::new(&block.indent, attributes, &items.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::dovecot::syntax::{parse, print};

    fn to(text: &str, kind: Kind) -> String {
        print(&newer(parse(text).unwrap(), kind))
    }

    fn back(text: &str, kind: Kind) -> String {
        print(&older(parse(text).unwrap(), kind))
    }

    #[test]
    fn sql_has_full_names_and_a_block_for_each_host() {
        let older = "# closed\ndriver = mysql\nconnect = host=a host=b dbname=mail user=u password=p#x\ndefault_pass_scheme = SHA512-CRYPT\n\
                     password_query = SELECT email AS user, password \\\n  FROM users WHERE email = '%Lu' # c\n";
        let newer = "# closed\nsql_driver = mysql\nmysql a {\n  dbname = mail\n  user = u\n  password = p\n}\nmysql b {\n  dbname = mail\n  user = u\n  \
                     password = p\n}\npassdb_default_password_scheme = SHA512-CRYPT\npassdb_sql_query = SELECT email AS user, password \\\n  \
                     FROM users WHERE email = '%{user | lower}' # c\n";
        assert_eq!(to(older, Kind::Sql), newer);
        assert_eq!(back(newer, Kind::Sql), older.replace("#x", ""));
        let pgsql = "driver = pgsql\nconnect = host=/run/postgresql dbname=mail\ndefault_pass_scheme = MD5\n";
        assert!(to(pgsql, Kind::Sql).contains("pgsql /run/postgresql {\n  parameters {\n    dbname = mail\n  }\n}\n"));
        assert_eq!(back(&to(pgsql, Kind::Sql), Kind::Sql), pgsql);
        assert_eq!(
            to("driver = sqlite\nconnect = /x.db", Kind::Sql),
            "sql_driver = sqlite\nsqlite_path = /x.db\npassdb_default_password_scheme = MD5\n"
        );
    }

    #[test]
    fn fields_that_the_database_writes_as_2_3_has_them_are_refused_by_name() {
        for query in [
            "SELECT home, CONCAT('maildir:', x) AS mail FROM t",
            "SELECT quota_rule FROM t",
            "SELECT u.mail FROM u",
            "SELECT userdb_quota_rule",
        ] {
            let text = format!("driver = mysql\ndefault_pass_scheme = X\nuser_query = {query}\n");
            assert!(to(&text, Kind::Sql).contains("\nuser_query = "), "{query}");
        }
        for text in [
            "driver = mysql\nconnect = host=a ssl_ca=/x\n",
            "connect = host=a\n",
            "driver = pgsql\nconnect = dbname=x\n",
        ] {
            assert!(to(text, Kind::Sql).contains("connect = "), "{text}");
        }
        let where_alone = "user_query = SELECT home FROM t WHERE mail = '%u'\n";
        assert!(
            to(where_alone, Kind::Sql).starts_with("userdb_sql_query = SELECT home FROM t WHERE mail = '%{user}'\n")
        );
    }

    #[test]
    fn ldap_says_what_2_3_takes_for_granted() {
        let older = "hosts = a b:3890\nbase = dc=example\nauth_bind = yes\nuser_attrs = homeDirectory=home,=uid=vmail,quota=quota_rule=*:bytes=%$\n";
        let newer = to(older, Kind::Ldap);
        assert!(newer.starts_with("ldap_uris = ldap://a ldap://b:3890\nldap_base = dc=example\npassdb_ldap_bind = yes\nuserdb_fields {\n  \
             home = %{ldap:homeDirectory}\n  uid = vmail\n  quota_storage_size = %{ldap:quota}B\n}\n"), "{newer}");
        assert!(newer.contains("\nuserdb_ldap_filter = (&(objectClass=posixAccount)(uid=%{user}))\n"));
        assert!(newer.contains("\npassdb_default_password_scheme = CRYPT\n"));
        let again = back(&newer, Kind::Ldap);
        assert!(
            again.contains("\nuser_attrs = homeDirectory=home,=uid=vmail,=quota_rule=*:storage=%{ldap:quota}B\n"),
            "{again}"
        );
        assert!(again.contains("\npass_attrs = uid=user,userPassword=password\n"));
        assert_eq!(to("# all\nbase =\n", Kind::Ldap), "# all\nldap_base =\n");
    }
}
