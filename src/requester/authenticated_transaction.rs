//! One request until its final response, with responses to digest challenges in between.

mod authenticator;
mod kept_nonces;
mod uri_scheme;

use self::{
    authenticator::{Authenticator, KeptOutcome},
    kept_nonces::NonceKey,
    uri_scheme::{UNSUPPORTED_URI_SCHEME, registrar_by_sips, use_sip},
};
pub(super) use self::{kept_nonces::KeptNonces, uri_scheme::SipRegistrars};
use super::{
    outgoing_request::MAX_CSEQ,
    resend,
    trace::{Recorder, Trace},
};
use routr_registration::trunk::Credentials;
use routr_sip::{
    client::{Client, ClientError, Destination, Peer},
    message::{Request, Response},
};
use routr_types::{digest_minimum::DigestMinimum, extension::Authentication};

/// A request under way. After [`AuthenticatedTransaction::run`], or when that was abandoned, `request` is the
/// one that was sent last.
#[derive(Debug)]
pub struct AuthenticatedTransaction {
    /// Complete but for the Via.
    pub request: Request,
    /// Its CSeq number.
    pub cseq: u32,
    /// Destination of the request.
    pub destination: Destination,
    /// Party that answers a challenge.
    pub authenticates: Authenticates,
    /// Minimum that a challenge must offer to be answered here.
    pub minimum: DigestMinimum,
    /// Records what is sent and received.
    pub trace: Option<Trace>,
}

/// Party that answers a challenge.
#[derive(Debug)]
pub enum Authenticates {
    /// The EdgePort (proxied mode): nothing is known of challenges here.
    EdgePort,
    /// The Requester, with the credentials of the trunk where it has some.
    Requester(Option<Credentials>),
}

/// Result of a request.
#[derive(Debug)]
pub struct Finished {
    /// The final response.
    pub response: Response,
    /// Outcome of the challenge, on a 401, 403 or 407, where the Requester answers challenges.
    pub authentication: Option<Authentication>,
    /// True when the other side has proven that it knows the password, false when its proof is wrong; `None`
    /// where it sends none.
    pub proven: Option<bool>,
}

/// Facts about registrars that are remembered from one request to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Nonces that they took.
    pub(super) nonces: KeptNonces,
    /// Those that want `sip:` over TLS.
    pub(super) sip_over_tls: SipRegistrars,
}

/// Owner of the nonces that are kept, and their place.
struct Account<'a> {
    key: &'a NonceKey,
    credentials: &'a Credentials,
    nonces: &'a KeptNonces,
}

/// Responses by which a registrar may refuse a nonce.
fn is_refusal(code: u16) -> bool {
    matches!(code, 400 | 401 | 403 | 407)
}

impl AuthenticatedTransaction {
    /// Sends the request and returns the final response. A REGISTER by `sips:` that gets 416 is sent once
    /// more by `sip:`, over TLS all the same; where that works, it is remembered. Only where the connection
    /// to the registrar is made here: an EdgePort might not go on by TLS.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn run(&mut self, client: &Client, memory: &Memory) -> Result<Finished, ClientError> {
        let made_here = matches!(self.authenticates, Authenticates::Requester(_));
        // Credentials of the caller's own are for the URI as it is.
        let given = self.request.headers.get("Authorization").is_some();
        let Some(registrar) =
            registrar_by_sips(&self.request, &self.destination).filter(|_| made_here && !given)
        else {
            return self.authenticate(client, &memory.nonces).await;
        };
        let known = memory.sip_over_tls.contains(&registrar);
        if known {
            use_sip(&mut self.request)?;
        }
        let finished = self.authenticate(client, &memory.nonces).await?;
        if finished.response.code != UNSUPPORTED_URI_SCHEME {
            return Ok(finished);
        }
        if known {
            memory.sip_over_tls.remove(&registrar);
            return Ok(finished);
        }
        if !self.without_credentials() {
            return Ok(finished);
        }
        use_sip(&mut self.request)?;
        let finished = self.authenticate(client, &memory.nonces).await?;
        if matches!(finished.response.code, 200..=299) && memory.sip_over_tls.insert(registrar) {
            tracing::info!(
                registrar = %self.destination,
                "it responds to sips: with 416 and takes sip: over TLS, which it gets from now on; the settings can \
                 say so from the start (tlsUriScheme: sip)"
            );
        }
        Ok(finished)
    }

    /// Sends the request and returns the final response. The credentials for a challenge go to the peer that
    /// made it: under one name there may be several, and each knows its own nonces only. Each such request
    /// takes the next CSeq number (RFC 3261 §22.2).
    ///
    /// A registrar that took a nonce before is offered it again at once. Where it does not take it, that
    /// costs one request more, once.
    ///
    /// # Errors
    /// As [`Client::send`].
    async fn authenticate(&mut self, client: &Client, nonces: &KeptNonces) -> Result<Finished, ClientError> {
        let mut authenticator = Authenticator::new(&self.request, self.minimum);
        let account = match &self.authenticates {
            Authenticates::Requester(Some(credentials)) if !authenticator.is_given() => {
                let key = NonceKey::new(&self.destination, &self.request, credentials);
                Some((key, credentials.clone()))
            }
            _ => None,
        };
        let began = account.as_ref().is_some_and(|(key, credentials)| {
            let kept = nonces.begin(key, credentials, self.minimum);
            kept.is_some_and(|kept| {
                authenticator.begin_with(kept);
                authenticator.authorize(&mut self.request, credentials).is_ok()
            })
        });
        if !began {
            authenticator.restart();
        }
        let account = account.as_ref().map(|(key, credentials)| Account { key, credentials, nonces });
        let sent = self.converse(client, &mut authenticator, account.as_ref().filter(|_| began)).await;
        let (response, authentication, kept_taken) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                // It may have been the nonce that was met with silence.
                account.iter().for_each(|account| nonces.forget(account.key));
                return Err(error);
            }
        };
        let proven = authenticator.is_proven(&response);
        if let Some(Account { key, credentials, .. }) = account {
            let taken = !is_refusal(response.code) && proven != Some(false);
            match authenticator.into_kept(&response).filter(|_| taken) {
                Some(realms) => nonces.keep(key.clone(), credentials, self.minimum, realms, kept_taken),
                None => nonces.refused(key, true),
            }
        }
        Ok(Finished { proven, response, authentication })
    }

    /// Sends the request until a response needs no answer. `kept`: it begins with nonces that were kept; the
    /// flag that is returned says whether they were taken.
    async fn converse(
        &mut self,
        client: &Client,
        authenticator: &mut Authenticator,
        kept: Option<&Account<'_>>,
    ) -> Result<(Response, Option<Authentication>, bool), ClientError> {
        let (mut response, mut peer) = self.send(client, None).await?;
        let mut taken = kept.is_some();
        if let Some(account) = kept.filter(|_| is_refusal(response.code)) {
            match authenticator.refuses_kept(&response) {
                KeptOutcome::Taken => {}
                KeptOutcome::Refused { stale } => {
                    taken = false;
                    account.nonces.refused(account.key, stale);
                }
                // Not even a challenge: once more, as if nothing had been kept.
                KeptOutcome::Unclear => {
                    taken = false;
                    account.nonces.refused(account.key, false);
                    authenticator.restart();
                    if self.without_credentials() {
                        (response, peer) = self.send(client, Some(&peer)).await?;
                    }
                }
            }
        }
        loop {
            match self.answer(&response, authenticator) {
                Err(authentication) => return Ok((response, authentication, taken)),
                Ok(()) => (response, peer) = self.send(client, Some(&peer)).await?,
            }
        }
    }

    async fn send(&mut self, client: &Client, peer: Option<&Peer>) -> Result<(Response, Peer), ClientError> {
        let password = || match &self.authenticates {
            Authenticates::Requester(Some(credentials)) => vec![credentials.password.expose()],
            Authenticates::Requester(None) | Authenticates::EdgePort => Vec::new(),
        };
        let mut recorder = Recorder::new(self.trace.as_ref(), password);
        let (request, cseq) = (&mut self.request, &mut self.cseq);
        resend::send(client, request, cseq, &self.destination, peer, &mut recorder).await
    }

    /// Takes the credentials out of the request, which is another one then. Returns whether it can be sent.
    fn without_credentials(&mut self) -> bool {
        if self.cseq >= MAX_CSEQ {
            return false;
        }
        self.request.headers.remove("Authorization");
        self.request.headers.remove("Proxy-Authorization");
        let cseq = self.cseq + 1;
        let value = format!("{cseq} {}", self.request.method);
        let set = self.request.headers.set("CSeq", value).is_ok();
        if set {
            self.cseq = cseq;
        }
        set
    }

    /// Makes the request answer the challenges of the response. An error says what became of them where they
    /// are not answered.
    fn answer(
        &mut self,
        response: &Response,
        authenticator: &mut Authenticator,
    ) -> Result<(), Option<Authentication>> {
        let Authenticates::Requester(credentials) = &self.authenticates else { return Err(None) };
        authenticator.admit(response, credentials.as_ref())?;
        let Some(credentials) = credentials else { return Err(None) };
        let not_sent = |why: String| Some(Authentication::NotSent(why));
        if self.cseq >= MAX_CSEQ {
            return Err(not_sent("CSeq cannot rise any further".to_owned()));
        }
        let mut next = self.request.clone();
        let cseq = self.cseq + 1;
        authenticator
            .authorize(&mut next, credentials)
            .and_then(|()| next.headers.set("CSeq", format!("{cseq} {}", next.method)))
            .map_err(|error| not_sent(error.to_string()))?;
        (self.request, self.cseq) = (next, cseq);
        Ok(())
    }
}
