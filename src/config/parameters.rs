//! `cache.parameters`: `key=value` pairs with commas between them. A password stands in the middle of it, and
//! whatever follows a slip may be a piece of one: so what is quoted in a message comes only from before that.

use routr_types::{host::HostPort, secret::Secret};

use super::{
    address, cache_url,
    rules::{self, REDIS_PORT},
    validation_error::{show, suggest},
};

/// All keys.
pub(super) const KEYS: [&str; 19] = [
    "host",
    "port",
    "username",
    "password",
    "passwordFile",
    "secure",
    "caFile",
    "certFile",
    "keyFile",
    "db",
    "prefix",
    "url",
    "socket",
    "sentinels",
    "sentinelMaster",
    "sentinelUsername",
    "sentinelPassword",
    "cluster",
    "nodes",
];

/// The port of a sentinel.
const SENTINEL_PORT: u16 = 26379;
/// Highest number of a database that is accepted; Redis has 16 unless configured otherwise.
const MAX_DATABASE: u32 = 65_535;
/// Longest prefix, in characters.
const MAX_PREFIX: usize = 64;

/// Parameters as the text has them, before anything is looked up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) password_file: Option<String>,
    pub(super) secure: bool,
    pub(super) ca_file: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) database: u32,
    pub(super) prefix: String,
    pub(super) socket: Option<String>,
    pub(super) sentinels: Vec<HostPort>,
    pub(super) sentinel_master: Option<String>,
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
    pub(super) cluster: bool,
    pub(super) nodes: Vec<HostPort>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            host: None,
            port: REDIS_PORT,
            username: None,
            password: None,
            password_file: None,
            secure: false,
            ca_file: None,
            cert_file: None,
            key_file: None,
            database: 0,
            prefix: String::new(),
            socket: None,
            sentinels: Vec::new(),
            sentinel_master: None,
            sentinel_username: None,
            sentinel_password: None,
            cluster: false,
            nodes: Vec::new(),
        }
    }
}

/// One thing wrong with the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) value: Option<String>,
    pub(super) hint: String,
}

struct Reader {
    /// True for the text of a Kubernetes resource, where the password has another place than a file.
    cluster: bool,
    found: Parameters,
    seen: Vec<&'static str>,
    problems: Vec<Problem>,
    /// True while the part being read cannot be a piece of a password.
    trusted: bool,
}

/// Reads the text, that of a resource in a cluster or of a file; the problems are those of the text alone.
pub(super) fn parse(text: &str, cluster: bool) -> (Parameters, Vec<Problem>) {
    let mut reader = Reader {
        cluster,
        found: Parameters::default(),
        seen: Vec::new(),
        problems: Vec::new(),
        trusted: true,
    };
    // A block of YAML ends with a line end, which is no part of what it says.
    let text = text.trim_end_matches(['\n', '\r']);
    if !text.trim().is_empty() {
        for (index, part) in text.split(',').enumerate() {
            reader.part(index + 1, part.trim_start());
        }
    }
    reader.together();
    (reader.found, reader.problems)
}

impl Reader {
    fn wrong(&mut self, problem: String, value: Option<&str>, hint: &str) {
        let value = value.filter(|_| self.trusted).map(show);
        self.problems.push(Problem { problem, value, hint: hint.to_owned() });
    }

    fn part(&mut self, number: usize, part: &str) {
        if cache_url::is_url(part) && !part.trim_end().contains(char::is_control) {
            self.url(part.trim());
            return;
        }
        // Whatever the server is, it would take what follows a line end for a line of its own.
        let is_password =
            matches!(part.split('=').next().map(str::trim), Some("password" | "sentinelPassword"));
        let kept = if is_password { part } else { part.trim_end() };
        if kept.contains(char::is_control) {
            self.wrong(format!("part {number} has a control character"), None, rules::hint::ONE_LINE);
            self.trusted = false;
            return;
        }
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value)),
            None => (part.trim(), None),
        };
        let Some(known) = KEYS.iter().find(|known| **known == key).copied() else {
            self.unknown(number, key, value);
            return;
        };
        if self.seen.contains(&known) {
            self.wrong(format!("{known} is given twice"), None, "keep one of them");
        }
        self.seen.push(known);
        if matches!(known, "password" | "sentinelPassword") {
            self.trusted = false;
            match value.filter(|value| !value.is_empty()).map(Secret::new) {
                Some(password) if known == "password" => self.found.password = Some(password),
                Some(password) => self.found.sentinel_password = Some(password),
                None => {
                    self.wrong(
                        format!("{known} is empty"),
                        None,
                        &format!("write {known}=... or leave it out"),
                    );
                }
            }
            return;
        }
        let value = value.map(str::trim);
        if matches!(known, "secure" | "cluster") {
            let set = match value {
                None | Some("true") => true,
                Some("false") => false,
                Some(other) => {
                    let hint = format!("write {known}=true or {known}=false");
                    self.wrong(format!("{known} is neither true nor false"), Some(other), &hint);
                    known == "secure"
                }
            };
            if known == "secure" {
                self.found.secure = set
            } else {
                self.found.cluster = set
            }
            return;
        }
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            self.wrong(format!("{known} is empty"), None, &format!("write {known}=... or leave it out"));
            return;
        };
        match known {
            "host" => self.found.host = Some(value.to_owned()),
            "port" => match value.parse() {
                Ok(port) if port > 0 => self.found.port = port,
                _ => self.wrong("port is wrong".to_owned(), Some(value), "write a number from 1 to 65535"),
            },
            "username" => self.found.username = Some(value.to_owned()),
            "passwordFile" => self.found.password_file = Some(value.to_owned()),
            "certFile" => self.found.cert_file = Some(value.to_owned()),
            "keyFile" => self.found.key_file = Some(value.to_owned()),
            "db" => self.database(value),
            "prefix" => {
                let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'{' | b'}');
                if value.len() <= MAX_PREFIX && value.bytes().all(plain) {
                    value.clone_into(&mut self.found.prefix);
                } else {
                    let hint = format!(
                        "write up to {MAX_PREFIX} visible ASCII characters without braces, such as prefix=routr:"
                    );
                    self.wrong("prefix is wrong".to_owned(), Some(value), &hint);
                }
            }
            "url" => self.url(value),
            "socket" => self.found.socket = Some(value.to_owned()),
            "sentinels" => self.found.sentinels = self.addresses(known, value, SENTINEL_PORT),
            "sentinelMaster" => self.found.sentinel_master = Some(value.to_owned()),
            "sentinelUsername" => self.found.sentinel_username = Some(value.to_owned()),
            "nodes" => {
                self.found.nodes = self.addresses(known, value, REDIS_PORT);
                self.found.cluster = true;
            }
            _ => self.found.ca_file = Some(value.to_owned()),
        }
    }

    fn database(&mut self, value: &str) {
        match value.parse() {
            Ok(number) if number <= MAX_DATABASE => self.found.database = number,
            _ => self.wrong(
                "db is wrong".to_owned(),
                Some(value),
                "write the number of a database, such as db=0",
            ),
        }
    }

    /// Addresses with semicolons or blanks between them.
    fn addresses(&mut self, key: &str, value: &str, port: u16) -> Vec<HostPort> {
        let mut addresses = Vec::new();
        for text in value.split([';', ' ']).filter(|text| !text.is_empty()) {
            match address::host_port(text, port) {
                Ok(address) => addresses.push(address),
                Err(error) => {
                    let hint = format!("write {key}=HOST:PORT;HOST:PORT");
                    self.wrong(format!("{key} is wrong: {error}"), Some(text), &hint);
                }
            }
        }
        addresses
    }

    /// Treats the parts of a URL as if the keys had given them. None of it is ever shown.
    fn url(&mut self, text: &str) {
        let trusted = std::mem::replace(&mut self.trusted, false);
        let url = match cache_url::parse(text) {
            Ok(url) => url,
            Err(problem) => {
                let hint = "write redis://USER:PASSWORD@HOST:PORT/DB, rediss:// with TLS, or redis+unix:///PATH?db=DB, with %xx for \
                             other characters";
                self.wrong(format!("the URL is wrong: {problem}"), None, hint);
                return;
            }
        };
        let said = [
            ("host", url.host.is_some()),
            ("port", url.port.is_some()),
            ("username", url.username.is_some()),
            ("password", url.password.is_some()),
            ("db", url.database.is_some()),
            ("socket", url.socket.is_some()),
            ("secure", url.secure),
        ];
        for (key, _) in said.into_iter().filter(|(_, said)| *said) {
            if self.seen.contains(&key) {
                self.wrong(format!("{key} is given twice, once in the URL"), None, "keep one of them");
            }
            self.seen.push(key);
        }
        // Without a password in it, what follows can be no piece of one.
        self.trusted = trusted && url.password.is_none();
        let found = &mut self.found;
        found.host = url.host.or(found.host.take());
        found.port = url.port.unwrap_or(found.port);
        found.username = url.username.or(found.username.take());
        found.password = url.password.or(found.password.take());
        found.socket = url.socket.or(found.socket.take());
        found.database = url.database.unwrap_or(found.database);
        found.secure |= url.secure;
    }

    fn unknown(&mut self, number: usize, key: &str, value: Option<&str>) {
        let comma = match self.cluster {
            true => "put a password that contains a comma into a Secret and name it by passwordSecretRef",
            false => "put a password that contains a comma into a file: passwordFile=/path",
        };
        let known: Vec<&str> = KEYS
            .into_iter()
            .filter(|key| !self.cluster || !matches!(*key, "passwordFile" | "socket"))
            .collect();
        match value {
            None => {
                let hint = if self.trusted {
                    "write key=value pairs separated by commas, such as host=localhost,port=6379".to_owned()
                } else {
                    format!("write key=value pairs separated by commas; {comma}")
                };
                self.wrong(format!("part {number} is not a key=value pair"), None, &hint);
            }
            Some(_) => {
                let shown = if self.trusted { Some(key) } else { None };
                let hint = if self.trusted {
                    suggest(key, &known)
                } else {
                    format!("known here: {}; {comma}", known.join(", "))
                };
                self.wrong(format!("part {number} has an unknown key"), shown, &hint);
            }
        }
        // The key may have been meant to be `password`, or this be the rest of one.
        self.trusted = false;
    }

    fn together(&mut self) {
        if self.found.password.is_some() && self.found.password_file.is_some() {
            self.wrong("both password and passwordFile are given".to_owned(), None, "keep one of them");
        }
        for (key, given) in
            [("caFile", self.found.ca_file.is_some()), ("certFile", self.found.cert_file.is_some())]
        {
            if given && !self.found.secure {
                let hint = format!("add secure=true, or remove {key}");
                self.wrong(format!("{key} is given without secure"), None, &hint);
            }
        }
        if self.found.cert_file.is_some() != self.found.key_file.is_some() {
            let (one, other) = if self.found.cert_file.is_some() {
                ("certFile", "keyFile")
            } else {
                ("keyFile", "certFile")
            };
            self.wrong(
                format!("{one} is given without {other}"),
                None,
                &format!("add {other}, or remove {one}"),
            );
        }
        self.deployments();
    }

    /// Reports deployments that exclude each other.
    fn deployments(&mut self) {
        let sentinel = !self.found.sentinels.is_empty();
        let named = self.found.sentinel_master.is_some();
        let credentials = self.found.sentinel_username.is_some() || self.found.sentinel_password.is_some();
        if sentinel && !named {
            let hint = "add sentinelMaster=NAME, such as sentinelMaster=mymaster";
            self.wrong("sentinels is given without sentinelMaster".to_owned(), None, hint);
        } else if !sentinel && (named || credentials) && !self.seen.contains(&"sentinels") {
            let hint = "add sentinels=HOST:PORT;HOST:PORT";
            self.wrong("sentinelMaster is given without sentinels".to_owned(), None, hint);
        }
        if sentinel && self.found.cluster {
            self.wrong("both sentinels and cluster are given".to_owned(), None, "keep one of them");
        }
        if self.found.cluster && self.found.database != 0 {
            self.wrong("a cluster has the database 0 alone".to_owned(), None, "remove db, or cluster");
        }
        let place = self.found.host.is_some();
        if place && (sentinel || !self.found.nodes.is_empty()) {
            let hint = "remove host: the sentinels, or the nodes, say where Redis is";
            self.wrong("host is given with sentinels or nodes".to_owned(), None, hint);
        }
        if self.found.socket.is_some() && (place || sentinel || self.found.cluster || self.found.secure) {
            let hint = "keep the socket, or remove it";
            self.wrong("socket is given with host, secure, sentinels or cluster".to_owned(), None, hint);
        }
    }
}
