//! `cache.parameters`: `key=value` pairs with commas between them. A password stands in the middle of it, and whatever
//! follows a slip may be a piece of one: so what is quoted in a message comes only from before that.

use crate::secret::Secret;

use super::{
    mistake::{show, suggest},
    rules::REDIS_PORT,
};

/// All keys.
pub(super) const KEYS: [&str; 7] =
    ["host", "port", "username", "password", "passwordFile", "secure", "caFile"];

/// What the text says, before anything is looked up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) password_file: Option<String>,
    pub(super) secure: bool,
    pub(super) ca_file: Option<String>,
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
        }
    }
}

/// One thing wrong with the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) problem: String,
    pub(super) value: Option<String>,
    pub(super) right: String,
}

struct Reader {
    /// Whether the text is that of a resource of Kubernetes, where the password has another place than a file.
    cluster: bool,
    found: Parameters,
    seen: Vec<&'static str>,
    problems: Vec<Problem>,
    /// Whether what is read now cannot be a piece of a password.
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
    if !text.trim().is_empty() {
        for (index, part) in text.split(',').enumerate() {
            reader.part(index + 1, part.trim_start());
        }
    }
    reader.together();
    (reader.found, reader.problems)
}

impl Reader {
    fn wrong(&mut self, problem: String, value: Option<&str>, right: &str) {
        let value = value.filter(|_| self.trusted).map(show);
        self.problems.push(Problem { problem, value, right: right.to_owned() });
    }

    fn part(&mut self, number: usize, part: &str) {
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
        if known == "password" {
            self.trusted = false;
            match value.filter(|value| !value.is_empty()) {
                Some(value) => self.found.password = Some(Secret::new(value)),
                None => {
                    self.wrong("password is empty".to_owned(), None, "write password=... or leave it out")
                }
            }
            return;
        }
        let value = value.map(str::trim);
        if known == "secure" {
            self.found.secure = true;
            match value {
                None | Some("true") => {}
                Some("false") => self.found.secure = false,
                Some(other) => self.wrong(
                    "secure is neither true nor false".to_owned(),
                    Some(other),
                    "write secure=true or secure=false",
                ),
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
            _ => self.found.ca_file = Some(value.to_owned()),
        }
    }

    fn unknown(&mut self, number: usize, key: &str, value: Option<&str>) {
        let comma = match self.cluster {
            true => "a password that holds a comma goes into a Secret, named by passwordSecretRef",
            false => "a password that holds a comma goes to a file: passwordFile=/path",
        };
        let known: Vec<&str> =
            KEYS.into_iter().filter(|key| !self.cluster || *key != "passwordFile").collect();
        match value {
            None => {
                let right = if self.trusted {
                    "write key=value pairs with commas between them, such as host=localhost,port=6379"
                        .to_owned()
                } else {
                    format!("write key=value pairs with commas between them; {comma}")
                };
                self.wrong(format!("part {number} is no key=value pair"), None, &right);
            }
            Some(_) => {
                let shown = if self.trusted { Some(key) } else { None };
                let right = if self.trusted {
                    suggest(key, &known)
                } else {
                    format!("known here: {}; {comma}", known.join(", "))
                };
                self.wrong(format!("part {number} has an unknown key"), shown, &right);
            }
        }
        // The key may have been meant to be `password`, or this be the rest of one.
        self.trusted = false;
    }

    fn together(&mut self) {
        if self.found.password.is_some() && self.found.password_file.is_some() {
            self.wrong("both password and passwordFile are given".to_owned(), None, "keep one of them");
        }
        if self.found.ca_file.is_some() && !self.found.secure {
            self.wrong(
                "caFile is given without secure".to_owned(),
                None,
                "add secure=true, or remove caFile",
            );
        }
    }
}
