//! A case file: its format, and what is checked of it.

use std::{collections::BTreeSet, fmt};

use serde::Deserialize;

use super::{
    digest::Demand,
    dns::DnsScript,
    edge_port::EdgePortScript,
    template::Template,
    tls::Certificate,
    when::{Pause, Span, When},
};
use routr_types::host::Transport;

/// Most nodes of one case.
const MAX_NODES: usize = 100;

/// Reason that a text is not a case.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// It is not of the format.
    #[error("{0}")]
    Format(Box<serde_saphyr::Error>),
    /// A field contradicts another.
    #[error("{field}: {problem}")]
    Field {
        /// Name of the field.
        field: String,
        /// Problem and suggested correction.
        problem: String,
    },
}

/// A transport that is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Over {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl From<Over> for Transport {
    fn from(over: Over) -> Self {
        match over {
            Over::Udp => Self::Udp,
            Over::Tcp => Self::Tcp,
            Over::Tls => Self::Tls,
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Transport::from(*self).fmt(f)
    }
}

/// A case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Case {
    /// Name to play it by, such as `R5-no-colon`.
    pub name: String,
    /// Behaviour of the other side, in one line.
    pub summary: String,
    /// The right outcome, in one line.
    pub outcome: String,
    /// Source of the observation.
    #[serde(default)]
    pub source: String,
    /// Transports that the nodes listen for, all on one port; UDP and TCP where it is absent.
    #[serde(default = "udp_and_tcp")]
    pub transports: Vec<Over>,
    /// Nodes that listen; one node `registrar` where it is absent.
    #[serde(default)]
    pub nodes: Vec<Node>,
    /// The bounds of what is granted.
    #[serde(default)]
    pub expires: Expires,
    /// Demands on credentials, by realm.
    #[serde(default)]
    pub digest: Vec<Demand>,
    /// Rules for requests: the first one that applies.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// The certificates of TLS nodes.
    #[serde(default)]
    pub tls: Certificate,
    /// Name servers.
    #[serde(default)]
    pub dns: Option<DnsScript>,
    /// EdgePorts.
    #[serde(default)]
    pub edge_ports: Vec<EdgePortScript>,
}

/// One node, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Node {
    /// Its name. With a count, that of the group: its nodes are `NAME-1`, `NAME-2`, ...
    pub name: String,
    /// Number of nodes in the group.
    #[serde(default)]
    pub count: Option<usize>,
    /// The port is held, and no one listens there: ICMP errors over UDP, resets over TCP.
    #[serde(default)]
    pub closed: bool,
}

/// The bounds of what is granted, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Expires {
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// Granted where the request asks for none.
    pub default: u32,
}

impl Default for Expires {
    fn default() -> Self {
        Self { min: 1, max: 86_400, default: 3600 }
    }
}

/// Treatment of some requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// Requests that it applies to; every REGISTER where it is absent.
    #[serde(default)]
    pub when: When,
    /// Most times that it applies.
    #[serde(default)]
    pub times: Option<u64>,
    /// Short for one step `respond`.
    #[serde(default)]
    pub respond: Option<Template>,
    /// Steps, one after the other.
    #[serde(default)]
    pub then: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Sends a response: what is missing of Via, From, To, Call-ID, CSeq and Content-Length is added.
    Respond(Template),
    /// Sends these bytes and nothing else.
    Raw(Template),
    /// Sends the first half of a response.
    Half(Template),
    /// Sends the rest of the last half.
    Rest,
    /// Sends a request to where the request came from: what is missing of the header fields that it needs is
    /// added.
    Request(Template),
    /// Waits.
    Wait(Pause),
    /// Does nothing.
    Silence,
    /// Passes over all that comes on this connection from now on.
    Mute,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

impl Step {
    /// The text that it sends.
    pub fn template(&self) -> Option<&Template> {
        match self {
            Self::Respond(text) | Self::Raw(text) | Self::Half(text) | Self::Request(text) => Some(text),
            Self::Rest | Self::Wait(_) | Self::Silence | Self::Mute | Self::Close | Self::Reset => None,
        }
    }
}

fn udp_and_tcp() -> Vec<Over> {
    vec![Over::Udp, Over::Tcp]
}

impl Case {
    /// Reads a case file and checks that all names in it are of something.
    ///
    /// # Errors
    /// When it is not of the format, with the line, or a field contradicts another.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        let mut case: Self =
            serde_saphyr::from_str(text).map_err(|error| CaseError::Format(Box::new(error)))?;
        if case.nodes.is_empty() {
            case.nodes = vec![Node { name: "registrar".to_owned(), count: None, closed: false }];
        }
        for rule in &mut case.rules {
            rule.then.splice(0..0, rule.respond.take().map(Step::Respond));
        }
        case.check()?;
        Ok(case)
    }

    /// The nodes by name, with the group of each and whether it is closed.
    pub fn all_nodes(&self) -> Vec<(String, String, bool)> {
        let each = |node: &Node| {
            let names = match node.count {
                None => vec![node.name.clone()],
                Some(count) => (1..=count).map(|n| format!("{}-{n}", node.name)).collect(),
            };
            let (group, closed) = (node.name.clone(), node.closed);
            names.into_iter().map(move |name| (name, group.clone(), closed))
        };
        self.nodes.iter().flat_map(each).collect()
    }

    fn check(&self) -> Result<(), CaseError> {
        let wrong = |field: String, problem: String| Err(CaseError::Field { field, problem });
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return wrong("name".into(), format!("{:?}: expected letters, digits and hyphens", self.name));
        }
        for (field, text) in [("summary", &self.summary), ("outcome", &self.outcome)] {
            if text.trim().is_empty() || text.trim().contains('\n') {
                return wrong(field.into(), "expected one line of text".into());
            }
        }
        if self.nodes.iter().any(|node| node.count == Some(0) || node.count > Some(MAX_NODES)) {
            return wrong("nodes[].count".into(), format!("expected 1 to {MAX_NODES}"));
        }
        let nodes = self.all_nodes();
        if nodes.len() > MAX_NODES {
            return wrong("nodes".into(), format!("{} of them; expected {MAX_NODES} at most", nodes.len()));
        }
        let names: BTreeSet<&str> = nodes.iter().map(|(name, ..)| name.as_str()).collect();
        if names.len() < nodes.len() {
            return wrong("nodes[].name".into(), "each name may stand there once".into());
        }
        let groups: BTreeSet<&str> = nodes.iter().map(|(_, group, _)| group.as_str()).collect();
        let listed = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
        for (at, rule) in self.rules.iter().enumerate() {
            if rule.then.is_empty() {
                return wrong(format!("rules[{at}]"), "does nothing; expected `respond` or `then`".into());
            }
            if let Some(node) =
                rule.when.node.as_deref().filter(|n| !names.contains(n) && !groups.contains(n))
            {
                let problem = format!("{node:?} is none of {}", listed(&names));
                return wrong(format!("rules[{at}].when.node"), problem);
            }
            let realms = rule.when.credentials.iter().flat_map(|credentials| credentials.realms());
            if let Some(realm) = realms.into_iter().find(|r| self.digest.iter().all(|d| d.realm != **r)) {
                let problem = format!("realm {realm:?} does not stand in `digest`");
                return wrong(format!("rules[{at}].when.credentials"), problem);
            }
            for template in rule.then.iter().filter_map(Step::template) {
                if let Some(node) = template.nodes().find(|node| !names.contains(node)) {
                    let problem = format!("${{node.{node}}}: {node:?} is none of {}", listed(&names));
                    return wrong(format!("rules[{at}]"), problem);
                }
            }
        }
        let data = self.dns.iter().flat_map(DnsScript::nodes);
        if let Some(node) = data.into_iter().find(|node| !names.contains(node)) {
            return wrong("dns".into(), format!("${{node.{node}}}: {node:?} is none of {}", listed(&names)));
        }
        self.dns.as_ref().map_or(Ok(()), |dns| dns.check()).or_else(|(field, problem)| wrong(field, problem))
    }
}

/// Returns how often a rule may still apply: `times`, or for ever.
pub(super) fn spent(rule: &Rule, uses: u64) -> bool {
    rule.times.is_some_and(|times| uses >= times)
}

/// Returns whether a number lies in a span that may be absent.
pub(super) fn within(span: Option<Span>, number: u64) -> bool {
    span.is_none_or(|span| span.holds(number))
}
