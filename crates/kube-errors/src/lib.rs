//! Failed requests to the Kubernetes API server, in words: the one place that words a [`kube::Error`], and
//! that says whether waiting helps.
//!
//! `Display` of [`kube::Error`] shows whole Rust values, and of a credential plugin also its environment.
//! Neither reaches a log, a condition, an event or `/readyz`.

use std::{error::Error, fmt, time::Duration};

use kube::{client::AuthError, core::Status, runtime::watcher};

use routr_types::{error_text, text::clean};

/// Bytes of what the API server, or a proxy in its place, says that are kept.
const MAX_QUOTED_BYTES: usize = 500;
/// The reason that kube gives a response which is no `Status`.
const NO_STATUS: &str = "Failed to parse error data";

/// Kinds of failures, by what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Overloaded, starting, or not to be reached: it passes.
    Unavailable,
    /// The credentials are not accepted, or there are none.
    Unauthenticated,
    /// A right is missing.
    Forbidden,
    /// There is no such object, or no such resource.
    NotFound,
    /// The object is another one by now.
    Conflict,
    /// The version that a watch goes on from is forgotten: everything is listed again, which is no failure.
    Expired,
    /// Refused for another reason.
    Refused,
    /// The response cannot be understood.
    Malformed,
}

/// A failed request: what the API server said, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Kind of the error, by what helps against it.
    pub kind: Kind,
    /// HTTP status code, where there was a response.
    pub code: Option<u16>,
    /// Time that the API server asks to wait (`Retry-After`), as it sent it.
    pub retry_after: Option<Duration>,
    message: String,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ApiError {}

impl ApiError {
    /// Describes a request that had no response within `limit`.
    #[must_use]
    pub fn timeout(limit: Duration) -> Self {
        Self::without_code(
            Kind::Unavailable,
            format!("no response from the Kubernetes API server within {} s", limit.as_secs_f32()),
        )
    }

    /// Describes the failure of a watch or of the list before it.
    #[must_use]
    pub fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error.into(),
            watcher::Error::WatchError(status) => Self::of_status(status),
            watcher::Error::NoResourceVersion => Self::without_code(
                Kind::Malformed,
                "the Kubernetes API server sends a list without a resourceVersion".to_owned(),
            ),
        }
    }

    /// Describes a response that is an error.
    #[must_use]
    pub fn of_status(status: &Status) -> Self {
        let code = Some(status.code).filter(|code| *code > 0);
        let kind = match status.code {
            401 => Kind::Unauthenticated,
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            410 => Kind::Expired,
            408 | 429 | 502 | 503 | 504 => Kind::Unavailable,
            _ => Kind::Refused,
        };
        let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let retry_after = (retry_after > 0).then(|| Duration::from_secs(u64::from(retry_after)));
        let mut message = "the Kubernetes API server responds".to_owned();
        if let Some(code) = code {
            message += &format!(" {code}");
        }
        let reason = clean(&status.reason, MAX_QUOTED_BYTES);
        if !reason.is_empty() && reason != NO_STATUS {
            message += &format!(" ({reason})");
        }
        let said = clean(&status.message, MAX_QUOTED_BYTES);
        message += &if said.is_empty() { " without saying why".to_owned() } else { format!(": {said}") };
        if let Some(wait) = retry_after {
            message += &format!("; it asks to wait for {} s", wait.as_secs());
        }
        if let Some(advice) = advice(kind, status.code) {
            message += &format!("; {advice}");
        }
        Self { kind, code, retry_after, message }
    }

    fn without_code(kind: Kind, message: String) -> Self {
        Self { kind, code: None, retry_after: None, message }
    }

    /// Returns whether it passes by itself.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }
}

/// Returns what a person could do, where the API server's own words do not say it.
fn advice(kind: Kind, code: u16) -> Option<&'static str> {
    match (kind, code) {
        (_, 429) => Some("it is overloaded"),
        (Kind::Unavailable, _) => Some("it is overloaded or starting"),
        (Kind::Unauthenticated, _) => {
            Some("check that the ServiceAccount exists and that its token, or the kubeconfig, is current")
        }
        (Kind::Forbidden, _) => {
            Some("grant the right to the operator's ServiceAccount; the chart's Roles have all that it needs")
        }
        _ => None,
    }
}

impl From<&kube::Error> for ApiError {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::Auth(error) => Self::without_code(
                Kind::Unauthenticated,
                format!("no credentials for the Kubernetes API server: {}", credentials(error)),
            ),
            kube::Error::SerdeError(error) => Self::without_code(
                Kind::Malformed,
                format!("malformed response from the Kubernetes API server: {}", place(error)),
            ),
            kube::Error::FromUtf8(_) => Self::without_code(
                Kind::Malformed,
                "malformed response from the Kubernetes API server: not UTF-8".to_owned(),
            ),
            kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => Self::without_code(
                Kind::Refused,
                format!(
                    "cannot build the request: {}",
                    clean(&error_text::innermost(error), MAX_QUOTED_BYTES)
                ),
            ),
            _ => Self::without_code(
                Kind::Unavailable,
                format!(
                    "cannot reach the Kubernetes API server: {}",
                    clean(&error_text::innermost(error), MAX_QUOTED_BYTES)
                ),
            ),
        }
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        Self::from(&error)
    }
}

/// Returns where JSON cannot be read. The error's own words may quote what is there.
fn place(error: &serde_json::Error) -> String {
    let what = if error.is_eof() {
        "it ends in the middle"
    } else if error.is_data() {
        "not the object that was asked for"
    } else {
        "not JSON"
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// Returns why there are no credentials, without what a credential plugin was given or has printed.
fn credentials(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => match out.status.code() {
            Some(code) => format!("the credential plugin of the kubeconfig ended with exit status {code}"),
            None => "the credential plugin of the kubeconfig was killed".to_owned(),
        },
        AuthError::AuthExecStart(error) => {
            format!("the credential plugin of the kubeconfig cannot be started: {error}")
        }
        AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed | AuthError::AuthExec(_) => {
            "the credential plugin of the kubeconfig printed no ExecCredential with a status".to_owned()
        }
        AuthError::ReadTokenFile(error, path) => {
            format!("the token file {} cannot be read: {error}", path.display())
        }
        AuthError::InvalidBearerToken(_) => {
            "the token has characters that no HTTP header can carry".to_owned()
        }
        AuthError::InvalidBasicAuth(_) => {
            "the password has characters that no HTTP header can carry".to_owned()
        }
        AuthError::MissingCommand => "the credential plugin of the kubeconfig has no command".to_owned(),
        _ => "the credentials of the kubeconfig cannot be used".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(code: u16, reason: &str, message: &str) -> ApiError {
        let status = Status::failure(message, reason).with_code(code);
        ApiError::from(&kube::Error::Api(status.boxed()))
    }

    #[test]
    fn k9_an_error_is_worded_without_rust_values() {
        let overloaded = error(429, NO_STATUS, "Too many requests, please try again later.\n");
        assert_eq!(
            overloaded.to_string(),
            "the Kubernetes API server responds 429: Too many requests, please try again later.; it is overloaded"
        );
        let forbidden = error(403, "Forbidden", "registries.routr.io is forbidden");
        assert!(forbidden.to_string().starts_with("the Kubernetes API server responds 403 (Forbidden): reg"));
        assert_eq!(
            error(500, "", "").to_string(),
            "the Kubernetes API server responds 500 without saying why"
        );
        for error in
            [overloaded, forbidden, error(0, "", ""), error(503, NO_STATUS, "<html>\u{1b}[31m</html>")]
        {
            let text = error.to_string();
            assert!(
                !text.contains("Status {") && !text.contains("Some(") && !text.contains('\u{1b}'),
                "{text}"
            );
        }
        let long = error(502, NO_STATUS, &"x".repeat(100_000));
        assert!(long.to_string().len() < 700);
    }

    #[test]
    fn what_passes_is_distinguished_from_what_takes_a_person() {
        for code in [429, 502, 503, 504] {
            assert!(error(code, "", "").is_unavailable(), "{code}");
        }
        for code in [400, 401, 403, 404, 409, 410, 422, 500] {
            assert!(!error(code, "", "").is_unavailable(), "{code}");
        }
        assert!(ApiError::timeout(Duration::from_secs(10)).is_unavailable());
    }

    #[test]
    fn the_wait_that_is_asked_for_is_known() {
        let status = json!({ "code": 429, "message": "slow down", "details": { "retryAfterSeconds": 90 } });
        let status: Status = serde_json::from_value(status).unwrap();
        let error = ApiError::of_status(&status);
        assert_eq!(error.retry_after, Some(Duration::from_secs(90)));
        assert!(error.to_string().contains("it asks to wait for 90 s"), "{error}");
    }

    /// Neither the arguments nor the environment of a plugin, nor what it printed.
    #[test]
    fn a_failed_credential_plugin_is_described_by_its_exit_status_alone() {
        let out = std::process::Command::new("sh").args(["-c", "echo s3cret; exit 3"]).output().unwrap();
        let cmd = "PASSWORD=s3cret \"plugin\" --token s3cret".to_owned();
        let error = kube::Error::Auth(AuthError::AuthExecRun { cmd, out: Box::new(out) });
        let text = ApiError::from(&error).to_string();
        assert!(text.contains("exit status 3") && !text.contains("s3cret"), "{text}");
    }
}
