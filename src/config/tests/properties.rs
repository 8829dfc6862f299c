//! Arbitrary text.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = yaml(&text);
        let _ = parse(&text, Format::Json);
    }

    #[test]
    fn any_text_made_of_yaml_signs_is_read_or_refused(text in "[a-z:,\\[\\]{}\"'&*!|>%@`#\\-? \n\t0-9=]{0,120}") {
        let _ = yaml(&text);
    }

    /// Any value at any key: never a panic, and an error always says where, what and how.
    #[test]
    fn any_value_is_read_or_refused(
        key in prop::sample::select(vec![
            "requesterAddr", "apiAddr", "registerInterval", "cache", "methods", "edgePorts", "instanceId",
            "registration", "tls", "apiTimeout", "sync", "other",
        ]),
        value in "\\PC{0,60}",
    ) {
        let mut document: serde_json::Value = serde_saphyr::from_str(LEAST).unwrap();
        for value in [
            serde_json::Value::from(value.clone()),
            serde_json::json!([value]),
            serde_json::json!([{ "address": value }]),
            serde_json::json!({ "provider": "redis", "parameters": value }),
            serde_json::from_str(&value).unwrap_or_default(),
        ] {
            document["spec"][key] = value;
            if let Err(errors) = parse(&document.to_string(), Format::Json) {
                prop_assert!(errors.len() > 0);
                for mistake in errors.iter() {
                    prop_assert!(!mistake.path.is_empty() && !mistake.problem.is_empty() && !mistake.hint.is_empty());
                    prop_assert!(!mistake.to_string().contains('\n'), "one line each: {mistake}");
                }
            }
        }
    }

    #[test]
    fn durations_round_trip(ms in 0u64..=86_400_000_000) {
        let duration = Duration::from_millis(ms);
        prop_assert_eq!(duration::parse(&duration::show(duration)), Ok(duration));
    }

    #[test]
    fn seconds_are_seconds(seconds in 0u32..=86_400) {
        let expected = Duration::from_secs(seconds.into());
        prop_assert_eq!(duration::parse(&seconds.to_string()), Ok(expected));
        prop_assert_eq!(duration::parse(&format!("{seconds}s")), Ok(expected));
    }

    #[test]
    fn addresses_round_trip(host in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{1,5}){0,3}", port in 1u16.., v6 in any::<u128>()) {
        let v6 = std::net::Ipv6Addr::from(v6).to_string();
        for host in [host.as_str(), &v6] {
            let address = HostPort::new(host, port);
            prop_assert_eq!(address::host_port(&address.to_string(), 1), Ok(address.clone()));
            prop_assert_eq!(address::sip(&format!("sip:{address}"), 5060), Ok(address.clone()));
            prop_assert_eq!(address::service(&format!("https://{address}"), 1), Ok((address.into(), true)));
        }
    }

    #[test]
    fn any_password_without_a_comma_arrives(password in "[^,\u{0}-\u{1f}\u{7f}-\u{9f}]{1,40}") {
        let text = format!("host=r,password={password},port=1");
        let (found, problems) = parameters::parse(&text, false);
        prop_assert!(problems.is_empty());
        let found_password = found.password.unwrap();
        prop_assert_eq!(found_password.expose(), password);
        prop_assert_eq!(found.port, 1);
    }
}
