//! A REGISTER at its registrar: challenge, password, response.

use routr_registration::model::{RegisterRequest, RegisterResponse};
use routr_types::{extension::Authentication, host::HostPort};

use crate::{
    checks::mutants::Mutant,
    field::{Path, RequesterKind},
    registrar::{Policy, code},
    rules::MINUTE,
    world::State,
};

/// Outcome of a REGISTER's arrival.
pub enum Arrival {
    /// No response.
    Silence,
    /// No connection.
    Refused,
    /// The registrar asks for the password.
    Challenge,
    /// The password is refused by another challenge, and the EdgePort answers that one too, and so on
    /// forever.
    Loop,
    Response(RegisterResponse),
}

impl State {
    /// The Contact that the Requester writes.
    pub fn contact(&self, edge_port: &HostPort) -> String {
        match self.rules.field.map(|field| field.requester) {
            // Ours names the EdgePort, through which calls come in.
            Some(RequesterKind::Ours { .. }) => edge_port.to_string(),
            Some(RequesterKind::Java) => self.java_contact(),
            Some(RequesterKind::Quiet) | None => "requester".to_owned(),
        }
    }

    /// Routr's Java Requester takes another port at each start.
    fn java_contact(&self) -> String {
        format!("requester:{}", 40_000 + self.requester.restarts)
    }

    /// Returns whether a Contact is one that the Requester does not write any more.
    pub fn is_former_contact(&self, contact: &str) -> bool {
        let java = self.rules.field.is_some_and(|field| field.requester == RequesterKind::Java);
        java && contact != self.java_contact()
    }

    /// A REGISTER arrives, for the first time or after so many rounds of challenge and answer.
    pub fn arrives(&mut self, request: &RegisterRequest, cseq: u32, rounds: u32, sent: u64) -> Arrival {
        let at = self.now();
        let field = self.rules.field;
        if self.rules.broken == Mutant::Blackhole && &*request.user == "u1" {
            return Arrival::Silence;
        }
        let back_at = self.hosts.get(&*request.target.host).map_or(0, |host| host.well_since);
        if self.rules.broken == Mutant::SlowReturn && request.user.ends_with('1') && at < back_at + MINUTE {
            return Arrival::Silence;
        }
        if self.model.lost.contains(&(request.call_id.clone(), request.cseq)) {
            return Arrival::Silence;
        }
        let name = self.model.call_name(&self.catalogue, &request.call_id);
        self.model.used(&request.call_id, cseq);
        let password = self.catalogue.accounts.get(&(request.user.clone(), request.domain.clone()));
        let offered = request.credentials.as_ref().map(|credentials| credentials.password.expose());
        let right = password.is_none_or(|password| offered == Some(password.as_str()));
        let (tags, contact) = (self.model.tags.clone(), self.contact(&request.edge_port));
        let Some(host) = self.hosts.get_mut(&*request.target.host) else { return Arrival::Silence };
        let unseen = matches!(host.policy, Policy::UnknownChallenge | Policy::ForbidsUnseen);
        match host.policy {
            Policy::Silent => return Arrival::Silence,
            Policy::Refuses => return Arrival::Refused,
            _ => {}
        }
        let challenges = match field {
            None => host.challenges,
            Some(_) => host.challenges && request.credentials.is_some() && !unseen,
        };
        if challenges && rounds == 0 {
            return Arrival::Challenge;
        }
        let checked = field.is_none() || challenges;
        let again = host.challenges_again;
        let mut reply = if checked && !right {
            Some(code(if again { 401 } else { 403 }))
        } else {
            host.take(request, &contact, cseq, &tags, at)
        };
        if self.rules.broken == Mutant::ShortBindings
            && let Some(bound) = host.bindings.get_mut(&request.call_id).filter(|bound| bound.made == at)
        {
            bound.expires = at + (bound.expires - at) / 2;
        }
        if let Some(reply) = &mut reply {
            if matches!(reply.code, Some(401 | 403 | 407)) && reply.authentication.is_none() {
                let sent = rounds > 0 && request.credentials.is_some();
                reply.authentication =
                    Some(if sent { Authentication::Refused } else { Authentication::NotSent(String::new()) });
            }
            // The Contact of another binding may come back.
            if field.is_none()
                && reply.code == Some(200)
                && reply.contact_expires.is_some()
                && at.is_multiple_of(17)
            {
                reply.expires = reply.contact_expires.take();
            }
        }
        let said = reply.as_ref().map_or_else(|| "nothing".to_owned(), |reply| format!("{:?}", reply.code));
        self.say(format_args!(
            "{} <- {name} {cseq} expires {}: {said}",
            request.target.host, request.expires
        ));
        let Some(reply) = reply else { return Arrival::Silence };
        if request.expires == 0 && reply.code == Some(200) {
            self.model.call(&request.call_id).taken_away = at;
        }
        let refused = reply.authentication == Some(Authentication::Refused);
        let answered_again = matches!(reply.code, Some(401 | 407)) && rounds > 0;
        let loops = answered_again && field.is_some_and(|field| field.path == Path::LoopingEdgePorts);
        if refused && field.is_some() {
            let times = if self.rules.broken == Mutant::Insisting { 5 } else { 1 };
            (0..times).for_each(|_| self.password_offered(request, sent, loops));
        }
        if loops {
            self.count("loops of EdgePorts");
            self.model.call(&request.call_id).looped = sent;
            return Arrival::Loop;
        }
        Arrival::Response(reply)
    }
}
