//! The Contact of a request.

use clap::ValueEnum;

use crate::requester::{Mode, address, check::RequestError};
use routr_sip::{
    client::Destination,
    message::Request,
    uri::{NameAddr, SipUri},
};
use routr_types::host::{HostPort, Transport};

/// Methods whose requests may have a Contact (RFC 3261 §20 table 2, RFC 3311, 3515, 6665); RFC 3428 forbids
/// it for MESSAGE.
const WITH_CONTACT: [&str; 6] = ["REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "REFER", "UPDATE"];

/// Host of the Contact of requests through an EdgePort, in proxied mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ContactHost {
    /// To the EdgePort, where calls are heard.
    #[default]
    EdgePort,
    /// To the Requester itself, as Routr's own Requester does: for providers that route calls by the address
    /// that a REGISTER came from.
    Requester,
}

/// Settings of Contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContactPlan {
    /// The method has none.
    None,
    /// This: where the EdgePort hears calls.
    Given(SipUri),
    /// This, with the Requester's own host and port put in.
    Own(SipUri),
}

/// Host, port and transport at which an EdgePort hears calls.
type EdgeContact = (String, Option<u16>, Transport);

/// Address for calls: the public one of the EdgePort, else its own, with the transport that the Route
/// names. An EdgePort whose own address has the port of UDP hears TLS at that of TLS (RFC 3261 §19.1.2).
pub(super) fn edge_contact(
    edge: Option<&NameAddr>,
    given: Option<HostPort>,
    transport: Transport,
) -> Result<Option<EdgeContact>, RequestError> {
    let public = |public: HostPort, transport| (public.host.into(), Some(public.port), transport);
    let Some(edge) = edge else { return Ok(given.map(|given| public(given, transport))) };
    let transport = match edge.uri.param("transport").flatten() {
        Some(name) => address::transport("message.route[0].address.uri.transport_param", name)?,
        None => transport,
    };
    let port = match edge.uri.port {
        Some(port) if port == Transport::Udp.default_port() && transport.is_secure() => {
            Some(transport.default_port())
        }
        port => port,
    };
    Ok(Some(match given {
        Some(given) => public(given, transport),
        None => (edge.uri.host.clone(), port, transport),
    }))
}

pub(super) fn plan_contact(
    request: &Request,
    edge: Option<EdgeContact>,
    mode: Mode,
    user: Option<String>,
    destination: &Destination,
) -> ContactPlan {
    let Some((host, port, transport)) = edge else {
        let all_numbers = mode == Mode::Proxied;
        return own_contact(request, all_numbers, user.filter(|_| !all_numbers), destination.transport);
    };
    if !WITH_CONTACT.contains(&request.method.as_str()) {
        return ContactPlan::None;
    }
    // RFC 3261 §8.1.1.8: a sips Request-URI asks for a sips Contact.
    let secure = request.uri.secure;
    let params = vec![("transport".to_owned(), Some(transport.parameter().to_owned()))];
    ContactPlan::Given(SipUri { secure, user, host, port, params })
}

/// A Contact that names the Requester; `all_numbers` as the Java one has it: all numbers behind this address,
/// so no user (RFC 6140 §5.2).
pub(super) fn own_contact(
    request: &Request,
    all_numbers: bool,
    user: Option<String>,
    transport: Transport,
) -> ContactPlan {
    if !WITH_CONTACT.contains(&request.method.as_str()) {
        return ContactPlan::None;
    }
    let mut params = vec![("transport".to_owned(), Some(transport.parameter().to_owned()))];
    if all_numbers {
        params.push(("bnc".to_owned(), None));
    }
    ContactPlan::Own(SipUri { secure: request.uri.secure, user, params, ..SipUri::default() })
}
