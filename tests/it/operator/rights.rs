//! The rights that the chart grants to its ServiceAccount are those that the operator uses: nothing is
//! missing, and nothing is superfluous.

use std::collections::BTreeSet;
use std::time::Duration;

use super::harness::{Installation, RELEASE, TestRegistry};
use crate::support::wait::{PATIENCE, wait_at_pace};

/// Group, resource with its subresource, verb.
type Right = (String, String, String);

/// Returns the rights that the Roles and ClusterRoles of this release grant.
async fn granted(cluster: &Installation<'_>) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    let label = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    let mine = format!("{}:{RELEASE}", cluster.namespace.name());
    for kind in ["roles", "clusterroles"] {
        let roles = cluster.kubectl(&["get", kind, "--output=json", &label]).await.json();
        let roles = roles["items"].as_array().unwrap().iter();
        for role in roles.filter(|role| kind == "roles" || role["metadata"]["name"] == *mine) {
            for rule in role["rules"].as_array().unwrap() {
                let list = |key: &str| -> Vec<String> {
                    rule[key]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|text| text.as_str().unwrap().to_owned())
                        .collect()
                };
                for (group, resource) in list("apiGroups")
                    .iter()
                    .flat_map(|group| list("resources").into_iter().map(move |r| (group, r)))
                {
                    granted.extend(
                        list("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)),
                    );
                }
            }
        }
    }
    granted
}

/// Returns the rights that the ServiceAccount used, and its requests that were refused.
fn used(cluster: &Installation<'_>) -> (BTreeSet<Right>, Vec<String>) {
    let audit = cluster.plane.audit_of(cluster.namespace.name(), RELEASE);
    let refused = audit.iter().filter(|access| access.code == 403);
    let refused = refused.map(|access| format!("{} {}", access.verb, access.uri)).collect();
    // A Lease that is not there yet was asked for all the same.
    let used = audit.into_iter().filter(|access| !access.resource.is_empty() && access.code != 403);
    let used = used.map(|access| {
        let resource = match &*access.subresource {
            "" => access.resource,
            sub => format!("{}/{sub}", access.resource),
        };
        (access.group, resource, access.verb)
    });
    (used.collect(), refused)
}

#[tokio::test]
async fn the_chart_grants_what_the_operator_uses_and_no_more() {
    let stage = TestRegistry::with(&["alice"]).await;
    let cluster = Installation::shared("rights").await;
    let mut operator = cluster.start("pod-a");
    cluster.kubectl(&["create", "secret", "generic", "redis", "--from-literal=password=pw"]).await.ok();
    let cache = "  cache:\n    provider: redis\n    parameters: host=127.0.0.1,port=1\n    passwordSecretRef: {name: redis, \
                 key: password}\n";
    cluster.apply("main", &stage, cache).await;
    cluster.condition("main", "Ready", "True", "AllRegistered").await;

    // An event that comes back is counted up, after half a minute at the earliest.
    // The same address in two spellings, which the schema does not see.
    let twice = "    - address: '[2001:db8::1]'\n    - address: '[2001:db8:0::1]'\n";
    let patched = ("events.k8s.io".to_owned(), "events".to_owned(), "patch".to_owned());
    let toggle = async || {
        cluster.apply("main", &stage, &format!("{twice}{cache}")).await;
        cluster.condition("main", "Stalled", "True", "InvalidSpec").await;
        cluster.apply("main", &stage, cache).await;
        cluster.condition("main", "Stalled", "False", "NotStalled").await;
        let (used, _) = used(&cluster);
        if used.contains(&patched) { Ok(()) } else { Err(format!("{used:?}")) }
    };
    wait_at_pace(Duration::from_secs(1), toggle, 2 * PATIENCE, "an event to be counted up").await;

    cluster.kubectl(&["delete", "registry", "main", "--timeout=150s"]).await.ok();
    operator.service.terminate(PATIENCE).await;
    let (used, refused) = used(&cluster);
    assert!(refused.is_empty(), "rights are missing: {refused:#?}");
    assert_eq!(granted(&cluster).await, used, "left: granted, right: used");
}

#[tokio::test]
async fn a_watched_namespace_that_is_deleted_takes_the_roles_along_and_still_goes() {
    let stage = TestRegistry::with(&["alice", "bob"]).await;
    let plane = crate::support::control_plane::ControlPlane::shared().await;
    let team = plane.namespace("team").await;
    let home = plane.namespace("home").await;
    let values = ["crds.install=false".to_owned(), format!("watchNamespaces={{{}}}", team.name())];
    let cluster = Installation::install(plane, home, &values).await;
    let _operator = cluster.start("pod-a");
    let manifest = super::harness::manifest("main", &stage, "");
    let args = ["apply", "--server-side", "--namespace", team.name(), "-f", "-"];
    plane.kubectl_stdin(args, &manifest).await.ok();
    let wait =
        ["wait", "registry/main", "--for=condition=Ready", "--timeout=150s", "--namespace", team.name()];
    plane.kubectl(wait).await.ok();
    plane.kubectl(["delete", "namespace", team.name(), "--timeout=150s"]).await.ok();
    let removed =
        stage.registrar.log().iter().filter(|seen| seen.expires == Some(0) && seen.code == Some(200)).count();
    assert_eq!(removed, 2, "and its trunks are de-registered");
}
