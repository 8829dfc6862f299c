//! Requests to the private port.

use std::{collections::HashSet, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::{Agent, Body, RequestBuilder, http::Response, typestate::WithoutBody};

use super::ClientError;
use crate::{
    admin::{ErrorAnswer, RefreshAnswer, RegistriesAnswer, SummaryAnswer},
    engine::{
        handle::MAX_PAGE,
        view::{Filter, Page, TrunkState, TrunkView},
    },
    table,
};

/// For one request. The service itself gives up after two seconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// What may stand in a path segment as it is (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What somebody has to look at.
const TROUBLED: [TrunkState; 3] = [TrunkState::Failing, TrunkState::Invalid, TrunkState::AtRisk];

/// The private port at one URL.
#[derive(Clone, Debug)]
pub(super) struct Api {
    agent: Agent,
    url: String,
    /// Which of the registries that run there; `None` for the only one.
    registry: Option<String>,
}

/// What there is to show.
#[derive(Debug)]
pub(super) enum Sight {
    /// The trunks of one registry.
    Trunks(Box<Listing>),
    /// Several registries, and none was named; or none at all. Most urgent first.
    Registries(RegistriesAnswer),
}

/// Trunks and the summary of about the same moment.
#[derive(Debug)]
pub(super) struct Listing {
    pub summary: SummaryAnswer,
    /// Most urgent first.
    pub trunks: Vec<TrunkView>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

impl Api {
    /// `url` without a slash at its end.
    pub(super) fn new(url: &str, registry: Option<&str>) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(DEADLINE))
            .http_status_as_error(false)
            // A proxy is of no use on loopback, and would be shown the trunks.
            .proxy(None)
            .max_redirects(0)
            .build()
            .new_agent();
        Self { agent, url: url.to_owned(), registry: registry.map(str::to_owned) }
    }

    /// The trunks of the registry that was named, or of the only one; else the registries.
    pub(super) fn look(&self, filter: &Filter, limit: usize) -> Result<Sight, ClientError> {
        if self.registry.is_some() {
            return self.listing(filter, limit);
        }
        let mut answer: RegistriesAnswer = self.read(self.get("/registries").call())?;
        if let [only] = answer.registries.as_slice()
            && (only.summary.is_some() || only.problem.is_some())
        {
            // By its name: a second one may appear any time.
            let of_one = Self { registry: Some(table::registry_label(only)), ..self.clone() };
            return of_one.listing(filter, limit);
        }
        if answer.registries.is_empty() && answer.leads == Some(false) {
            let standing = table::clean(answer.standing.as_deref().unwrap_or("does not lead"));
            return Err(ClientError::NotTheLeader { url: self.url.clone(), standing });
        }
        table::sort_registries(&mut answer.registries);
        Ok(Sight::Registries(answer))
    }

    pub(super) fn summary(&self) -> Result<SummaryAnswer, ClientError> {
        self.read(self.get("/summary").call())
    }

    fn get(&self, path: &str) -> RequestBuilder<WithoutBody> {
        self.about(self.agent.get(format!("{}{path}", self.url)))
    }

    /// Says which registry is meant.
    fn about<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.registry {
            Some(registry) => request.query("registry", registry),
            None => request,
        }
    }

    pub(super) fn refresh(&self, reference: &str) -> Result<RefreshAnswer, ClientError> {
        let segment = utf8_percent_encode(reference, SEGMENT);
        let request = self.agent.post(format!("{}/registrations/{segment}/refresh", self.url));
        self.read(self.about(request).send_empty())
    }

    /// Refs of the trunks with exactly this name.
    pub(super) fn refs_named(&self, name: &str) -> Result<Vec<String>, ClientError> {
        let filter = Filter { text: Some(name.to_owned()), ..Filter::default() };
        let mut refs = Vec::new();
        self.each_page(&filter, usize::MAX, |trunks| {
            refs.extend(trunks.into_iter().filter(|trunk| trunk.name == name).map(|trunk| trunk.reference));
            Ok(())
        })?;
        Ok(refs)
    }

    /// At most `limit` trunks. Those in trouble are asked for first, so that a limit never hides them behind healthy
    /// ones.
    fn listing(&self, filter: &Filter, limit: usize) -> Result<Sight, ClientError> {
        let summary = self.summary()?;
        let mut trunks: Vec<TrunkView> = Vec::new();
        let mut seen = HashSet::new();
        let mut more = false;
        for troubled in [true, false] {
            let states: Vec<TrunkState> = TrunkState::ALL
                .into_iter()
                .filter(|s| TROUBLED.contains(s) == troubled)
                .filter(|s| filter.states.is_empty() || filter.states.contains(s))
                .collect();
            if states.is_empty() {
                continue;
            }
            let filter = Filter { states, ..filter.clone() };
            let room = limit.saturating_sub(trunks.len()).saturating_add(1);
            self.each_page(&filter, room, |page| {
                // A trunk that changed its state between two requests may come twice.
                trunks.extend(page.into_iter().filter(|trunk| seen.insert(trunk.reference.clone())));
                Ok(())
            })?;
            if trunks.len() > limit {
                trunks.truncate(limit);
                more = true;
                break;
            }
        }
        table::sort_by_urgency(&mut trunks);
        Ok(Sight::Trunks(Box::new(Listing { summary, trunks, more })))
    }

    /// Hands over up to `limit` trunks, page by page, ordered by ref.
    pub(super) fn each_page(
        &self,
        filter: &Filter,
        limit: usize,
        mut take: impl FnMut(Vec<TrunkView>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut left = limit;
        let mut token: Option<String> = None;
        while left > 0 {
            let page = self.page(filter, left.min(MAX_PAGE), token.as_deref())?;
            left = left.saturating_sub(page.items.len());
            take(page.items)?;
            if page.next_page_token.is_none() || page.next_page_token == token {
                return Ok(());
            }
            token = page.next_page_token;
        }
        Ok(())
    }

    fn page(&self, filter: &Filter, limit: usize, token: Option<&str>) -> Result<Page, ClientError> {
        let mut request = self.get("/registrations").query("limit", limit.to_string());
        if !filter.states.is_empty() {
            let names: Vec<&str> = filter.states.iter().map(|state| state.name()).collect();
            request = request.query("state", names.join(","));
        }
        if let Some(registrar) = &filter.registrar {
            request = request.query("registrar", registrar);
        }
        if let Some(text) = &filter.text {
            request = request.query("q", text);
        }
        if let Some(token) = token {
            request = request.query("page", token);
        }
        self.read(request.call())
    }

    fn read<T: DeserializeOwned>(
        &self,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let mut response = response.map_err(|problem| self.no_answer(problem))?;
        let status = response.status();
        let not_a_registry = |problem: String| ClientError::NotARegistry { url: self.url.clone(), problem };
        if status.is_success() {
            return response.body_mut().read_json().map_err(|problem| match problem {
                ureq::Error::Json(json) if !json.is_io() => not_a_registry(json.to_string()),
                other => self.no_answer(other),
            });
        }
        match response.body_mut().read_json::<ErrorAnswer>() {
            Ok(answer) => {
                Err(ClientError::Refused { status: status.as_u16(), message: table::clean(&answer.error) })
            }
            Err(_) => Err(not_a_registry(format!("HTTP status {}", status.as_u16()))),
        }
    }

    fn no_answer(&self, problem: ureq::Error) -> ClientError {
        let problem = match problem {
            ureq::Error::Io(io) => io.to_string(),
            ureq::Error::Timeout(_) => format!("no answer within {} s", DEADLINE.as_secs()),
            ureq::Error::HostNotFound => "unknown host name".to_owned(),
            other => other.to_string(),
        };
        ClientError::NoAnswer { url: self.url.clone(), problem: table::clean(&problem) }
    }
}
