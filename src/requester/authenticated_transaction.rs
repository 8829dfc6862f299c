//! One request until its final response, with responses to digest challenges in between.

mod authenticator;

use self::authenticator::Authenticator;
use super::{outgoing_request::MAX_CSEQ, resend};
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

impl AuthenticatedTransaction {
    /// Sends the request and returns the final response. The credentials for a challenge go to the peer that
    /// made it: under one name there may be several, and each knows its own nonces only. Each such request
    /// takes the next CSeq number (RFC 3261 §22.2).
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn run(&mut self, client: &Client) -> Result<Finished, ClientError> {
        let mut authenticator = Authenticator::new(&self.request, self.minimum);
        let (mut response, mut peer) = self.send(client, None).await?;
        let authentication = loop {
            match self.answer(&response, &mut authenticator) {
                Err(authentication) => break authentication,
                Ok(()) => (response, peer) = self.send(client, Some(&peer)).await?,
            }
        };
        Ok(Finished { proven: authenticator.is_proven(&response), response, authentication })
    }

    async fn send(&mut self, client: &Client, peer: Option<&Peer>) -> Result<(Response, Peer), ClientError> {
        resend::send(client, &mut self.request, &mut self.cseq, &self.destination, peer).await
    }

    /// Adds credentials for the challenges of the response to the request. An error has the outcome of the
    /// challenges that are not answered.
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
