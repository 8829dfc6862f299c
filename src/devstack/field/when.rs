//! The conditions of a rule.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{case::Over, digest::Verdict, wire::Wire};

/// A number or a range of numbers: `3`, `"2.."`, `"..5"`, `"2..5"`, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SpanText")]
pub struct Span {
    first: u64,
    last: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SpanText {
    Number(u64),
    Text(String),
}

impl TryFrom<SpanText> for Span {
    type Error = String;

    fn try_from(text: SpanText) -> Result<Self, String> {
        let text = match text {
            SpanText::Number(number) => return Ok(Self { first: number, last: number }),
            SpanText::Text(text) => text,
        };
        let bad =
            || format!("{text:?}: expected a number or a range such as 3, \"2..\", \"..5\" or \"2..5\"");
        let number = |text: &str, open: u64| match text.trim() {
            "" => Ok(open),
            text => text.parse().map_err(|_| bad()),
        };
        let (first, last) = text.split_once("..").ok_or_else(bad)?;
        let span = Self { first: number(first, 0)?, last: number(last, u64::MAX)? };
        if span.first <= span.last { Ok(span) } else { Err(bad()) }
    }
}

impl Span {
    /// Returns whether the number lies in it.
    pub fn holds(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// A length of time: `500ms`, `2s`, `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pause(pub Duration);

impl TryFrom<String> for Pause {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?}: expected a length of time up to 1h, such as 500ms, 2s or 5m");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| bad())?;
        let unit = match &text[digits..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(bad()),
        };
        let pause = number.checked_mul(unit).map(Duration::from_millis);
        pause.filter(|pause| *pause <= Duration::from_secs(3600)).map(Self).ok_or_else(bad)
    }
}

/// Credentials that `credentials` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// See [`Verdict::None`].
    None,
    /// There are some, right or wrong.
    Any,
    /// See [`Verdict::Right`].
    Right,
    /// See [`Verdict::Wrong`].
    Wrong,
    /// See [`Verdict::Foreign`].
    Foreign,
    /// See [`Verdict::Replayed`].
    Replayed,
}

impl Wanted {
    fn holds(self, verdict: Verdict) -> bool {
        match self {
            Self::None => verdict == Verdict::None,
            Self::Any => verdict != Verdict::None,
            Self::Right => verdict == Verdict::Right,
            Self::Wrong => verdict == Verdict::Wrong,
            Self::Foreign => verdict == Verdict::Foreign,
            Self::Replayed => verdict == Verdict::Replayed,
        }
    }
}

/// One result for all realms, or one for each of some.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Credentials {
    /// One result for every realm of `digest`.
    All(Wanted),
    /// One for each realm as `digest` writes it.
    ByRealm(BTreeMap<String, Wanted>),
}

/// Conditions of a rule: all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct When {
    /// REGISTER where it is absent; `"*"` for any but ACK.
    #[serde(default)]
    pub method: Option<String>,
    /// A node, or a group of them.
    #[serde(default)]
    pub node: Option<String>,
    /// The transport.
    #[serde(default)]
    pub transport: Option<Over>,
    /// The user of To.
    #[serde(default)]
    pub user: Option<String>,
    /// The number of the request within its Call-ID, from 1. One that is sent again counts once.
    #[serde(default)]
    pub request: Option<Span>,
    /// The number of the request within the whole case.
    #[serde(default)]
    pub total: Option<Span>,
    /// Number of this arrival of the very same request, from 1.
    #[serde(default)]
    pub sending: Option<Span>,
    /// The number of the connection at its node, from 1. Never holds over UDP.
    #[serde(default)]
    pub connection: Option<Span>,
    /// The number of the request on its connection, from 1. Never holds over UDP.
    #[serde(default)]
    pub on_connection: Option<Span>,
    /// Result of checking the credentials.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// True for a request that removes a binding, false for any other.
    #[serde(default)]
    pub deregister: Option<bool>,
    /// The expiry asked for, in seconds.
    #[serde(default)]
    pub asked: Option<Span>,
    /// Header fields that must be there.
    #[serde(default)]
    pub has: Vec<String>,
    /// Header fields that must not.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Header fields by name, with a text that one of their values contains, in any case.
    #[serde(default)]
    pub header: BTreeMap<String, String>,
}

/// Facts that conditions are about.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub message: &'a Wire,
    pub method: &'a str,
    /// Name of the node, and of its group.
    pub node: [&'a str; 2],
    pub transport: Over,
    pub user: &'a str,
    pub request: u64,
    pub total: u64,
    pub sending: u64,
    pub connection: Option<u64>,
    pub on_connection: Option<u64>,
    /// Result by the realm as `digest` writes it; one entry at least.
    pub credentials: &'a [(String, Verdict)],
    pub deregister: bool,
    pub asked: u32,
}

impl When {
    /// Returns whether all conditions hold.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> bool {
        let method = match self.method.as_deref() {
            None => facts.method == "REGISTER",
            Some("*") => facts.method != "ACK",
            Some(method) => facts.method == method,
        };
        let within = |span: Option<Span>, number: u64| span.is_none_or(|span| span.holds(number));
        let on_stream = |span: Option<Span>, number: Option<u64>| {
            span.is_none_or(|span| number.is_some_and(|number| span.holds(number)))
        };
        let has = |name: &String| facts.message.all(name).next().is_some();
        let says = |(name, text): (&String, &String)| {
            let text = text.to_lowercase();
            facts.message.all(name).any(|value| String::from_utf8_lossy(value).to_lowercase().contains(&text))
        };
        method
            && self.node.as_ref().is_none_or(|node| facts.node.contains(&node.as_str()))
            && self.transport.is_none_or(|transport| transport == facts.transport)
            && self.user.as_ref().is_none_or(|user| user == facts.user)
            && within(self.request, facts.request)
            && within(self.total, facts.total)
            && within(self.sending, facts.sending)
            && on_stream(self.connection, facts.connection)
            && on_stream(self.on_connection, facts.on_connection)
            && self.credentials.as_ref().is_none_or(|wanted| wanted.holds(facts.credentials))
            && self.deregister.is_none_or(|deregister| deregister == facts.deregister)
            && within(self.asked, facts.asked.into())
            && self.has.iter().all(has)
            && !self.lacks.iter().any(has)
            && self.header.iter().all(says)
    }
}

impl Credentials {
    fn holds(&self, verdicts: &[(String, Verdict)]) -> bool {
        match self {
            // Some credentials are enough for "any", one wrong response for "wrong"; the others want all
            // realms.
            Self::All(wanted @ (Wanted::Any | Wanted::Wrong | Wanted::Foreign | Wanted::Replayed)) => {
                verdicts.iter().any(|(_, verdict)| wanted.holds(*verdict))
            }
            Self::All(wanted) => verdicts.iter().all(|(_, verdict)| wanted.holds(*verdict)),
            Self::ByRealm(wanted) => wanted.iter().all(|(realm, wanted)| {
                verdicts.iter().any(|(name, verdict)| name == realm && wanted.holds(*verdict))
            }),
        }
    }

    /// The realms that it names.
    pub(super) fn realms(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::All(_) => None,
            Self::ByRealm(wanted) => Some(wanted.keys().map(String::as_str)),
        }
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_pauses() {
        let span = |yaml: &str| serde_saphyr::from_str::<Span>(yaml);
        assert!(span("3").unwrap().holds(3) && !span("3").unwrap().holds(4));
        let range = span("\"2..5\"").unwrap();
        assert!(range.holds(2) && range.holds(5) && !range.holds(6) && !range.holds(1));
        assert!(span("\"2..\"").unwrap().holds(u64::MAX) && span("..5").unwrap().holds(0));
        for bad in ["x", "5..2", "\"-1\""] {
            assert!(span(bad).unwrap_err().to_string().contains("expected"), "{bad}");
        }
        let pause = |yaml: &str| serde_saphyr::from_str::<Pause>(yaml).map(|pause| pause.0);
        assert_eq!(pause("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(pause("2m").unwrap(), Duration::from_secs(120));
        for bad in ["2", "s", "2h", "-1s", "99999999999999999999s"] {
            assert!(pause(bad).is_err(), "{bad}");
        }
    }
}
