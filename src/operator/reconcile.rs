//! A reconcile of one Registry: it computes one [`Desired`] state, and hands it over to
//! [`EngineManager::apply`], which alone changes what runs. It reads as its steps:
//!
//! 1. the finalizer is there before anything is registered (`kube::runtime::finalizer`),
//! 2. [`super::dereference`]: its Secrets are read,
//! 3. [`super::validate`]: spec and Secrets become a plan, or a stall that names the field,
//! 4. apply: an engine is started by the plan, or what differs is changed in the one that runs.
//!
//! For one that is being deleted: deregister within the deadline, then remove the finalizer. The status is
//! not written here: a [`StatusUpdater`] does that for as long as the Registry exists.

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
    engines::{DeregistrationResult, Desired, EngineManager, Interrupted, Outcome},
    events::EventReporter,
    health::Health,
    lenient_registry::{LenientRegistry, Unreadable},
    request_limiter::RequestLimiter,
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
/// Reconciles at the same time, and those of one namespace. A deletion does not count: it may take its whole
/// deadline. More would only wait for their requests to the API server, each with all that it has read.
const MAX_RECONCILES: (usize, usize) = (128, 32);
/// Longest time that one request may take.
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
    /// Bounds reconciles; see [`turns`].
    pub turns: RequestLimiter,
}

/// Makes the limit on reconciles at the same time.
#[must_use]
pub fn turns() -> RequestLimiter {
    RequestLimiter::new(MAX_RECONCILES.0, MAX_RECONCILES.1)
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
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl ReconcileError {
    /// Every [`ReconcileError::reason`].
    pub const REASONS: [&str; 5] =
        ["Anonymous", "FinalizerFailed", "SecretUnreadable", "SecretTimeout", "Interrupted"];

    /// The reason in CamelCase, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Anonymous => "Anonymous",
            Self::Finalizer(_) => "FinalizerFailed",
            Self::Dereference(_) => "SecretUnreadable",
            Self::Deadline(_) => "SecretTimeout",
            Self::Interrupted(_) => "Interrupted",
        }
    }

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

/// Reconciles one Registry.
///
/// # Errors
/// What is worth another try soon, see [`ReconcileError`].
pub async fn reconcile(found: Arc<LenientRegistry>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let _turn = match found.meta().deletion_timestamp {
        None => Some(context.turns.acquire_in(found.meta().namespace.as_deref()).await),
        Some(_) => None,
    };
    // Boxed: thousands may wait for their turn.
    Box::pin(reconcile_now(&found, &context)).await
}

async fn reconcile_now(found: &LenientRegistry, context: &Context) -> Result<Action, ReconcileError> {
    let registry_ref = RegistryRef::of(found)?;
    let deleted = found.meta().deletion_timestamp.is_some();
    if deleted && !found.finalizers().iter().any(|name| name == FINALIZER) {
        // It is off, by us or by a user, and others are still there.
        let released = Desired::Released(registry_ref.name.clone());
        context.apply(&registry_ref, released).await?;
        return Ok(Action::await_change());
    }
    if !deleted {
        observe(&registry_ref, found, context);
    }
    if let Err(problem @ Unreadable::TooLarge { what: "metadata.finalizers", .. }) = &found.registry {
        // Ours cannot be added to finalizers that are not known.
        context.apply(&registry_ref, stall_of_unreadable(problem)).await?;
        return Ok(Action::requeue(RECONCILE_PERIOD));
    }
    // The finalizer is a matter of the metadata alone.
    let api = Api::<PartialObjectMeta<Registry>>::namespaced(context.client.clone(), &registry_ref.namespace);
    let metadata = PartialObjectMeta { types: None, metadata: found.meta().clone(), _phantom: PhantomData };
    let whose = &registry_ref;
    let outcome = finalizer(&api, FINALIZER, Arc::new(metadata), |event| async move {
        match event {
            Event::Apply(_) => follow(whose, found, context).await,
            Event::Cleanup(_) => cleanup(whose, found, context).await,
        }
    })
    .await;
    match outcome {
        Ok(action) => Ok(action),
        Err(finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error)) => Err(error),
        // Deleted in the meantime, with its finalizers taken away by a user.
        Err(finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error))
            if is_gone(&error) =>
        {
            context.apply(&registry_ref, Desired::Gone).await?;
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

impl Context {
    async fn apply(&self, registry_ref: &RegistryRef, desired: Desired) -> Result<Outcome, Interrupted> {
        self.engines.apply(&registry_ref.uid, registry_ref.generation, desired).await
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.code == 404)
}

/// The Registry that is reconciled.
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

/// Follows the spec of a Registry that is not being deleted.
async fn follow(
    registry_ref: &RegistryRef,
    found: &LenientRegistry,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let desired = desired(registry_ref, found, context).await?;
    let outcome = context.apply(registry_ref, desired).await?;
    // It resolves itself as soon as the other Registry is gone.
    let waits = [
        status::reasons::ConditionReason::InstanceIdInUse,
        status::reasons::ConditionReason::TooManyRegistries,
    ];
    Ok(Action::requeue(match (&outcome, &found.registry) {
        (Outcome::Stalled(reason), _) if waits.contains(reason) => CONFLICT_PERIOD,
        (_, Err(_)) => RECONCILE_PERIOD,
        // After a hand-over all begin at once: they must not stay in step.
        (_, Ok(registry)) if dereference::refers(&registry.spec) => jitter(SECRETS_PERIOD),
        (_, Ok(_)) => jitter(RECONCILE_PERIOD),
    }))
}

/// Computes what the spec asks for.
async fn desired(
    registry_ref: &RegistryRef,
    found: &LenientRegistry,
    context: &Context,
) -> Result<Desired, ReconcileError> {
    let registry = match &found.registry {
        Ok(registry) => registry,
        Err(unreadable) => return Ok(stall_of_unreadable(unreadable)),
    };
    let stalled = |stall| Desired::Stall { stall, suspend: Some(registry.spec.suspend == Some(true)) };
    let read = dereference(&context.client, &registry_ref.namespace, &registry.spec);
    let read = tokio::time::timeout(REQUEST_TIMEOUT, read).await;
    let read = read.map_err(|_| ReconcileError::Deadline(ApiError::timeout(REQUEST_TIMEOUT)))?;
    let secrets = match read {
        Ok(secrets) => secrets,
        Err(DereferenceError::Stalled(problem)) => return Ok(stalled(problem)),
        Err(error) => return Err(ReconcileError::Dereference(error)),
    };
    Ok(match validate(registry, &secrets, &context.addresses) {
        Ok(plan) => Desired::Run { plan: Box::new(plan), has_run: found.has_run },
        Err(problem) => stalled(problem),
    })
}

fn stall_of_unreadable(unreadable: &Unreadable) -> Desired {
    let message = match unreadable {
        // What is wrong may quote a value of the resource, so it is not shown.
        Unreadable::Spec(_) => UNREADABLE.to_owned(),
        Unreadable::TooLarge { .. } => format!("{unreadable}; make it smaller"),
    };
    Desired::Stall {
        stall: Stall { reason: status::reasons::ConditionReason::InvalidSpec, message },
        suspend: None,
    }
}

/// Has the Registry listed and reported on from now on.
fn observe(registry_ref: &RegistryRef, found: &LenientRegistry, context: &Context) {
    let age = found.meta().creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
    context.engines.observe(&registry_ref.uid, &registry_ref.name, age, || {
        let writer = writer(found, context);
        let before = found.registry.as_ref().ok().and_then(|registry| registry.status.clone());
        StatusUpdater::new(Arc::new(writer), before, context.metrics.clone())
    });
    context.engines.seen(&registry_ref.name, registry_ref.generation);
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
    let desired = if suspended {
        tracing::info!(registry = %registry_ref.name, "deleted while suspended: bindings stay until they expire");
        Desired::End
    } else {
        let deadline = time_left(found, context);
        // A new leader, or a restart: the trunks and their credentials have to be read first.
        let first = if context.engines.runs(&registry_ref.uid) {
            None
        } else {
            observe(registry_ref, found, context);
            match desired(registry_ref, found, context).await {
                Ok(first) => Some(Box::new(first)),
                Err(error) if deadline > MIN_DEREGISTER_DEADLINE => return Err(error),
                Err(error) => {
                    tracing::warn!(registry = %registry_ref.name, %error, "deleted, and it cannot be run any more");
                    None
                }
            }
        };
        Desired::Deregister { deadline, first }
    };
    let result = match context.apply(registry_ref, desired).await? {
        Outcome::Deregistered(result) => result,
        Outcome::Applied | Outcome::Stalled(_) => None,
    };
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
        None if suspended || !found.has_run => None,
        None => {
            tracing::warn!(registry = %registry_ref.name, "deleted, but it could not be run: its bindings, if \
                                                      any, expire");
            Some(status::not_deregistered(0, "the Registry could not be run"))
        }
    };
    if let Some(notice) = notice {
        writer(found, context).record_event(notice).await;
    }
    Ok(Action::await_change())
}

/// Returns something between four fifths of a time and all of it.
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

/// Shows in the status that the finalizer is refused, again and again: by rights or by a webhook, which takes
/// a user's change. A failure of the API server itself passes, and could not be written there.
pub fn report_finalizer_error(found: &LenientRegistry, error: &ReconcileError, context: &Context) {
    if let (Ok(registry_ref), ReconcileError::Finalizer(problem)) = (RegistryRef::of(found), error)
        && !problem.is_unavailable()
    {
        let stall =
            Stall { reason: status::reasons::ConditionReason::CannotStart, message: error.to_string() };
        context.engines.report_stall(&registry_ref.uid, registry_ref.generation, stall);
    }
}
