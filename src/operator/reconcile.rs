//! One look at one Registry. It reads as its steps:
//!
//! 1. the finalizer is there before anything is registered (`kube::runtime::finalizer`),
//! 2. [`super::dereference`]: its Secrets are read,
//! 3. [`super::validate`]: spec and Secrets become a plan, or a stall that names the field,
//! 4. run: the fleet starts an engine by the plan, or changes in its engine what differs.
//!
//! For one that is being deleted: de-register within the deadline, then let it go. The status is not written here: a
//! [`Reporter`] does that for as long as the Registry exists.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use kube::{
    Api, Client, Resource, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        controller::Action,
        finalizer::{self, Event, finalizer},
    },
};

use super::{
    api_error::ApiError,
    definition::Definition,
    dereference::{self, DereferenceError, dereference},
    events::Speaker,
    fleet::{Farewell, Fleet},
    found::{Found, Unreadable},
    health::Health,
    reporter::Reporter,
    status::{self, Stall},
    validate::validate,
    writer::{KubeWriter, Writer},
};
use crate::{
    addresses::AddressPolicy, admin::RegistryName, engine::handle::LeaveReport, environment,
    instance::Permit, metrics::Metrics, spec::Registry,
};

/// Keeps a deleted Registry until its trunks are de-registered.
pub const FINALIZER: &str = "routr.io/deregister";

const UNREADABLE: &str = "the specification cannot be read by this version of the operator: its definition is of another \
                          version; upgrade both";

/// How often Secrets are read again: the operator has no right to watch them, which is one to list them all.
const SECRETS_PERIOD: Duration = Duration::from_secs(15);
/// How often it is looked whether another Registry still has the same instance id.
const CONFLICT_PERIOD: Duration = Duration::from_secs(5);
/// How often a Registry is looked at when nothing happens, which asks nobody: an engine that has ended is started again.
const PERIOD: Duration = Duration::from_secs(20);
/// What a de-registration gets at least, however long ago the deletion was asked for.
const LEAST_DEADLINE: Duration = Duration::from_secs(5);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(20);

/// What a reconcile needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The engines.
    pub fleet: Fleet,
    /// How requests to the API server fare.
    pub health: Health,
    /// The addresses that Registries may name.
    pub addresses: Arc<AddressPolicy>,
    /// What the definition in the cluster takes.
    pub definition: Arc<Definition>,
    /// Counts.
    pub metrics: Metrics,
    /// Publishes events.
    pub speaker: Speaker,
    /// Acts only while it holds.
    pub permit: Permit,
    /// How long the trunks of a deleted Registry may take to be de-registered.
    pub deregister_deadline: Duration,
}

/// Why a reconcile failed. It is tried again later; what only a person can mend is a stall in the status instead.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A resource of an API server has both.
    #[error("the resource has no namespace or no UID")]
    Anonymous,
    /// Step 1, or the end.
    #[error("cannot set or remove the finalizer {FINALIZER}: {0}")]
    Finalizer(ApiError),
    /// Step 2.
    #[error(transparent)]
    Dereference(DereferenceError),
    /// Reading the Secrets takes longer than it may.
    #[error("cannot read the Secrets: {0}")]
    Deadline(ApiError),
    /// The engine was ended in the middle of a de-registration, or another replica leads by now.
    #[error("deregistration was interrupted: {0}")]
    Interrupted(&'static str),
}

impl ReconcileError {
    /// The request to the API server that failed, where it was one.
    #[must_use]
    pub fn api_error(&self) -> Option<&ApiError> {
        match self {
            Self::Finalizer(error)
            | Self::Deadline(error)
            | Self::Dereference(DereferenceError::Kubernetes { source: error, .. }) => Some(error),
            Self::Anonymous | Self::Dereference(DereferenceError::Stalled(_)) | Self::Interrupted(_) => None,
        }
    }
}

/// One look at one Registry.
///
/// # Errors
/// What is worth another try soon, see [`ReconcileError`].
pub async fn reconcile(found: Arc<Found>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let subject = Subject::of(&found)?;
    // The finalizer is a matter of the metadata alone.
    let api = Api::<PartialObjectMeta<Registry>>::namespaced(context.client.clone(), &subject.namespace);
    let metadata = PartialObjectMeta { types: None, metadata: found.meta().clone(), _phantom: PhantomData };
    let (whose, what, with) = (&subject, &found, &context);
    if found.meta().deletion_timestamp.is_some() && !found.finalizers().iter().any(|name| name == FINALIZER) {
        // It is off, by us or by somebody, and others are still there.
        context.fleet.dismiss(&subject.uid).await;
        context.fleet.linger(&subject.uid, &subject.name);
        return Ok(Action::await_change());
    }
    if found.meta().deletion_timestamp.is_none() {
        report_on(&subject, &found, &context);
    }
    if let Err(problem @ Unreadable::TooLarge { what: "metadata.finalizers", .. }) = &found.registry {
        // Ours cannot be added to finalizers that are not known.
        stall_and_tell(&subject, unreadable_stall(problem), &context);
        return Ok(Action::requeue(PERIOD));
    }
    let outcome = finalizer(&api, FINALIZER, Arc::new(metadata), |event| async move {
        match event {
            Event::Apply(_) => apply(whose, what, with).await,
            Event::Cleanup(_) => cleanup(whose, what, with).await,
        }
    })
    .await;
    match outcome {
        Ok(action) => Ok(action),
        Err(finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error)) => Err(error),
        // Deleted in the meantime, with its finalizers taken away by somebody.
        Err(finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error))
            if is_gone(&error) =>
        {
            context.fleet.dismiss(&subject.uid).await;
            Ok(Action::await_change())
        }
        Err(finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error)) => {
            Err(ReconcileError::Finalizer(error.into()))
        }
        Err(finalizer::Error::UnnamedObject | finalizer::Error::InvalidFinalizer) => {
            Err(ReconcileError::Anonymous)
        }
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.code == 404)
}

/// Whose turn it is.
struct Subject {
    namespace: String,
    uid: String,
    name: RegistryName,
    generation: i64,
}

impl Subject {
    fn of(registry: &Found) -> Result<Self, ReconcileError> {
        let (Some(namespace), Some(uid)) = (registry.namespace(), registry.uid()) else {
            return Err(ReconcileError::Anonymous);
        };
        let name = RegistryName { namespace: Some(namespace.clone()), name: registry.name_any() };
        let generation = registry.meta().generation.unwrap_or_default();
        Ok(Self { namespace, uid, name, generation })
    }
}

async fn apply(subject: &Subject, found: &Found, context: &Context) -> Result<Action, ReconcileError> {
    let registry = match &found.registry {
        Ok(registry) => registry,
        Err(unreadable) => {
            stall_and_tell(subject, unreadable_stall(unreadable), context);
            return Ok(Action::requeue(PERIOD));
        }
    };
    // After a hand-over all begin at once: they are not to go on in step.
    let again = if dereference::refers(&registry.spec) { spread(SECRETS_PERIOD) } else { spread(PERIOD) };
    let stall = async |stall: Stall| {
        // It goes by itself as soon as the other one has gone.
        let waits = [status::reasons::INSTANCE_ID_IN_USE, status::reasons::TOO_MANY_REGISTRIES];
        let again = if waits.contains(&stall.reason) { CONFLICT_PERIOD } else { again };
        stall_and_tell(subject, stall, context);
        context.fleet.suspend(&subject.uid, registry.spec.suspend == Some(true)).await;
        Ok(Action::requeue(again))
    };
    let read = dereference(&context.client, &subject.namespace, &registry.spec);
    let read = tokio::time::timeout(REQUEST, read).await;
    let read = read.map_err(|_| ReconcileError::Deadline(ApiError::timeout(REQUEST)))?;
    let secrets = match read {
        Ok(secrets) => secrets,
        Err(DereferenceError::Stalled(problem)) => return stall(problem).await,
        Err(error) => return Err(ReconcileError::Dereference(error)),
    };
    let plan = match validate(registry, &secrets, &context.addresses) {
        Ok(plan) => plan,
        Err(problem) => return stall(problem).await,
    };
    match context.fleet.run(&subject.uid, subject.generation, plan, has_run(registry)).await {
        Ok(()) => Ok(Action::requeue(again)),
        Err(error) => stall(error.stall()).await,
    }
}

fn unreadable_stall(unreadable: &Unreadable) -> Stall {
    let message = match unreadable {
        // What is wrong may quote a value of the resource, so it is not shown.
        Unreadable::Spec(_) => UNREADABLE.to_owned(),
        Unreadable::TooLarge { .. } => format!("{unreadable}; make it smaller"),
    };
    Stall { reason: status::reasons::INVALID_SPEC, message }
}

/// A Secret that is missing is looked for every few seconds, which is no news.
fn stall_and_tell(subject: &Subject, stall: Stall, context: &Context) {
    let (reason, message) = (stall.reason, stall.message.clone());
    if context.fleet.stall(&subject.uid, subject.generation, stall) {
        tracing::warn!(registry = %subject.name, reason, "spec not applied: {message}");
    }
}

fn report_on(subject: &Subject, found: &Found, context: &Context) {
    let age = found.meta().creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    context.fleet.report_on(&subject.uid, &subject.name, age, || {
        let writer = writer(found, context);
        let before = found.registry.as_ref().ok().and_then(|registry| registry.status.clone());
        Reporter::new(Arc::new(writer), before, context.metrics.clone())
    });
}

fn writer(registry: &Found, context: &Context) -> KubeWriter {
    let (speaker, permit) = (context.speaker.clone(), context.permit.clone());
    KubeWriter::new(speaker, permit, context.definition.clone(), registry.object_ref(&()))
}

/// The Registry is being deleted: its trunks are de-registered, unless it is suspended or was never runnable. Whatever comes
/// of it, the Registry goes when the deadline has passed.
async fn cleanup(subject: &Subject, found: &Found, context: &Context) -> Result<Action, ReconcileError> {
    if context.fleet.is_seen_off(&subject.uid) {
        // Only the finalizer could not be removed the last time.
        return Ok(Action::await_change());
    }
    let suspended = found.registry.as_ref().is_ok_and(|registry| registry.spec.suspend == Some(true));
    let left = time_left(found, context);
    // A new leader, or a restart: the trunks and their credentials have to be read first.
    let successor = !suspended && !context.fleet.runs(&subject.uid);
    if successor {
        report_on(subject, found, context);
        match apply(subject, found, context).await {
            Ok(_) => {}
            Err(error) if left > LEAST_DEADLINE => return Err(error),
            Err(error) => {
                tracing::warn!(registry = %subject.name, %error, "deleted, and it cannot be run any more")
            }
        }
    }
    let farewell = if suspended {
        tracing::info!(registry = %subject.name, "deleted while suspended: bindings stay until they expire");
        None
    } else {
        let left = context.fleet.leave(&subject.uid, subject.generation, left).await;
        left.map_err(|_| ReconcileError::Interrupted("its engine was ended"))?
    };
    if !context.permit.holds() {
        return Err(ReconcileError::Interrupted("another replica may lead by now"));
    }
    let notice = match farewell {
        Some(Farewell::Complete(LeaveReport { removed, given_up: 0 })) => {
            tracing::info!(registry = %subject.name, removed, "deleted: all trunks are deregistered");
            Some(status::deregistered(removed))
        }
        Some(Farewell::Complete(LeaveReport { removed, given_up })) => {
            tracing::warn!(registry = %subject.name, removed, given_up, "deleted: registrars did not remove some bindings");
            Some(status::not_deregistered(given_up, "their registrars did not confirm it in three tries"))
        }
        Some(Farewell::Late { left, why }) => {
            tracing::warn!(registry = %subject.name, left, why, "deleted: not all trunks could be \
                                                                 deregistered in time");
            Some(status::not_deregistered(left, &format!("the deadline has passed: {why}")))
        }
        None if suspended || !found.registry.as_ref().is_ok_and(has_run) => None,
        None => {
            tracing::warn!(registry = %subject.name, "deleted, but it could not be run: its bindings, if \
                                                      any, expire");
            Some(status::not_deregistered(0, "the Registry could not be run"))
        }
    };
    if let Some(notice) = notice {
        writer(found, context).tell(notice).await;
    }
    context.fleet.see_off(&subject.uid).await;
    Ok(Action::await_change())
}

/// Something between four fifths of a time and all of it.
fn spread(period: Duration) -> Duration {
    period - period / 1_000 * u32::try_from(environment::random() % 200).unwrap_or(0)
}

/// What is left of the deadline, which began when the deletion was asked for, whoever led then.
fn time_left(found: &Found, context: &Context) -> Duration {
    let asked_ms = found.meta().deletion_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
    let asked_ms = u64::try_from(asked_ms).unwrap_or(0);
    let gone = Duration::from_millis(environment::unix_ms().saturating_sub(asked_ms));
    let least = LEAST_DEADLINE.min(context.deregister_deadline);
    context.deregister_deadline.saturating_sub(gone).max(least)
}

/// Whether trunks were ever read for it: one that has never run has nothing that a predecessor could have registered.
fn has_run(registry: &Registry) -> bool {
    registry.status.as_ref().is_some_and(|status| status.last_sync.is_some())
}

/// Tells in the status that the finalizer is refused, again and again: by rights or by a webhook, which takes a person. What
/// ails the API server itself passes, and could not be written there.
pub fn tell(found: &Found, error: &ReconcileError, context: &Context) {
    if let (Ok(subject), ReconcileError::Finalizer(problem)) = (Subject::of(found), error)
        && !problem.is_unavailable()
    {
        let stall = Stall { reason: status::reasons::CANNOT_START, message: error.to_string() };
        context.fleet.stall(&subject.uid, subject.generation, stall);
    }
}
