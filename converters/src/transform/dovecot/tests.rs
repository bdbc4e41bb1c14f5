use super::*;

/// `dovecot.conf` as 2.4 has it, without what it begins with.
fn newer(text: &str) -> String {
    let [_, [newer, _]] = both(text, "").unwrap();
    let rest = newer.strip_prefix("dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n").unwrap();
    let rest = rest.strip_prefix("protocols = imap pop3 lmtp\n").unwrap_or(rest);
    let rest = rest.strip_prefix("auth_allow_weak_schemes = yes\n").unwrap_or(rest);
    rest.strip_prefix('\n').unwrap_or(rest).to_owned()
}

/// `dovecot.conf` as 2.3 has it, without the protocols that are not served.
fn older(text: &str) -> String {
    let [[older, _], _] = both(&format!("dovecot_config_version = 2.4.0\n{text}"), "").unwrap();
    older.strip_prefix("protocols = none\n\n").unwrap_or(&older).to_owned()
}

#[test]
fn both_versions_say_the_same_in_their_own_words() {
    for (of_2_3, of_2_4) in [
        ("disable_plaintext_auth = no # a\n", "auth_allow_cleartext = yes # a\n"),
        (
            "ssl_cert = </etc/a.pem\nssl_dh = </d.pem\n",
            "ssl_server_cert_file = /etc/a.pem\nssl_server_dh_file = /d.pem\n",
        ),
        ("mail_location = maildir:~/Maildir # b\n", "mail_driver = maildir # b\nmail_path = ~/Maildir\n"),
        (
            "protocols = imap\nmail_plugins = $mail_plugins quota zlib\n",
            "protocols = imap\nmail_plugins {\n  quota = yes\n  mail_compress = yes\n}\n",
        ),
        ("passdb {\n  driver = pam\n}\n", "passdb pam {\n}\n"),
        ("protocols = none\n", "protocols = \n"),
        (
            "userdb {\n  driver = passwd-file\n  args = /u\n  default_fields = home=/h/%u mail=maildir:~/M\n}\n",
            "userdb passwd-file {\n  passwd_file_path = /u\n  fields {\n    home:default = /h/%{user}\n    mail_driver:default = maildir\n    mail_path:default = ~/M\n  }\n}\n",
        ),
        (
            "login_log_format_elements = $login_log_format_elements port=%a\nmail_temp_dir = \"/tmp/%n\"\n",
            "login_log_format_elements = $SET:login_log_format_elements port=%{local_port}\nmail_temp_dir = \"/tmp/%{user | username}\"\n",
        ),
        ("namespace a {\n  prefix = %u/\n}\n", "namespace a {\n  prefix = %{user}/\n}\n"),
        ("local_name a {\n  ssl = no\n}\n", "local_name a {\n  ssl = no\n}\n"),
        (
            "userdb {\n  driver = static\n  args = uid=vmail home=/v/%n\n}\n",
            "userdb static {\n  fields {\n    uid = vmail\n    home = /v/%{user | username}\n  }\n}\n",
        ),
        (
            "userdb {\n  driver = passwd\n  args = blocking=no\n  default_fields = home=/a\n  override_fields = uid=b\n}\n",
            "userdb passwd {\n  use_worker = no\n  fields {\n    home:default = /a\n    uid = b\n  }\n}\n",
        ),
        (
            "service a {\n  service_count = 0\n  idle_kill = 3 mins\n  inet_listener b {\n    address = ::1\n  }\n  user = $default_login_user\n}\n",
            "service a {\n  restart_request_count = unlimited\n  idle_kill_interval = 3 mins\n  inet_listener b {\n    listen = ::1\n  }\n  user = $SET:default_login_user\n}\n",
        ),
        (
            "plugin {\n  sieve = file:~/s;active=~/.a\n}\n",
            "  sieve_script personal {\n    path = ~/s\n    active_path = ~/.a\n  }\n",
        ),
        (
            "plugin {\n  sieve_before = /a\n  sieve_before2 = /b\n}\n",
            "  sieve_script before {\n    type = before\n    precedence = 1\n    path = /a\n  }\n  sieve_script before2 {\n    type = before\n    precedence = 2\n    path = /b\n  }\n",
        ),
        (
            "plugin {\n  quota = count:A b:hidden\n  quota_rule = *:storage=1G\n}\n",
            "  quota \"A b\" {\n    driver = count\n    hidden = yes\n  }\n  quota_storage_size = 1G\n",
        ),
        (
            "plugin {\n  quota = maildir:Q\n  quota_warning3 = -storage=100%% q below %u\n}\n",
            "  quota \"Q\" {\n    driver = maildir\n  }\n  quota \"Q\" {\n    warning quota_warning3 {\n      quota_storage_percentage = 100\n      threshold = under\n      \
             execute q {\n        args = below %{user}\n      }\n    }\n  }\n",
        ),
        (
            "plugin {\n  imapsieve_mailbox1_name = Junk\n  imapsieve_mailbox1_causes = COPY\n  imapsieve_mailbox1_before = file:/l.sieve\n}\n",
            "  mailbox Junk {\n    sieve_script imapsieve_mailbox1_before {\n      type = before\n      cause = copy\n      path = /l.sieve\n    }\n  }\n",
        ),
        ("plugin {\n  acl = vfile::cache_secs=30\n}\n", "  acl_driver = vfile\n  acl_cache_ttl = 30 secs\n"),
        ("plugin {\n  fts = solr\n  fts_solr = url=http://a/\n}\n", "  fts solr {\n  }\n  fts_solr_url = http://a/\n"),
    ] {
        assert_eq!(newer(of_2_3), of_2_4);
        let again = older(of_2_4);
        let bare = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        assert_eq!(bare(&again), bare(of_2_3), "of {of_2_4}");
    }
}

#[test]
fn what_has_no_certain_counterpart_stays_and_is_refused() {
    for text in [
        "ssl_cert = -----BEGIN\n",
        "mail_location = imapc:\n",
        "imap_id_log = *\n",
        "passdb {\n  driver = pam\n  args = cache_key=%u dovecot\n}\n",
        "passdb {\n  driver = shadow\n}\n",
        "passdb {\n  driver = sql\n  args = /elsewhere/sql.conf\n}\n",
        "userdb {\n  driver = static\n  args = uid=vmail quota_rule=Trash:storage=1G\n}\n",
        "userdb {\n  driver = passwd-file\n  args = users\n}\n",
        "dict {\n  quota = mysql:/etc/dovecot/dovecot-dict-sql.conf.ext\n}\n",
        "plugin {\n  expire = Trash\n}\n",
        "plugin {\n  quota = dict:User quota::proxy::quota\n}\n",
        "plugin {\n  quota_grace = 10%%\n}\n",
        "plugin {\n  sieve = ldap:/etc/sieve.conf\n}\n",
        "plugin {\n  sieve_extensions = +imapflags\n}\n",
        "plugin {\n  acl = vfile:/etc/dovecot/acls\n}\n",
        "plugin {\n  zlib_save = xz\n}\n",
    ] {
        assert_eq!(newer(text), text);
    }
    // What 2.4 would take, it gets under a name that it does not know; it is the old one again on the way back.
    for (text, refused) in [
        ("mail_home = /v/%Hu\n", "unconverted_mail_home = /v/%Hu\n"),
        ("rejection_reason = \"No:%n%r\"\n", "unconverted_rejection_reason = \"No:%n%r\"\n"),
        ("mail_plugins = $mail_plugins stats\n", "unconverted_mail_plugins = $mail_plugins stats\n"),
        ("service director {\n  user = x\n}\n", "unconverted_service director {\n  user = x\n}\n"),
    ] {
        assert_eq!((newer(text).as_str(), older(refused).as_str()), (refused, text));
    }
    for text in [
        "passdb lua {\n  lua_file = /x\n}\n",
        "quota a {\n  driver = imapc\n}\n",
        "mail_driver = maildir\n",
        "mysql a {\n}\n",
        "mail_plugins {\n  quota = no\n}\n",
    ] {
        assert_eq!(older(text), text);
    }
}

#[test]
fn files_of_the_other_version_already_are_left_alone() {
    let of_2_4 = "dovecot_config_version = 2.4.0\nmail_driver = maildir\nmail_path = ~/Maildir\n";
    let of_2_3 = "disable_plaintext_auth = no\n";
    assert_eq!(both(of_2_4, "").unwrap()[1][0], of_2_4);
    assert_eq!(both(of_2_3, "").unwrap()[0][0], of_2_3);
}

#[test]
fn the_version_stands_before_the_first_setting_and_after_the_comments() {
    let text = "# Mail\n\n# Which\nprotocols = imap\n";
    let newer =
        "# Mail\n\ndovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n\n# Which\nprotocols = imap\n";
    assert_eq!(both(text, "").unwrap()[1][0], newer);
    assert_eq!(
        both("", "").unwrap()[1][0],
        "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\nprotocols = imap pop3 lmtp\n"
    );
    assert!(both("# a", "").unwrap()[1][0].starts_with("# a\ndovecot_config"));
}

#[test]
fn blocks_of_one_driver_get_names_of_their_own() {
    let one = "passdb {\n  driver = passwd-file\n  args = /a\n}\n";
    let newer = newer(&format!("{one}{one}"));
    assert!(newer.contains("passdb passwd-file {\n  default_password_scheme = CRYPT\n  passwd_file_path = /a\n}\npassdb passwd-file2 {\n  driver = passwd-file\n"), "{newer}");
    assert_eq!(older(&newer), format!("{one}{one}").replace("args = ", "args = scheme=CRYPT "));
}

/// A password without the name of its scheme is another one in the other version.
#[test]
fn what_each_version_takes_for_granted_of_passwords_is_said_in_the_other() {
    let file = older("passdb passwd-file {\n  passwd_file_path = /a\n}\n");
    assert_eq!(file, "passdb {\n  driver = passwd-file\n  args = scheme=PLAIN /a\n}\n");
    let main = "dovecot_config_version = 2.4.0\npassdb sql {\n  !include_try /etc/dovecot/dovecot-sql.conf.ext\n}\n";
    let [[_, sql], _] = both(main, "passdb_sql_query = SELECT 1").unwrap();
    assert_eq!(sql, "password_query = SELECT 1\ndefault_pass_scheme = PLAIN\n");
    let [_, [_, sql]] =
        both("passdb {\n  driver = sql\n  args = /etc/dovecot/dovecot-sql.conf.ext\n}\n", "driver = mysql").unwrap();
    assert_eq!(sql, "sql_driver = mysql\npassdb_default_password_scheme = MD5\n");
}

#[test]
fn files_that_dovecot_does_not_read_take_no_names_away() {
    let main = "namespace {\n  inbox = yes\n}\nplugin {\n  quota = maildir:User quota\n  quota_rule2 = Trash:storage=+100M\n}\n";
    let source = |path: &str, text: &str| Source {
        path: TreePath::parse(path).unwrap(),
        text: text.to_owned(),
        nodes: syntax::parse(text).unwrap(),
    };
    let converted = |include: &str| {
        let debians = source("/etc/dovecot/conf.d/10-mail.conf", "namespace inbox {\n  inbox = yes\n}\n");
        let sources = vec![debians, source(MAIN, &format!("{include}{main}"))];
        let changed = convert(sources, &BTreeSet::new(), convert_newer);
        changed.into_iter().find(|(path, _)| path.to_string() == MAIN).unwrap().1
    };
    let alone = converted("");
    assert_eq!((alone.matches("namespace inbox {").count(), alone.contains("inbox2")), (2, false), "{alone}");
    assert!(converted("!include conf.d/*.conf\n").contains("namespace inbox2 {"));
}

#[test]
fn the_time_grows_with_the_file_and_no_faster() {
    let lines: [fn(usize) -> String; 10] = [
        |_| "a = b \\\n".into(),
        |_| "x {\n".into(),
        |_| "mail_location = a:b\n".into(),
        |_| "# c\n".into(),
        |_| "passdb {\n  driver = passwd-file\n  args = /a\n}\n".into(),
        |number| format!("namespace {{\n  prefix = a{number}\n}}\n"),
        |number| {
            format!(
                "plugin {{\n  sieve_before{number} = x\n  quota{number} = count:a{number}\n  quota{number}_rule = *:storage=1\n}}\n"
            )
        },
        |number| format!("plugin {{\n  imapsieve_mailbox{number}_name = x\n}}\n"),
        |number| format!("quota a{number} {{\n}}\nmailbox a {{\n}}\nsieve_script b{number} {{\n  path = x\n}}\n"),
        |number| format!("connect = host=a{number}\nmysql a {{\n}}\npass_attrs = a=b\n"),
    ];
    let inside = |count: usize| -> String {
        let lines: String = (0..count).map(|number| format!("imapsieve_mailbox{number}_name = x\n")).collect();
        format!("plugin {{\n{lines}}}\n")
    };
    // The time that this thread ran, in nanoseconds: others may keep the processors busy.
    let ran = || -> u64 {
        let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        said.split_whitespace().next().unwrap().parse().unwrap()
    };
    let times = |text: String| {
        let begun = ran();
        let _ = both(&text, &text);
        let _ = both(&format!("dovecot_config_version = 2.4.0\n{text}"), &text);
        std::time::Duration::from_nanos(ran() - begun)
    };
    let grows = |few, many, what: &str| {
        let (few, many) = (times(few), times(many));
        // Eight times as much takes sixty-four times as long where each line looks at each other.
        assert!(many < few * 30 + std::time::Duration::from_millis(400), "{what:?}: {few:?} and {many:?}");
    };
    for line in lines {
        let of = |count: usize| (0..count).map(line).collect::<String>();
        grows(of(200), of(1600), &line(1));
    }
    grows(inside(150), inside(1200), "inside");
}
