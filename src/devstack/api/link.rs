//! Puts the resources of all files together: each trunk with the credentials that it refers to.

use std::collections::{BTreeMap, HashMap};

use super::{
    problem::Problem,
    resources::{CredentialsResource, Resources},
};
use crate::proto::{
    credentials::Credentials,
    trunks::{Trunk, TrunkUri},
};

/// The trunks of all files as they go over the wire, in the order of the files.
///
/// # Errors
/// Every ref that is there twice, and every one that leads nowhere.
pub(super) fn link<'r>(
    files: impl Iterator<Item = &'r Resources> + Clone,
) -> Result<Vec<Trunk>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut credentials = HashMap::new();
    let mut trunks = HashMap::new();
    for resources in files.clone() {
        for item in &resources.credentials {
            if let Some((first, _)) = credentials.insert(item.reference.as_str(), (&resources.file, item)) {
                problems.push(duplicate(resources, "Credentials", &item.reference, first));
            }
        }
        for item in &resources.trunks {
            if let Some(first) = trunks.insert(item.reference.as_str(), &resources.file) {
                problems.push(duplicate(resources, "Trunk", &item.reference, first));
            }
        }
    }
    let mut linked = Vec::with_capacity(trunks.len());
    for resources in files {
        for trunk in &resources.trunks {
            let mut look_up = |reference: &Option<String>, field: &str| {
                let reference = reference.as_deref()?;
                let found = credentials.get(reference).map(|(_, item)| on_the_wire(item));
                if found.is_none() {
                    problems.push(Problem {
                        file: resources.file.to_string(),
                        resource: format!("Trunk {}", trunk.reference),
                        field: format!("{field}.credentialsRef"),
                        value: Some(format!("{reference:?}")),
                        message: unknown(reference, credentials.keys().copied()),
                    });
                }
                found
            };
            linked.push(Trunk {
                inbound_credentials: look_up(&trunk.inbound_credentials, "spec.inbound"),
                outbound_credentials: look_up(&trunk.outbound_credentials, "spec.outbound"),
                r#ref: trunk.reference.clone(),
                api_version: trunk.api_version.clone(),
                name: trunk.name.clone(),
                send_register: trunk.send_register,
                inbound_uri: trunk.inbound_uri.clone(),
                uris: trunk.uris.iter().map(TrunkUri::clone).collect(),
                extended: trunk.region.as_deref().map(extended),
                ..Trunk::default()
            });
        }
    }
    if problems.is_empty() { Ok(linked) } else { Err(problems) }
}

fn duplicate(resources: &Resources, kind: &str, reference: &str, first: &str) -> Problem {
    let other = if *first == *resources.file { "this file" } else { first };
    Problem {
        file: resources.file.to_string(),
        resource: format!("{kind} {reference}"),
        field: "ref".to_owned(),
        value: Some(format!("{reference:?}")),
        message: format!("is used twice: {other} has {kind} of this ref already; each needs its own"),
    }
}

fn unknown<'r>(reference: &str, known: impl Iterator<Item = &'r str>) -> String {
    let nearest = known
        .map(|name| (strsim::jaro_winkler(reference, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    match nearest {
        Some((likeness, name)) if likeness > 0.8 => {
            format!("there are no Credentials of this ref; did you mean {name}?")
        }
        _ => "there are no Credentials of this ref; it must be the ref of one in this folder".to_owned(),
    }
}

fn on_the_wire(item: &CredentialsResource) -> Credentials {
    Credentials {
        api_version: item.api_version.clone(),
        r#ref: item.reference.clone(),
        name: item.name.clone(),
        username: item.username.clone(),
        password: item.password.expose().to_owned(),
        ..Credentials::default()
    }
}

/// The `extended` structure: where the real servers put what has no field of its own.
fn extended(region: &str) -> prost_types::Struct {
    let kind = prost_types::value::Kind::StringValue(region.to_owned());
    let region = prost_types::Value { kind: Some(kind) };
    prost_types::Struct { fields: BTreeMap::from([("region".to_owned(), region)]) }
}
