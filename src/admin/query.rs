//! The parameters of the private port.

use axum::http::StatusCode;

use super::Refusal;
use crate::engine::{
    handle::MAX_PAGE,
    view::{Filter, TrunkState},
};

/// How many trunks a page holds where nothing is said.
const DEFAULT_LIMIT: usize = 100;

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ListQuery {
    pub filter: Filter,
    pub after: Option<String>,
    pub limit: usize,
}

/// Why a parameter is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub(super) struct BadParameter {
    name: String,
    problem: String,
}

impl From<BadParameter> for Refusal {
    fn from(bad: BadParameter) -> Self {
        Self(StatusCode::BAD_REQUEST, bad.to_string())
    }
}

/// A parameter's name and value, decoded.
pub(super) type Pair = (String, String);

/// Takes `registry` out of decoded name-value pairs, which every path understands.
pub(super) fn registry(mut pairs: Vec<Pair>) -> Result<(Option<String>, Vec<Pair>), BadParameter> {
    let mut named = pairs.extract_if(.., |(name, _)| name == "registry").map(|(_, value)| value);
    let bad = |problem: &str| BadParameter { name: "registry".to_owned(), problem: problem.to_owned() };
    let registry = named.next();
    if registry.as_deref() == Some("") {
        return Err(bad("\"\" is empty; give NAMESPACE/NAME"));
    }
    if named.next().is_some() {
        return Err(bad("is given twice; give it once"));
    }
    drop(named);
    Ok((registry, pairs))
}

/// For paths with no parameter but `registry`.
pub(super) fn no_more(pairs: &[Pair]) -> Result<(), BadParameter> {
    match pairs.first() {
        None => Ok(()),
        Some((name, _)) => Err(BadParameter {
            name: name.clone(),
            problem: "is not a parameter here; use registry alone, or none".to_owned(),
        }),
    }
}

impl ListQuery {
    /// Reads decoded name-value pairs, without `registry`.
    pub(super) fn parse(pairs: Vec<Pair>) -> Result<Self, BadParameter> {
        let mut query = Self { limit: DEFAULT_LIMIT, ..Self::default() };
        let mut seen = Vec::new();
        for (name, value) in pairs {
            let bad = |problem: String| BadParameter { name: name.clone(), problem };
            if seen.contains(&name) {
                return Err(bad(
                    "is given twice; give it once (state takes several, with commas between)".to_owned()
                ));
            }
            match name.as_str() {
                "state" => query.filter.states = states(&value).map_err(bad)?,
                "registrar" => query.filter.registrar = Some(host(&value).map_err(bad)?),
                "q" => {
                    query.filter.text = Some(some(value, "a part of a ref, name or address").map_err(bad)?)
                }
                "limit" => query.limit = limit(&value).map_err(bad)?,
                "page" => query.after = Some(some(value, "nextPageToken of the page before").map_err(bad)?),
                _ => {
                    return Err(bad(
                        "is not a parameter; use registry, state, registrar, q, limit or page".to_owned()
                    ));
                }
            }
            seen.push(name);
        }
        Ok(query)
    }
}

fn states(value: &str) -> Result<Vec<TrunkState>, String> {
    let known = || TrunkState::ALL.map(TrunkState::name).join(", ");
    let mut states = Vec::new();
    for name in value.split(',') {
        let name = name.trim();
        let state = TrunkState::parse(name)
            .ok_or_else(|| format!("{name:?} is not a state; use one or more of {}", known()))?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(states)
}

/// A registrar's host; a port is refused rather than quietly matching nothing.
fn host(value: &str) -> Result<String, String> {
    let host = value.trim();
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let is_v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
    if bare.is_empty() || (!is_v6 && bare.contains([':', '/', ' ', '[', ']', '@'])) {
        return Err(format!("{value:?} is not a host; use a host name or an IP address, without port"));
    }
    Ok(bare.to_owned())
}

fn limit(value: &str) -> Result<usize, String> {
    match value.parse::<usize>() {
        Ok(limit @ 1..=MAX_PAGE) => Ok(limit),
        _ => Err(format!("{value:?} is not a page size; use a number from 1 to {MAX_PAGE}")),
    }
}

fn some(value: String, right: &str) -> Result<String, String> {
    if value.is_empty() { Err(format!("\"\" is empty; give {right}, or leave it out")) } else { Ok(value) }
}
