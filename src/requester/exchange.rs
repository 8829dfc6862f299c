//! One request until its final response, digest challenges answered on the way.

use super::{draft::MAX_CSEQ, resend};
use crate::{
    environment,
    sip::{
        client::{Client, ClientError, Destination},
        digest::Challenge,
        headers::BuildError,
        message::{Request, Response},
    },
    trunk::Credentials,
};

/// A request under way. After [`Exchange::run`], or when that was abandoned, `request` is the one that was sent last.
#[derive(Debug)]
pub struct Exchange {
    /// Complete but for the Via.
    pub request: Request,
    /// Its CSeq number.
    pub cseq: u32,
    /// Where it goes.
    pub destination: Destination,
    /// What answers a challenge; without them a challenge comes back as it is.
    pub credentials: Option<Credentials>,
}

/// The challenges that have been answered: one of the registrar (401), one of a proxy before it (407).
#[derive(Default)]
struct Answered {
    registrar: Option<Answer>,
    proxy: Option<Answer>,
    stale: bool,
}

struct Answer {
    challenge: Challenge,
    /// How many requests have used the nonce.
    used: u32,
}

impl Answered {
    /// Takes a challenge in. `false` where it must not be answered: the credentials are wrong, and trying them again
    /// would look like an attack. Each of the two is answered once, and once more in all for a nonce that was too old.
    fn admit(&mut self, challenge: Challenge) -> bool {
        let slot = if challenge.proxy { &mut self.proxy } else { &mut self.registrar };
        if slot.is_some() {
            if !challenge.stale || self.stale {
                return false;
            }
            self.stale = true;
        }
        *slot = Some(Answer { challenge, used: 0 });
        true
    }

    /// Puts the answers to all challenges so far into the request (RFC 3261 §22.3: those of a proxy stay).
    fn authorize(&mut self, request: &mut Request, credentials: &Credentials) -> Result<(), BuildError> {
        let uri = request.uri.to_string();
        for answer in [&mut self.registrar, &mut self.proxy].into_iter().flatten() {
            answer.used += 1;
            let cnonce = format!("{:016x}{:016x}", environment::random(), environment::random());
            let (name, value) = answer.challenge.authorize(
                &credentials.username,
                &credentials.password,
                &request.method,
                &uri,
                &cnonce,
                answer.used,
            );
            request.headers.set(name, value)?;
        }
        Ok(())
    }
}

impl Exchange {
    /// Sends the request and returns the final response. Each answer to a challenge takes the next CSeq number
    /// (RFC 3261 §22.2).
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn run(&mut self, client: &Client) -> Result<Response, ClientError> {
        let mut answered = Answered::default();
        loop {
            let (response, _peer) =
                resend::send(client, &mut self.request, &mut self.cseq, &self.destination, None).await?;
            if !self.answer(&response, &mut answered) {
                return Ok(response);
            }
        }
    }

    /// Makes the request answer the challenge of the response. `false` where there is none, or none to be answered.
    fn answer(&mut self, response: &Response, answered: &mut Answered) -> bool {
        let Some(credentials) = &self.credentials else { return false };
        let challenge = match Challenge::from_response(response) {
            Ok(Some(challenge)) => challenge,
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(%error, "a challenge that cannot be answered is returned as it is");
                return false;
            }
        };
        if self.cseq >= MAX_CSEQ || !answered.admit(challenge) {
            return false;
        }
        let mut next = self.request.clone();
        let cseq = self.cseq + 1;
        let built = answered
            .authorize(&mut next, credentials)
            .and_then(|()| next.headers.set("CSeq", format!("{cseq} {}", next.method)));
        if let Err(error) = built {
            tracing::debug!(%error, "a challenge that cannot be answered is returned as it is");
            return false;
        }
        (self.request, self.cseq) = (next, cseq);
        true
    }
}
