//! One look at one Registry. It reads as its steps:
//!
//! 1. the finalizer is there before anything is registered (`kube::runtime::finalizer`),
//! 2. [`super::dereference`]: its Secrets are read,
//! 3. [`super::validate`]: spec and Secrets become a plan, or a stall that names the field,
//! 4. run: the engine manager starts an engine by the plan, or changes in its engine what differs.
//!
//! For one that is being deleted: deregister within the deadline, then let it go. The status is not written
//! here: a [`StatusUpdater`] does that for as long as the Registry exists.

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
    definition::Definition,
    dereference::{self, DereferenceError, dereference},
    engines::{DeregistrationResult, EngineManager},
    events::EventReporter,
    health::Health,
    lenient_registry::{LenientRegistry, Unreadable},
    status::{self, Stall},
    status_updater::StatusUpdater,
    status_writer::{KubeStatusWriter, StatusWriter},
    validate::validate,
};
use crate::{instance::Fence, metrics::Metrics, registry::RegistryName, spec::Registry};
use routr_kube_errors::ApiError;
use routr_net::addresses::AddressPolicy;
use routr_registration::engine::view::DeregistrationReport;

/// Keeps a deleted Registry until its trunks are deregistered.
pub const FINALIZER: &str = "routr.io/deregister";

const UNREADABLE: &str = "the specification cannot be read by this version of the operator: its definition is of another \
                          version; upgrade both";

/// Period at which Secrets are read again: the operator has no right to watch them, which is one to list them
/// all.
const SECRETS_PERIOD: Duration = Duration::from_secs(15);
/// Period at which it is checked whether another Registry still has the same instance id.
const CONFLICT_PERIOD: Duration = Duration::from_secs(5);
/// Period at which a Registry is reconciled when nothing happens, without any request: an engine that has
/// ended is started again.
const RECONCILE_PERIOD: Duration = Duration::from_secs(20);
/// Shortest time that a deregistration gets, however long ago the deletion was asked for.
const MIN_DEREGISTER_DEADLINE: Duration = Duration::from_secs(5);
/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Parts that a reconcile needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The engines.
    pub engines: EngineManager,
    /// Health of requests to the API server.
    pub health: Health,
    /// The addresses that Registries may name.
    pub addresses: Arc<AddressPolicy>,
    /// Parts of a status that the definition in the cluster does not take.
    pub definition: Arc<Definition>,
    /// Counts.
    pub metrics: Metrics,
    /// Publishes events.
    pub events: EventReporter,
    /// Acts only while it holds.
    pub fence: Fence,
    /// Time that the trunks of a deleted Registry may take to be deregistered.
    pub deregister_deadline: Duration,
}

/// Reason that a reconcile failed. It is tried again later; a problem that only a person can fix is a stall
/// in the status instead.
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
    /// The engine was ended in the middle of a deregistration, or another replica leads by now.
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
pub async fn reconcile(found: Arc<LenientRegistry>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let registry_ref = RegistryRef::of(&found)?;
    // The finalizer is a matter of the metadata alone.
    let api = Api::<PartialObjectMeta<Registry>>::namespaced(context.client.clone(), &registry_ref.namespace);
    let metadata = PartialObjectMeta { types: None, metadata: found.meta().clone(), _phantom: PhantomData };
    let (whose, what, with) = (&registry_ref, &found, &context);
    if found.meta().deletion_timestamp.is_some() && !found.finalizers().iter().any(|name| name == FINALIZER) {
        // It is off, by us or by someone, and others are still there.
        context.engines.stop(&registry_ref.uid).await;
        context.engines.keep_listed(&registry_ref.uid, &registry_ref.name);
        return Ok(Action::await_change());
    }
    if found.meta().deletion_timestamp.is_none() {
        report_on(&registry_ref, &found, &context);
    }
    if let Err(problem @ Unreadable::TooLarge { what: "metadata.finalizers", .. }) = &found.registry {
        // Ours cannot be added to finalizers that are not known.
        report_stalled(&registry_ref, stall_of_unreadable(problem), &context);
        return Ok(Action::requeue(RECONCILE_PERIOD));
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
        // Deleted in the meantime, with its finalizers taken away by someone.
        Err(finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error))
            if is_gone(&error) =>
        {
            context.engines.stop(&registry_ref.uid).await;
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

/// Registry that is reconciled.
struct RegistryRef {
    namespace: String,
    uid: String,
    name: RegistryName,
    generation: i64,
}

impl RegistryRef {
    fn of(registry: &LenientRegistry) -> Result<Self, ReconcileError> {
        let (Some(namespace), Some(uid)) = (registry.namespace(), registry.uid()) else {
            return Err(ReconcileError::Anonymous);
        };
        let name = RegistryName { namespace: Some(namespace.clone()), name: registry.name_any() };
        let generation = registry.meta().generation.unwrap_or_default();
        Ok(Self { namespace, uid, name, generation })
    }
}

async fn apply(
    registry_ref: &RegistryRef,
    found: &LenientRegistry,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let registry = match &found.registry {
        Ok(registry) => registry,
        Err(unreadable) => {
            report_stalled(registry_ref, stall_of_unreadable(unreadable), context);
            return Ok(Action::requeue(RECONCILE_PERIOD));
        }
    };
    // After a hand-over all begin at once: they are not to go on in step.
    let again =
        if dereference::refers(&registry.spec) { jitter(SECRETS_PERIOD) } else { jitter(RECONCILE_PERIOD) };
    let stall = async |stall: Stall| {
        // It goes by itself as soon as the other one has gone.
        let waits = [status::reasons::INSTANCE_ID_IN_USE, status::reasons::TOO_MANY_REGISTRIES];
        let again = if waits.contains(&stall.reason) { CONFLICT_PERIOD } else { again };
        report_stalled(registry_ref, stall, context);
        context.engines.suspend(&registry_ref.uid, registry.spec.suspend == Some(true)).await;
        Ok(Action::requeue(again))
    };
    let read = dereference(&context.client, &registry_ref.namespace, &registry.spec);
    let read = tokio::time::timeout(REQUEST_TIMEOUT, read).await;
    let read = read.map_err(|_| ReconcileError::Deadline(ApiError::timeout(REQUEST_TIMEOUT)))?;
    let secrets = match read {
        Ok(secrets) => secrets,
        Err(DereferenceError::Stalled(problem)) => return stall(problem).await,
        Err(error) => return Err(ReconcileError::Dereference(error)),
    };
    let plan = match validate(registry, &secrets, &context.addresses) {
        Ok(plan) => plan,
        Err(problem) => return stall(problem).await,
    };
    match context.engines.run(&registry_ref.uid, registry_ref.generation, plan, has_run(registry)).await {
        Ok(()) => Ok(Action::requeue(again)),
        Err(error) => stall(error.stall()).await,
    }
}

fn stall_of_unreadable(unreadable: &Unreadable) -> Stall {
    let message = match unreadable {
        // What is wrong may quote a value of the resource, so it is not shown.
        Unreadable::Spec(_) => UNREADABLE.to_owned(),
        Unreadable::TooLarge { .. } => format!("{unreadable}; make it smaller"),
    };
    Stall { reason: status::reasons::INVALID_SPEC, message }
}

/// A Secret that is missing is looked for every few seconds, which is no news.
fn report_stalled(registry_ref: &RegistryRef, stall: Stall, context: &Context) {
    let (reason, message) = (stall.reason, stall.message.clone());
    if context.engines.stall(&registry_ref.uid, registry_ref.generation, stall) {
        tracing::warn!(registry = %registry_ref.name, reason, "spec not applied: {message}");
    }
}

fn report_on(registry_ref: &RegistryRef, found: &LenientRegistry, context: &Context) {
    let age = found.meta().creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    context.engines.report_on(&registry_ref.uid, &registry_ref.name, age, || {
        let writer = writer(found, context);
        let before = found.registry.as_ref().ok().and_then(|registry| registry.status.clone());
        StatusUpdater::new(Arc::new(writer), before, context.metrics.clone())
    });
}

fn writer(registry: &LenientRegistry, context: &Context) -> KubeStatusWriter {
    let (events, fence) = (context.events.clone(), context.fence.clone());
    KubeStatusWriter::new(events, fence, context.definition.clone(), registry.object_ref(&()))
}

/// The Registry is being deleted: its trunks are deregistered, unless it is suspended or was never runnable.
/// Whatever comes of it, the Registry goes when the deadline has passed.
async fn cleanup(
    registry_ref: &RegistryRef,
    found: &LenientRegistry,
    context: &Context,
) -> Result<Action, ReconcileError> {
    if context.engines.is_deregistration_finished(&registry_ref.uid) {
        // Only the finalizer could not be removed the last time.
        return Ok(Action::await_change());
    }
    let suspended = found.registry.as_ref().is_ok_and(|registry| registry.spec.suspend == Some(true));
    let left = time_left(found, context);
    // A new leader, or a restart: the trunks and their credentials have to be read first.
    let successor = !suspended && !context.engines.runs(&registry_ref.uid);
    if successor {
        report_on(registry_ref, found, context);
        match apply(registry_ref, found, context).await {
            Ok(_) => {}
            Err(error) if left > MIN_DEREGISTER_DEADLINE => return Err(error),
            Err(error) => {
                tracing::warn!(registry = %registry_ref.name, %error, "deleted, and it cannot be run any more")
            }
        }
    }
    let result = if suspended {
        tracing::info!(registry = %registry_ref.name, "deleted while suspended: bindings stay until they expire");
        None
    } else {
        let left = context.engines.deregister(&registry_ref.uid, registry_ref.generation, left).await;
        left.map_err(|_| ReconcileError::Interrupted("its engine was ended"))?
    };
    if !context.fence.holds() {
        return Err(ReconcileError::Interrupted("another replica may lead by now"));
    }
    let notice = match result {
        Some(DeregistrationResult::Complete(DeregistrationReport { removed, abandoned: 0 })) => {
            tracing::info!(registry = %registry_ref.name, removed, "deleted: all trunks are deregistered");
            Some(status::deregistered(removed))
        }
        Some(DeregistrationResult::Complete(DeregistrationReport { removed, abandoned })) => {
            tracing::warn!(registry = %registry_ref.name, removed, abandoned, "deleted: registrars did not remove some bindings");
            Some(status::not_deregistered(abandoned, "their registrars did not confirm it in three tries"))
        }
        Some(DeregistrationResult::DeadlineExceeded { left, why }) => {
            tracing::warn!(registry = %registry_ref.name, left, why, "deleted: not all trunks could be \
                                                                 deregistered in time");
            Some(status::not_deregistered(left, &format!("the deadline has passed: {why}")))
        }
        None if suspended || !found.registry.as_ref().is_ok_and(has_run) => None,
        None => {
            tracing::warn!(registry = %registry_ref.name, "deleted, but it could not be run: its bindings, if \
                                                      any, expire");
            Some(status::not_deregistered(0, "the Registry could not be run"))
        }
    };
    if let Some(notice) = notice {
        writer(found, context).record_event(notice).await;
    }
    context.engines.finish_deregistration(&registry_ref.uid).await;
    Ok(Action::await_change())
}

/// Something between four fifths of a time and all of it.
fn jitter(period: Duration) -> Duration {
    period - period / 1_000 * u32::try_from(routr_environment::random() % 200).unwrap_or(0)
}

/// Returns what is left of the deadline, which began when the deletion was asked for, no matter who led then.
fn time_left(found: &LenientRegistry, context: &Context) -> Duration {
    let asked_ms = found.meta().deletion_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond());
    let asked_ms = u64::try_from(asked_ms).unwrap_or(0);
    let gone = Duration::from_millis(routr_environment::unix_ms().saturating_sub(asked_ms));
    let least = MIN_DEREGISTER_DEADLINE.min(context.deregister_deadline);
    context.deregister_deadline.saturating_sub(gone).max(least)
}

/// Returns whether trunks were ever read for it: one that has never run has nothing that a predecessor could
/// have registered.
fn has_run(registry: &Registry) -> bool {
    registry.status.as_ref().is_some_and(|status| status.last_sync_time.is_some())
}

/// Reports in the status that the finalizer is refused, again and again: by rights or by a webhook, which
/// takes a person. An error of the API server itself passes, and could not be written there.
pub fn report_finalizer_error(found: &LenientRegistry, error: &ReconcileError, context: &Context) {
    if let (Ok(registry_ref), ReconcileError::Finalizer(problem)) = (RegistryRef::of(found), error)
        && !problem.is_unavailable()
    {
        let stall = Stall { reason: status::reasons::CANNOT_START, message: error.to_string() };
        context.engines.stall(&registry_ref.uid, registry_ref.generation, stall);
    }
}
