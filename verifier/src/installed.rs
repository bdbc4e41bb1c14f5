//! `/etc/atlas/InstalledServices`: where the configuration of a service lies that is installed elsewhere than Debian does.
//!
//! ```toml
//! nginx = "/usr/local/nginx"
//! ```
//!
//! A line that means nothing would let a service vanish without a word: each is told, and the others count.

use std::collections::BTreeMap;

/// The names that count, and in what each has its configuration: one of these suffices, and an empty one is the path itself.
const KNOWN: [(&str, &[&str]); 15] = [
    ("apache", &["apache2.conf"]),
    ("bind", &["named.conf"]),
    ("chrony", &["chrony.conf"]),
    ("dnsmasq", &[""]),
    ("dovecot", &["dovecot.conf"]),
    ("exim", &[""]),
    ("mariadb", &[""]),
    ("nfs", &["exports"]),
    ("nginx", &["nginx.conf", "conf/nginx.conf"]),
    ("ntpsec", &["ntp.conf"]),
    ("postfix", &["main.cf"]),
    ("postgresql", &[""]),
    ("samba", &["smb.conf"]),
    ("ssh", &["sshd_config"]),
    ("unbound", &["unbound.conf"]),
];

/// The file as it counts.
#[derive(Debug, Default)]
pub(crate) struct Installed {
    /// The directory, or the file, of each service that it names.
    pub(crate) places: BTreeMap<String, String>,
    /// What of it means nothing.
    pub(crate) problems: Vec<String>,
}

impl Installed {
    /// Reads it; `is_there` says of an absolute path whether something is there.
    pub(crate) fn read(text: &str, is_there: impl Fn(&str) -> bool) -> Installed {
        let mut installed = Installed::default();
        let table: toml::Table = match toml::from_str(text) {
            Ok(table) => table,
            Err(error) => {
                installed
                    .problems
                    .push(format!("InstalledServices cannot be read, and does not count: {}", told(&error)));
                return installed;
            }
        };
        for (name, place) in table {
            match installed.line(&name, &place, &is_there) {
                Ok(place) => drop(installed.places.insert(name, place)),
                Err(why) => installed.problems.push(format!("InstalledServices: {name}: {why}")),
            }
        }
        installed
    }

    fn line(&self, name: &str, place: &toml::Value, is_there: &impl Fn(&str) -> bool) -> Result<String, String> {
        let Some((_, within)) = KNOWN.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
            return Err(format!("no service is called so; the names are {}", names.join(", ")));
        };
        let place = place.as_str().map(|place| place.trim_end_matches('/')).filter(|place| place.starts_with('/'));
        let place = place.ok_or("it has to be an absolute path, in quotes")?;
        for file in *within {
            let path = format!("{place}/{file}");
            let path = path.trim_end_matches('/');
            if is_there(path) {
                let dir = if file.is_empty() { Some(path) } else { path.rsplit_once('/').map(|(dir, _)| dir) };
                return Ok(dir.unwrap_or(path).to_owned());
            }
        }
        match within {
            [""] => Err(format!("{place} is not there")),
            all => Err(format!("{place} has no {}", all.join(" and no "))),
        }
    }
}

/// An error of TOML in one line.
fn told(error: &toml::de::Error) -> String {
    error.to_string().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_that_means_nothing_is_told_and_the_others_count() {
        let there = ["/usr/local/nginx/conf/nginx.conf", "/srv/bind/named.conf", "/opt/dnsmasq.conf"];
        let text = "nginx = \"/usr/local/nginx\"\nbind = \"/srv/bind/\"\ndnsmasq = \"/opt/dnsmasq.conf\"\n\
            samba = 5\napache = \"/nowhere\"\nngnix = \"/usr/local/nginx\"\nexim = \"etc/exim4\"\n";
        let installed = Installed::read(text, |path| there.contains(&path));
        let places: Vec<(&str, &str)> =
            installed.places.iter().map(|(name, place)| (name.as_str(), place.as_str())).collect();
        let expected = [("bind", "/srv/bind"), ("dnsmasq", "/opt/dnsmasq.conf"), ("nginx", "/usr/local/nginx/conf")];
        assert_eq!(places, expected);
        let told = installed.problems.join("\n");
        for words in
            ["samba: it has to be", "apache: /nowhere has no apache2.conf", "ngnix: no service", "exim: it has to be"]
        {
            assert!(told.contains(words), "{words}: {told}");
        }
        let broken = Installed::read("nginx = /usr", |_| true);
        assert!(broken.places.is_empty() && broken.problems[0].contains("cannot be read"), "{broken:?}");
    }
}
