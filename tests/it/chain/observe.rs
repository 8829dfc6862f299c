//! Observations: Kamailio's location table, and everything that the parts have said.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::harness::{DOMAIN, MARK, Registry, Requester, password};
use crate::support::kamailio::{Binding, Kamailio};
use crate::support::process::tail;
use crate::support::redis::Redis;
use crate::support::wait::{wait_at_pace, wait_for};

/// Searches everything that the parts have said for the passwords of these users, as they are and as
/// `X-Gateway-Auth` has them, and for the responses to digest challenges.
pub async fn assert_discreet(
    registries: &[&Registry],
    requester: &Requester,
    redis: Option<&Redis>,
    users: &[String],
) {
    let mut said = Vec::new();
    for registry in registries {
        said.extend(registry.everything_said().await);
    }
    said.push(("requester".to_owned(), format!("{}{}", requester.earlier, requester.output())));
    if let Some(redis) = redis {
        said.push(("redis".to_owned(), redis.dump().await));
    }
    let encoded = users.iter().map(|user| BASE64_STANDARD.encode(format!("{user}:{}", password(user))));
    let mut secrets: Vec<String> = encoded.collect();
    secrets.extend(["X-Gateway-Auth: ", "Digest username", MARK].map(str::to_owned));
    for (place, text) in &said {
        // Some of what is searched must be there at all, or the search proves nothing.
        assert!(!text.is_empty(), "{place} has said nothing");
        for secret in &secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{place} gives away {secret:?}");
        }
    }
    let log = &said[0].1;
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is not talkative:\n{log}");
}

/// The bindings by user, when there is exactly one for each of these users and none beside, each with the
/// Call-ID that the registry derives.
pub async fn one_contact_each(
    kamailio: &Kamailio,
    users: &[String],
    registry: &Registry,
) -> Result<BTreeMap<String, Binding>, String> {
    contacts(kamailio, users, |user| registry.call_id(user)).await
}

/// The same, with the Call-IDs that this makes of users.
pub async fn contacts(
    kamailio: &Kamailio,
    users: &[String],
    call_id: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, Binding>, String> {
    let bindings = kamailio.try_bindings().await?;
    let mut by_user = BTreeMap::new();
    for binding in bindings {
        let user = binding.aor.strip_suffix(&format!("@{DOMAIN}")).unwrap_or(&binding.aor).to_owned();
        let expected = call_id(&user);
        if binding.call_id != expected {
            return Err(format!("another Call-ID than {expected}: {binding:?}"));
        }
        if let Some(other) = by_user.insert(user.clone(), binding) {
            return Err(format!("{user} has two contacts, {} is one", other.contact));
        }
    }
    let missing: Vec<&String> = users.iter().filter(|user| !by_user.contains_key(*user)).collect();
    let extra: Vec<&String> = by_user.keys().filter(|user| !users.contains(user)).collect();
    match (missing.as_slice(), extra.as_slice()) {
        ([], []) => Ok(by_user),
        _ => Err(format!(
            "{} missing ({:?}…), extra: {extra:?}",
            missing.len(),
            missing.iter().take(5).collect::<Vec<_>>()
        )),
    }
}

/// The same, waiting for it.
pub async fn one_contact_each_soon(
    kamailio: &Kamailio,
    users: &[String],
    registry: &Registry,
    deadline: Duration,
) -> BTreeMap<String, Binding> {
    wait_for(
        async || one_contact_each(kamailio, users, registry).await,
        deadline,
        "one contact for each address of record",
    )
    .await
}

/// Waits until every binding was refreshed since `before`: same Call-ID, higher CSeq. At every look, each
/// must be there, once, and alive.
pub async fn all_refreshed(
    kamailio: &Kamailio,
    before: &BTreeMap<String, Binding>,
    registry: &Registry,
    deadline: Duration,
) -> BTreeMap<String, Binding> {
    let users: Vec<String> = before.keys().cloned().collect();
    let pace = Duration::from_millis(if users.len() > 100 { 250 } else { 20 });
    let probe = async || {
        let bindings = match one_contact_each(kamailio, &users, registry).await {
            Ok(bindings) => bindings,
            Err(error) => panic!("a binding expired or was doubled: {error}; {}", tail(&registry.output())),
        };
        let old: Vec<&String> = bindings
            .iter()
            .filter(|(user, now)| now.cseq <= before[*user].cseq)
            .map(|(user, _)| user)
            .collect();
        if old.is_empty() {
            Ok(bindings)
        } else {
            Err(format!("{} not refreshed, {:?}…", old.len(), old[0]))
        }
    };
    wait_at_pace(pace, probe, deadline, "all bindings to be refreshed").await
}
