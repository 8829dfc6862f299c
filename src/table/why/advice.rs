//! Advice for each reason of a failure, as docs/status.md has it in more words.

/// Returns what a person can do about a failure, by the name of its reason.
pub(super) fn advice(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "CredentialsRejected" => "correct the trunk's Credentials; a change is tried immediately",
        "UnknownAccount" => "correct user and host of the trunk's URI, or ask the provider for the account",
        "Timeout" => {
            "check that the registrar runs, and host, port, transport and password of the trunk; where no \
             registrar responds through that EdgePort, check the EdgePort"
        }
        "OutcomeUnknown" => "nothing if it happens once; if it continues, check the Requester's log",
        "IntervalTooBrief" => "set spec.registration.expires to what the provider asks for",
        "BadExtension" => {
            "ask the provider which option tags it takes, and set spec.registration.require to those"
        }
        "RedirectFailed" => "correct the trunk's URI to the registrar that the provider names",
        "RedirectNotAllowed" => {
            "if the provider intends this, allow the target in spec.registration.redirects"
        }
        "Unreachable" => "check host, port and transport of the trunk's URI, and firewalls",
        "UnknownHost" => "correct the host of the trunk's URI, or check the name servers of the Requester",
        "TlsFailed" => {
            "as the message says: correct the host of the URI, or give the Requester the issuer's \
             certificate; only the provider can renew an expired one"
        }
        "EdgePortFailed" => "check that the EdgePort runs, and its address in spec.edgePorts",
        "RegistrarDown" => {
            "check the registrar, or ask the provider; all its trunks register as soon as it responds"
        }
        "ChallengeNotSupported" => "ask the provider for Digest with MD5, SHA-256 or SHA-512-256",
        "DigestTooWeak" => {
            "ask the provider for SHA-256 and qop, or lower spec.registration.digest or the trunk's \
             extended.digest"
        }
        "Forbidden" => {
            "ask the provider whether it knows the account, and accepts the address that the REGISTER comes \
             from"
        }
        "StaleNonce" => "report it to the provider: its nodes may not share their nonces",
        "RetryAfter" => "wait: the registrar named the time",
        "RegistrarFailed" => "nothing, or ask the provider: the fault is the registrar's own",
        "Refused" => "ask the provider what the code and the phrase mean",
        "MalformedResponse" => "report it to the provider, with the message",
        "RequesterUnavailable" => "check that the Requester runs, and spec.requesterAddr",
        "RequesterRefused" => "check the Requester's log",
        "BindingExpired" => "check what blocked the refresh: the Requester, an EdgePort, or ratePerRegistrar",
        "InvalidTrunk" => "correct the field that the message names, at the API server",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::advice;
    use routr_registration::registration::outcome::Reason;

    #[test]
    fn there_is_advice_for_each_reason() {
        for reason in Reason::VARIANTS {
            assert!(advice(reason.name()).is_some(), "{reason:?}");
        }
        assert_eq!(advice("Tomorrow"), None, "a later version's");
    }
}
