//! A SIP datagram: read, written, and read again.

use routr_registry::requester::response;
use routr_sip::{
    digest::{Authorization, Challenge},
    grammar::seconds,
    headers::{BuildError, is_secret},
    message::{MAX_HEADERS, MAX_MESSAGE, Message},
    uri::NameAddr,
    via::Via,
};

use super::support::{assert_presentable, is_distinct, is_one_line, shows};

pub fn run(data: &[u8]) {
    match Message::parse_datagram(data) {
        Ok(message) => {
            assert_survives(&message);
            assert_headers(&message, data);
        }
        Err(error) => drop(assert_presentable(&error)),
    }
}

/// Asserts that a message which was read can be written, and is the same when that is read.
pub fn assert_survives(message: &Message) {
    let bytes = match message.to_bytes() {
        Ok(bytes) => bytes,
        // A compact message can be longer when it is written with long names.
        Err(error) => {
            return assert!(matches!(error, BuildError::TooLarge(size) if size > MAX_MESSAGE), "{error}");
        }
    };
    let again = Message::parse_datagram(&bytes).unwrap_or_else(|error| panic!("{error}"));
    match (message, &again) {
        (Message::Request(one), Message::Request(other)) => {
            assert_eq!((&one.method, &one.uri, &one.body), (&other.method, &other.uri, &other.body));
        }
        (Message::Response(one), Message::Response(other)) => {
            assert_eq!((one.code, &one.reason, &one.body), (other.code, &other.reason, &other.body));
        }
        _ => panic!("a request became a response, or the other way about"),
    }
    let fields = |message: &Message| -> Vec<(String, String)> {
        let own = message.headers().iter().filter(|(name, _)| *name != "Content-Length");
        own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    // Content-Length may be one field more than there may be, and takes the place of another.
    assert!(
        fields(message) == fields(&again) || message.headers().len() == MAX_HEADERS,
        "{message:?}\n{again:?}"
    );
}

/// Each header field is good or none, by every reader; credentials are not shown.
fn assert_headers(message: &Message, data: &[u8]) {
    let headers = message.headers();
    assert!(headers.len() <= MAX_HEADERS);
    assert!(headers.cseq().is_none_or(|(_, method)| !method.is_empty()));
    assert!(headers.call_id().is_none_or(|id| !id.is_empty()));
    let _ = (headers.via(), headers.via_branch(), headers.expires(), headers.min_expires());
    let _ = (headers.retry_after(), headers.from_tag(), headers.to_tag());
    let shown = format!("{message:?}");
    let start = match message {
        Message::Request(request) => format!("{} {}", request.method, request.uri),
        Message::Response(response) => response.reason.to_string(),
    };
    for (name, value) in headers.iter() {
        assert!(
            !name.is_empty() && is_one_line(value) && value.trim_matches([' ', '\t']) == value,
            "{name:?}: {value:?}"
        );
        let _ = (NameAddr::parse(value), NameAddr::parse_list(value), Via::parse(value));
        let _ = (Challenge::parse(value, false), Authorization::parse(value));
        let _ = (NameAddr::parse_params(value), seconds(value));
        // What was two lines, or no UTF-8, may be the same text as another place that is no secret.
        let others = headers.iter().filter(|(name, _)| !is_secret(name)).map(|(_, value)| value);
        let others = others.chain([start.as_str()]);
        assert!(!is_secret(name) || !is_distinct(data, value) || !shows(&shown, value, others));
    }
    if let Message::Response(response) = message {
        let _ = Challenge::from_response(response).map_err(|error| assert_presentable(&error));
        for register in [false, true] {
            let _ =
                response::write_final(response, &response::Sent { register, ..response::Sent::default() });
        }
    }
}
