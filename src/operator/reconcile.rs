//! One look at one Registry. It reads as its steps:
//!
//! 1. the finalizer is there before anything is registered (`kube::runtime::finalizer`),
//! 2. [`dereference`](super::dereference): its Secrets are read,
//! 3. [`validate`](super::validate): spec and Secrets become a plan, or a stall that names the field,
//! 4. run: the fleet starts an engine by the plan, or changes in its engine what differs.
//!
//! For one that is being deleted: de-register within the deadline, then let it go. The status is not written here: a
//! [`Reporter`] does that for as long as the Registry exists.

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        controller::Action,
        events::Recorder,
        finalizer::{self, Event, finalizer},
    },
};

use super::{
    dereference::{self, DereferenceError, dereference},
    fleet::{Farewell, Fleet},
    reporter::Reporter,
    status::{self, Stall, reasons},
    validate::validate,
    writer::{KubeWriter, Writer},
};
use crate::{admin::RegistryName, instance::Permit, metrics::Metrics, spec::Registry};

/// Keeps a deleted Registry until its trunks are de-registered.
pub const FINALIZER: &str = "routr.io/deregister";

/// How often Secrets are read again: the operator has no right to watch them, which is one to list them all.
const SECRETS_PERIOD: Duration = Duration::from_secs(15);
/// How often one is looked at that waits for the instance id of another.
const TWIN_PERIOD: Duration = Duration::from_secs(10);
/// How often a Registry is looked at when nothing happens, should anything have been missed.
const PERIOD: Duration = Duration::from_secs(300);

/// What a reconcile needs.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The engines.
    pub fleet: Fleet,
    /// Counts.
    pub metrics: Metrics,
    /// Publishes events.
    pub recorder: Recorder,
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
    Finalizer(String),
    /// Step 2.
    #[error(transparent)]
    Dereference(DereferenceError),
}

/// One look at one Registry.
///
/// # Errors
/// What is worth another try soon, see [`ReconcileError`].
pub async fn reconcile(registry: Arc<Registry>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let subject = Subject::of(&registry)?;
    let api = Api::<Registry>::namespaced(context.client.clone(), &subject.namespace);
    let outcome = finalizer(&api, FINALIZER, registry, |event| async {
        match event {
            Event::Apply(registry) => apply(&subject, &registry, &context).await,
            Event::Cleanup(registry) => cleanup(&subject, &registry, &context).await,
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
        Err(error) => Err(ReconcileError::Finalizer(chain(&error))),
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if answer.code == 404)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Whose turn it is.
struct Subject {
    namespace: String,
    uid: String,
    name: RegistryName,
}

impl Subject {
    fn of(registry: &Registry) -> Result<Self, ReconcileError> {
        let (Some(namespace), Some(uid)) = (registry.namespace(), registry.uid()) else {
            return Err(ReconcileError::Anonymous);
        };
        let name = RegistryName { namespace: Some(namespace.clone()), name: registry.name_any() };
        Ok(Self { namespace, uid, name })
    }
}

async fn apply(subject: &Subject, registry: &Registry, context: &Context) -> Result<Action, ReconcileError> {
    let generation = registry.metadata.generation.unwrap_or_default();
    let again = if dereference::refers(&registry.spec) { SECRETS_PERIOD } else { PERIOD };
    report_on(subject, registry, context);
    let stall = |stall: Stall, again: Duration| {
        // A Secret that is missing is looked for every few seconds, which is no news.
        if context.fleet.stall(&subject.uid, generation, stall.clone()) {
            tracing::warn!(registry = %subject.name, reason = stall.reason, "not followed: {}", stall.message);
        }
        Ok(Action::requeue(again))
    };
    let secrets = match dereference(&context.client, &subject.namespace, &registry.spec).await {
        Ok(secrets) => secrets,
        Err(DereferenceError::Stalled(problem)) => return stall(problem, again),
        Err(error) => return Err(ReconcileError::Dereference(error)),
    };
    let plan = match validate(registry, &secrets) {
        Ok(plan) => plan,
        Err(problem) => return stall(problem, again),
    };
    match context.fleet.run(&subject.uid, generation, plan).await {
        Ok(()) => Ok(Action::requeue(again)),
        Err(error) => {
            let problem = error.stall();
            // What another Registry has is free once that is gone, of which this one hears nothing.
            let again = if problem.reason == reasons::INSTANCE_ID_IN_USE { TWIN_PERIOD } else { again };
            stall(problem, again)
        }
    }
}

fn report_on(subject: &Subject, registry: &Registry, context: &Context) {
    context.fleet.report_on(&subject.uid, &subject.name, || {
        let writer = writer(registry, context);
        Reporter::new(Arc::new(writer), registry.status.clone(), context.metrics.clone())
    });
}

fn writer(registry: &Registry, context: &Context) -> KubeWriter {
    KubeWriter::new(
        context.client.clone(),
        context.recorder.clone(),
        context.permit.clone(),
        registry.object_ref(&()),
    )
}

/// The Registry is being deleted: its trunks are de-registered, unless it is suspended or was never runnable. Whatever comes
/// of it, the Registry goes when the deadline has passed.
async fn cleanup(
    subject: &Subject,
    registry: &Registry,
    context: &Context,
) -> Result<Action, ReconcileError> {
    let generation = registry.metadata.generation.unwrap_or_default();
    let suspended = registry.spec.suspend.unwrap_or(false);
    if !suspended && !context.fleet.runs(&subject.uid) {
        // A new leader, or a restart: the trunks and their credentials have to be read first.
        if let Err(error) = apply(subject, registry, context).await {
            tracing::warn!(registry = %subject.name, %error, "deleted, and cannot be run any more: its bindings lapse by themselves");
        }
    }
    let farewell = if suspended {
        tracing::info!(registry = %subject.name, "deleted while suspended: bindings stay until they lapse");
        None
    } else {
        context.fleet.leave(&subject.uid, generation, context.deregister_deadline).await
    };
    let notice = match farewell {
        Some(Farewell::Complete { removed }) => {
            tracing::info!(registry = %subject.name, removed, "deleted: all trunks are de-registered");
            Some(status::deregistered(removed))
        }
        Some(Farewell::Late { left, why }) => {
            tracing::warn!(registry = %subject.name, left, why, "deleted: not all trunks could be de-registered in time");
            Some(status::not_deregistered(left, &why))
        }
        None => None,
    };
    if let Some(notice) = notice {
        writer(registry, context).tell(notice).await;
    }
    context.fleet.dismiss(&subject.uid).await;
    Ok(Action::await_change())
}
