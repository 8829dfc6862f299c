//! The requests for the Lease: get, create and update, nothing else, and what their failures mean in plain
//! words.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams, core::Status};

use super::{
    LeaseSettings,
    election::{LeaseRecord, LeaseTimes, Observed, WriteFailure},
};
use routr_kube_errors::ApiError;
use routr_types::text::clean;

/// Bytes of what the API server says that are kept.
const MAX_QUOTED_BYTES: usize = 500;

/// A request that failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{problem}")]
pub struct RequestError {
    /// Consequence for the election.
    pub why: WriteFailure,
    /// Message in plain words.
    pub problem: String,
}

/// The Lease at the API server.
#[derive(Clone, Debug)]
pub struct LeaseApi {
    api: Api<Lease>,
    namespace: String,
    name: String,
    /// The object as it was seen last. What others wrote into it (labels, say) is written back.
    last: Option<Lease>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    Create,
    Update,
}

impl LeaseApi {
    /// Accesses the Lease that the settings name.
    #[must_use]
    pub fn new(client: Client, settings: &LeaseSettings) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            namespace: settings.namespace.clone(),
            name: settings.name.clone(),
            last: None,
        }
    }

    /// Reads the Lease; `None`: there is none. It takes as long as it takes.
    ///
    /// # Errors
    /// When there is no usable response.
    pub async fn read(&self) -> Result<Option<Lease>, RequestError> {
        self.api.get_opt(&self.name).await.map_err(|error| self.failed(Verb::Get, &error))
    }

    /// Writes a record: in the place of the version `over`, or as a new Lease. Written twice, the second one
    /// is a conflict.
    ///
    /// # Errors
    /// When the Lease is another one by now, or the API server did not say that it is done.
    pub async fn write(&self, over: Option<&str>, record: &LeaseRecord) -> Result<Lease, RequestError> {
        let params = PostParams::default();
        let lease = self.object(over, record);
        match over {
            Some(_) => {
                let written = self.api.replace(&self.name, &params, &lease).await;
                written.map_err(|error| self.failed(Verb::Update, &error))
            }
            None => {
                let written = self.api.create(&params, &lease).await;
                written.map_err(|error| self.failed(Verb::Create, &error))
            }
        }
    }

    /// There was no response in time.
    #[must_use]
    pub fn late(&self, waited: Duration, times: &LeaseTimes) -> RequestError {
        let Self { namespace, name, .. } = self;
        let problem = format!(
            "no response to a request for the Lease {namespace}/{name} within {:.1} s; a lease duration of {} s leaves {:.1} s for one: \
             raise --lease-duration (operator.leaseDurationSeconds of the chart) where the API server is slow",
            waited.as_secs_f32(),
            times.lease_duration.as_secs(),
            times.request_timeout.as_secs_f32()
        );
        RequestError { why: WriteFailure::Unknown, problem }
    }

    fn object(&self, over: Option<&str>, record: &LeaseRecord) -> Lease {
        let mut lease = match (over, &self.last) {
            (Some(_), Some(last)) => last.clone(),
            _ => Lease::default(),
        };
        let kept = std::mem::take(&mut lease.metadata);
        lease.metadata = ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            resource_version: over.map(str::to_owned),
            managed_fields: None,
            ..kept
        };
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(record.holder.clone());
        spec.lease_duration_seconds = record.seconds;
        spec.acquire_time = record.acquired.and_then(time);
        spec.renew_time = record.renewed.and_then(time);
        spec.lease_transitions = Some(record.transitions);
        lease
    }

    /// An object without a version cannot be replaced safely: a write that names none would replace any.
    ///
    /// # Errors
    /// When it has none.
    pub fn observed(&mut self, lease: Lease) -> Result<Observed, RequestError> {
        let version = lease.metadata.resource_version.clone().filter(|version| !version.is_empty());
        let Some(version) = version else {
            let problem = "the API server sent a Lease without a resourceVersion".to_owned();
            return Err(RequestError { why: WriteFailure::Unknown, problem });
        };
        let record = record(&lease);
        self.last = Some(lease);
        Ok(Observed { record, version })
    }

    fn failed(&self, verb: Verb, error: &kube::Error) -> RequestError {
        let (why, problem) = match error {
            kube::Error::Api(status) => self.refusal(verb, status),
            kube::Error::SerdeError(_) => {
                (WriteFailure::Unknown, format!("the response is no Lease: {}", ApiError::from(error)))
            }
            kube::Error::Auth(_) => (WriteFailure::Refused, ApiError::from(error).to_string()),
            _ => (WriteFailure::Unknown, ApiError::from(error).to_string()),
        };
        RequestError { why, problem }
    }

    fn refusal(&self, verb: Verb, status: &Status) -> (WriteFailure, String) {
        let (namespace, name) = (&self.namespace, &self.name);
        let said = if status.message.is_empty() { &status.reason } else { &status.message };
        let said = &*clean(said, MAX_QUOTED_BYTES);
        let about_namespace = status.details.as_ref().is_some_and(|details| details.kind == "namespaces");
        let terminating = status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
        match status.code {
            409 => (
                WriteFailure::Conflict,
                format!("the Lease {namespace}/{name} was changed by another: {said}"),
            ),
            404 if verb == Verb::Create && about_namespace => (
                WriteFailure::Refused,
                format!("there is no namespace {namespace} to keep the Lease {name} in"),
            ),
            404 if verb == Verb::Create => (
                WriteFailure::Refused,
                format!("the Lease {namespace}/{name} cannot be created (404): {said}"),
            ),
            404 => (WriteFailure::Missing, format!("there is no Lease {namespace}/{name}: {said}")),
            403 if terminating => (
                WriteFailure::Refused,
                format!("the namespace {namespace} is being deleted, and takes no new Lease {name}"),
            ),
            401 => (
                WriteFailure::Refused,
                format!("the API server does not accept the credentials (401): {said}"),
            ),
            403 => (WriteFailure::Refused, forbidden(verb, namespace, name, said)),
            // What is overloaded or starting says nothing on whether it was done.
            429 | 500..=599 => (WriteFailure::Unknown, ApiError::of_status(status).to_string()),
            code => (
                WriteFailure::Refused,
                format!("the API server refuses the Lease {namespace}/{name} ({code}): {said}"),
            ),
        }
    }
}

/// Returns what a Lease says, as far as the election goes.
#[doc(hidden)] // public for fuzz/
#[must_use]
pub fn record(lease: &Lease) -> LeaseRecord {
    let LeaseSpec {
        holder_identity,
        lease_duration_seconds,
        acquire_time,
        renew_time,
        lease_transitions,
        ..
    } = lease.spec.clone().unwrap_or_default();
    LeaseRecord {
        holder: holder_identity.unwrap_or_default(),
        seconds: lease_duration_seconds,
        acquired: acquire_time.map(|time| time.0.as_microsecond()),
        renewed: renew_time.map(|time| time.0.as_microsecond()),
        transitions: lease_transitions.unwrap_or(0),
    }
}

/// Returns which rule of RBAC is missing.
fn forbidden(verb: Verb, namespace: &str, name: &str, said: &str) -> String {
    let (does, rule) = match verb {
        Verb::Get => ("reading", format!("resourceNames [{name}], verbs [get, update]")),
        Verb::Update => ("updating", format!("resourceNames [{name}], verbs [get, update]")),
        // A name cannot be asked for when a thing is created.
        Verb::Create => ("creating", "verbs [create], without resourceNames".to_owned()),
    };
    format!(
        "{does} the Lease {namespace}/{name} is forbidden; the service account needs a Role in {namespace} with: \
         apiGroups [coordination.k8s.io], resources [leases], {rule} ({said})"
    )
}

/// A time of a record as a Lease has it; `None` where no calendar reaches.
#[doc(hidden)] // public for fuzz/
#[must_use]
pub fn time(microseconds: i64) -> Option<MicroTime> {
    Timestamp::from_microsecond(microseconds).ok().map(MicroTime)
}
