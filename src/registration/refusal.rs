//! The wait after refused credentials, or an unknown account: it outlives the process, so that nothing is offered more often.

use super::{
    Class, Refusal, Registration,
    reply::{Cause, Reason},
    time::Moment,
};

impl Registration {
    /// The wait after a refusal, if there is one: of what is tried next, or of the preferred target while another one holds
    /// the binding.
    pub fn refusal(&self, now: Moment) -> Option<Refusal> {
        let trouble = self.trouble.as_ref()?;
        let (until, times) = match (trouble.rejections, trouble.preferred_rejections) {
            (0, 0) => return None,
            (0, times) => (trouble.preferred_retry_at, times),
            (times, _) => (self.due, times),
        };
        let position = trouble.refused_at.filter(|_| until > now && until != Moment::NEVER)?;
        let reason = trouble.refused_for.unwrap_or(Reason::CredentialsRejected);
        Some(Refusal { position, reason, until, times, since_unix_ms: trouble.refused_since_ms })
    }

    /// Position of the URI whose registrar refused credentials or account last.
    pub fn refused_at(&self) -> Option<u8> {
        self.trouble.as_ref()?.refused_at
    }

    /// Goes on waiting after a refusal that was met with before a restart. `preferred` where it is the preferred target's,
    /// while another one holds the binding.
    pub fn resume_refusal(&mut self, refusal: Refusal, preferred: bool) {
        let bound = self.class == Class::Refresh;
        let trouble = self.trouble_mut();
        trouble.refused_at = Some(refusal.position);
        trouble.refused_for = Some(refusal.reason);
        trouble.refused_since_ms = refusal.since_unix_ms;
        if preferred && bound {
            trouble.preferred_rejections = refusal.times;
            trouble.preferred_retry_at = refusal.until;
            return;
        }
        trouble.rejections = refusal.times;
        let what = match refusal.reason {
            Reason::UnknownAccount => "the registrar knows no such account",
            _ => "the registrar refused the credentials",
        };
        let message = format!(
            "{what}, {} times in a row, the last time before this process started; it is not asked again before the wait is over, or the \
             trunk's user, password or registrar changes",
            refusal.times
        );
        trouble.blame(
            Cause { reason: refusal.reason, code: None, message: message.into() },
            refusal.since_unix_ms,
        );
        self.due = self.due.max(refusal.until);
    }
}
