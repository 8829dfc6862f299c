//! The parameters of the private port, as [`axum::extract::Query`] reads them.

use std::{error::Error, net::Ipv6Addr};

use axum::{extract::rejection::QueryRejection, http::StatusCode};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::ErrorResponse;
use crate::runtime::handle::MAX_PAGE;
use routr_registration::{engine::view::Filter, registration::state::TrunkState};

/// Trunks in a page where nothing is said.
const DEFAULT_LIMIT: usize = 100;

/// The parameter that every path understands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OnlyRegistry {
    /// Name of the registry that is meant.
    #[serde(default, deserialize_with = "registry")]
    pub registry: Option<String>,
}

/// The parameters of `/registrations`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Name of the registry that is meant.
    #[serde(default, deserialize_with = "registry")]
    pub registry: Option<String>,
    #[serde(default, deserialize_with = "states")]
    state: Vec<TrunkState>,
    #[serde(default, deserialize_with = "host")]
    registrar: Option<String>,
    #[serde(default, deserialize_with = "text")]
    q: Option<String>,
    /// Trunks in a page.
    #[serde(default = "default_limit", deserialize_with = "limit")]
    pub limit: usize,
    /// `nextPageToken` of the page before.
    #[serde(default, deserialize_with = "page")]
    pub page: Option<String>,
}

impl ListQuery {
    /// Returns which trunks are asked for.
    pub(super) fn filter(&self) -> Filter {
        Filter { states: self.state.clone(), registrar: self.registrar.clone(), text: self.q.clone() }
    }
}

impl From<QueryRejection> for ErrorResponse {
    /// The parameter's name and what is wrong with it, without axum's words before.
    fn from(rejection: QueryRejection) -> Self {
        let problem = rejection.source().map_or_else(|| rejection.body_text(), ToString::to_string);
        let hint = if problem.contains("duplicate field") { "; give it once" } else { "" };
        Self(StatusCode::BAD_REQUEST, format!("{problem}{hint}"))
    }
}

/// Reads a text with `read`, whose error says what is wrong with it and what would be right.
fn value<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    read: impl FnOnce(String) -> Result<T, String>,
) -> Result<T, D::Error> {
    read(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn registry<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    value(deserializer, |value| some(value, "NAMESPACE/NAME"))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    value(deserializer, |value| some(value, "a part of a ref, name or address, or leave it out"))
}

fn page<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    value(deserializer, |value| some(value, "nextPageToken of the page before, or leave it out"))
}

fn some(value: String, right: &str) -> Result<Option<String>, String> {
    if value.is_empty() { Err(format!("\"\" is empty; give {right}")) } else { Ok(Some(value)) }
}

fn states<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TrunkState>, D::Error> {
    value(deserializer, |value| {
        let known = || TrunkState::ALL.map(TrunkState::name).join(", ");
        let state = |name: &str| {
            TrunkState::parse(name)
                .ok_or_else(|| format!("{name:?} is not a state; use one or more of {}", known()))
        };
        value.split(',').map(|name| state(name.trim())).collect()
    })
}

/// A registrar's host; a port is refused rather than quietly matching nothing.
fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    value(deserializer, |value| {
        let host = value.trim();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let is_v6 = bare.parse::<Ipv6Addr>().is_ok();
        if bare.is_empty() || (!is_v6 && bare.contains([':', '/', ' ', '[', ']', '@'])) {
            return Err(format!("{value:?} is not a host; use a host name or an IP address, without port"));
        }
        Ok(Some(bare.to_owned()))
    })
}

fn default_limit() -> usize {
    DEFAULT_LIMIT
}

fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    value(deserializer, |value| match value.parse() {
        Ok(limit @ 1..=MAX_PAGE) => Ok(limit),
        _ => Err(format!("{value:?} is not a page size; use a number from 1 to {MAX_PAGE}")),
    })
}
