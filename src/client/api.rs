//! Requests to the private port.

use std::{collections::HashSet, error::Error, io, iter, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::ClientError;
use crate::{
    admin_api::{ErrorBody, RefreshResponse, RegistriesResponse, SummaryResponse},
    runtime::handle::MAX_PAGE,
    table,
};
use routr_registration::{
    engine::{
        history::TrunkDetail,
        view::{Filter, Page, TrunkView},
    },
    registration::state::TrunkState,
};

/// Time limit of one request. The service itself gives up after two seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a response's body. A page has at most [`MAX_PAGE`] trunks; a list of thousands of registries,
/// some megabytes.
const MAX_BODY: usize = 64 << 20;

/// Bytes to escape in a path segment and in a parameter: all but the unreserved ones (RFC 3986 §2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// States that someone has to look at.
const UNHEALTHY_STATES: [TrunkState; 3] = [TrunkState::Failing, TrunkState::Invalid, TrunkState::AtRisk];

/// The private port at one URL.
#[derive(Clone, Debug)]
pub(super) struct Api {
    /// Knows no proxy, which would be shown the trunks, and follows no redirection.
    client: Client<HttpConnector, Empty<Bytes>>,
    url: String,
    /// Name of one of the registries that run there; `None` for the only one.
    registry: Option<String>,
}

/// The parameters of a request.
type Parameters<'a> = Vec<(&'static str, &'a str)>;

/// Trunks or registries to show.
#[derive(Debug)]
pub(super) enum Listing {
    /// The trunks of one registry.
    Trunks(Box<TrunkList>),
    /// Several registries, and none was named; or none at all. Most urgent first.
    Registries(RegistriesResponse),
}

/// Trunks and the summary of about the same moment.
#[derive(Debug)]
pub(super) struct TrunkList {
    pub summary: SummaryResponse,
    /// Most urgent first.
    pub trunks: Vec<TrunkView>,
    /// True when there are more than were asked for.
    pub more: bool,
}

impl Api {
    /// `url` without a slash at its end.
    pub(super) fn new(url: &str, registry: Option<&str>) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, url: url.to_owned(), registry: registry.map(str::to_owned) }
    }

    /// The trunks of the registry that was named, or of the only one; else the registries.
    pub(super) async fn fetch(&self, filter: &Filter, limit: usize) -> Result<Listing, ClientError> {
        if self.registry.is_some() {
            return self.listing(filter, limit).await;
        }
        let mut answer: RegistriesResponse = self.get("/registries", Vec::new()).await?;
        if let [only] = answer.registries.as_slice()
            && (only.summary.is_some() || only.problem.is_some())
        {
            // By its name: a second one may appear any time.
            let of_one = Self { registry: Some(table::registry_label(only)), ..self.clone() };
            return of_one.listing(filter, limit).await;
        }
        if answer.registries.is_empty() && answer.leads == Some(false) {
            let standing = table::clean(answer.standing.as_deref().unwrap_or("does not lead"));
            return Err(ClientError::NotTheLeader { url: self.url.clone(), standing });
        }
        table::sort_registries(&mut answer.registries);
        Ok(Listing::Registries(answer))
    }

    pub(super) async fn summary(&self) -> Result<SummaryResponse, ClientError> {
        self.get("/summary", Vec::new()).await
    }

    pub(super) async fn refresh(&self, reference: &str) -> Result<RefreshResponse, ClientError> {
        let segment = utf8_percent_encode(reference, UNRESERVED);
        self.send(Method::POST, &format!("/registrations/{segment}/refresh"), Vec::new()).await
    }

    /// One trunk with its history.
    pub(super) async fn detail(&self, reference: &str) -> Result<TrunkDetail, ClientError> {
        let segment = utf8_percent_encode(reference, UNRESERVED);
        self.get(&format!("/registrations/{segment}"), Vec::new()).await
    }

    /// Asks about the trunk with this ref, else about the only one with this name. Returns its ref, too.
    pub(super) async fn by_ref_or_name<T>(
        &self,
        name: &str,
        ask: impl AsyncFn(&str) -> Result<T, ClientError>,
    ) -> Result<(String, T), ClientError> {
        let unknown = match ask(name).await {
            Err(unknown @ ClientError::Refused { status: 404, .. }) => unknown,
            answer => return answer.map(|answer| (name.to_owned(), answer)),
        };
        let mut refs = self.refs_named(name).await?;
        match (refs.len(), refs.pop()) {
            (1, Some(reference)) => ask(&reference).await.map(|answer| (reference, answer)),
            (0, _) | (_, None) => Err(unknown),
            (_, Some(last)) => {
                refs.push(last);
                Err(ClientError::Ambiguous { name: name.to_owned(), refs })
            }
        }
    }

    /// Refs of the trunks with exactly this name.
    pub(super) async fn refs_named(&self, name: &str) -> Result<Vec<String>, ClientError> {
        let filter = Filter { text: Some(name.to_owned()), ..Filter::default() };
        let mut refs = Vec::new();
        self.each_page(&filter, usize::MAX, |trunks| {
            refs.extend(trunks.into_iter().filter(|trunk| trunk.name == name).map(|trunk| trunk.reference));
            Ok(())
        })
        .await?;
        Ok(refs)
    }

    /// Returns at most `limit` trunks. Unhealthy ones are asked for first, so that a limit never hides them
    /// behind healthy ones.
    async fn listing(&self, filter: &Filter, limit: usize) -> Result<Listing, ClientError> {
        let summary = self.summary().await?;
        let mut trunks: Vec<TrunkView> = Vec::new();
        let mut seen = HashSet::new();
        let mut more = false;
        for troubled in [true, false] {
            let states: Vec<TrunkState> = TrunkState::ALL
                .into_iter()
                .filter(|s| UNHEALTHY_STATES.contains(s) == troubled)
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
            })
            .await?;
            if trunks.len() > limit {
                trunks.truncate(limit);
                more = true;
                break;
            }
        }
        table::sort_by_urgency(&mut trunks);
        Ok(Listing::Trunks(Box::new(TrunkList { summary, trunks, more })))
    }

    /// Hands over up to `limit` trunks, page by page, ordered by ref.
    pub(super) async fn each_page(
        &self,
        filter: &Filter,
        limit: usize,
        mut take: impl FnMut(Vec<TrunkView>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut left = limit;
        let mut token: Option<String> = None;
        while left > 0 {
            let page = self.page(filter, left.min(MAX_PAGE), token.as_deref()).await?;
            left = left.saturating_sub(page.items.len());
            take(page.items)?;
            if page.next_page_token.is_none() || page.next_page_token == token {
                return Ok(());
            }
            token = page.next_page_token;
        }
        Ok(())
    }

    async fn page(&self, filter: &Filter, limit: usize, token: Option<&str>) -> Result<Page, ClientError> {
        let limit = limit.to_string();
        let states = filter.states.iter().map(|state| state.name()).collect::<Vec<_>>().join(",");
        let mut parameters = vec![("limit", limit.as_str())];
        parameters.extend((!states.is_empty()).then_some(("state", states.as_str())));
        parameters.extend(filter.registrar.as_deref().map(|registrar| ("registrar", registrar)));
        parameters.extend(filter.text.as_deref().map(|text| ("q", text)));
        parameters.extend(token.map(|token| ("page", token)));
        self.get("/registrations", parameters).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: Parameters<'_>,
    ) -> Result<T, ClientError> {
        self.send(Method::GET, path, parameters).await
    }

    /// Sends a request about the registry that is meant, and reads what comes back.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        mut parameters: Parameters<'_>,
    ) -> Result<T, ClientError> {
        parameters.extend(self.registry.as_deref().map(|registry| ("registry", registry)));
        let mut uri = format!("{}{path}", self.url);
        for (n, (name, value)) in parameters.iter().enumerate() {
            uri.push(if n == 0 { '?' } else { '&' });
            uri.extend([*name, "="].into_iter().chain(utf8_percent_encode(value, UNRESERVED)));
        }
        let (status, body) = tokio::time::timeout(REQUEST_TIMEOUT, self.exchange(method, &uri))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()).into()))
            .map_err(|problem| self.no_answer(&*problem))?;
        let not_a_registry = |problem: String| ClientError::NotARegistry { url: self.url.clone(), problem };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|problem| not_a_registry(problem.to_string()));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(answer) => {
                Err(ClientError::Refused { status: status.as_u16(), message: table::clean(&answer.error) })
            }
            Err(_) => Err(not_a_registry(format!("HTTP status {}", status.as_u16()))),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        uri: &str,
    ) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let request = Request::builder().method(method).uri(uri).body(Empty::new())?;
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await?;
        Ok((status, body.to_bytes()))
    }

    /// The system's own words where it has some: what stands around them names functions.
    fn no_answer(&self, problem: &(dyn Error + 'static)) -> ClientError {
        let mut causes = iter::successors(Some(problem), |&problem| problem.source());
        let cause = causes.clone().find(|cause| cause.is::<io::Error>()).or_else(|| causes.clone().last());
        let problem = match cause {
            _ if causes.any(|cause| cause.is::<LengthLimitError>()) => {
                format!("its response is larger than {} MiB", MAX_BODY >> 20)
            }
            Some(cause) => cause.to_string(),
            None => problem.to_string(),
        };
        ClientError::NoResponse { url: self.url.clone(), problem: table::clean(&problem) }
    }
}
