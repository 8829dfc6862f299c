//! SIP status codes as Routr's `ResponseType`.

use crate::proto::sipmessage::ResponseType;

/// The type that stands for exactly this code, where Routr's contract has one.
pub fn exact(code: u16) -> Option<ResponseType> {
    let found = match code {
        100 => ResponseType::Trying,
        180 => ResponseType::Ringing,
        181 => ResponseType::CallIsBeingForwarded,
        182 => ResponseType::Queued,
        183 => ResponseType::SessionProgress,
        200 => ResponseType::Ok,
        202 => ResponseType::Accepted,
        300 => ResponseType::MultipleChoices,
        301 => ResponseType::MovedPermanently,
        302 => ResponseType::MovedTemporarily,
        305 => ResponseType::UseProxy,
        380 => ResponseType::AlternativeService,
        400 => ResponseType::BadRequest,
        401 => ResponseType::Unauthorized,
        402 => ResponseType::PaymentRequired,
        403 => ResponseType::Forbidden,
        404 => ResponseType::NotFound,
        405 => ResponseType::MethodNotAllowed,
        406 => ResponseType::NotAcceptable,
        407 => ResponseType::ProxyAuthenticationRequired,
        408 => ResponseType::RequestTimeout,
        410 => ResponseType::Gone,
        413 => ResponseType::RequestEntityTooLarge,
        414 => ResponseType::RequestUriTooLong,
        415 => ResponseType::UnsupportedMediaType,
        416 => ResponseType::UnsupportedUriScheme,
        420 => ResponseType::BadExtension,
        421 => ResponseType::ExtensionRequired,
        423 => ResponseType::IntervalTooBrief,
        480 => ResponseType::TemporarilyUnavailable,
        481 => ResponseType::CallOrTransactionDoesNotExist,
        482 => ResponseType::LoopDetected,
        483 => ResponseType::TooManyHops,
        484 => ResponseType::AddressIncomplete,
        485 => ResponseType::Ambiguous,
        486 => ResponseType::BusyHere,
        487 => ResponseType::RequestTerminated,
        488 => ResponseType::NotAcceptableHere,
        489 => ResponseType::BadEvent,
        491 => ResponseType::RequestPending,
        493 => ResponseType::Undecipherable,
        500 => ResponseType::ServerInternalError,
        501 => ResponseType::NotImplemented,
        502 => ResponseType::BadGateway,
        503 => ResponseType::ServiceUnavailable,
        504 => ResponseType::ServerTimeout,
        505 => ResponseType::VersionNotSupported,
        513 => ResponseType::MessageTooLarge,
        600 => ResponseType::BusyEverywhere,
        603 => ResponseType::Decline,
        604 => ResponseType::DoesNotExistAnywhere,
        606 => ResponseType::SessionNotAcceptable,
        _ => return None,
    };
    Some(found)
}

/// The type that stands for the class of the code (RFC 3261 §8.1.3.2: an unknown code is treated as the x00
/// of its class). `Unknown` for what is no status code.
pub fn class(code: u16) -> ResponseType {
    match code {
        100..=199 => ResponseType::SessionProgress,
        200..=299 => ResponseType::Success,
        300..=399 => ResponseType::Redirection,
        400..=499 => ResponseType::ClientError,
        500..=599 => ResponseType::ServerError,
        600..=699 => ResponseType::GlobalError,
        _ => ResponseType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_type_but_the_classes_belongs_to_one_code() {
        let mapped: HashSet<i32> = (0..=999).filter_map(exact).map(i32::from).collect();
        let classes = [
            ResponseType::Unknown,
            ResponseType::Success,
            ResponseType::Redirection,
            ResponseType::ClientError,
            ResponseType::ServerError,
            ResponseType::GlobalError,
        ]
        .map(i32::from);
        let missing: Vec<i32> = (0..=57).filter(|n| !mapped.contains(n) && !classes.contains(n)).collect();
        assert_eq!(missing, Vec::<i32>::new());
        assert_eq!((0..=999).filter_map(exact).count(), mapped.len(), "two codes share a type");
        assert!(classes.iter().all(|class| !mapped.contains(class)));
    }

    #[test]
    fn other_codes_fall_to_their_class() {
        assert_eq!(exact(433), None);
        assert_eq!(class(433), ResponseType::ClientError);
        assert_eq!(class(555), ResponseType::ServerError);
        assert_eq!(class(699), ResponseType::GlobalError);
        assert_eq!(class(399), ResponseType::Redirection);
        assert_eq!(class(299), ResponseType::Success);
        assert_eq!(class(700), ResponseType::Unknown);
    }
}
