//! Requests to an API server, with their users: its audit log.

use serde_json::Value;

/// Everything at the level of metadata, but for what the control plane does itself.
pub(super) const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager"]
  - level: None
    userGroups: ["system:serviceaccounts:kube-system"]
  - level: Metadata
"#;

/// One request. A watch is listed as soon as it has its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `system:serviceaccount:NAMESPACE:NAME`, or the name in a certificate.
    pub user: String,
    /// Verb as RBAC has it: get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// API group; empty for the core group, and for paths that are no resource.
    pub group: String,
    /// Plural; empty for paths that are no resource.
    pub resource: String,
    /// `status`, ...; mostly empty.
    pub subresource: String,
    /// Empty where there is none.
    pub namespace: String,
    /// Empty where there is none.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// HTTP status of the response; 403 for what RBAC refuses.
    pub code: u64,
}

/// Reads the log. A line that is being written is left out.
pub(super) fn read(log: &str) -> Vec<Access> {
    let mut seen = std::collections::HashSet::new();
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        // A watch is recorded twice: when it begins and when it ends.
        .filter(|event| seen.insert(event["auditID"].to_string()))
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            Access {
                user: text(&event["user"]["username"]),
                verb: text(&event["verb"]),
                group: text(&object["apiGroup"]),
                resource: text(&object["resource"]),
                subresource: text(&object["subresource"]),
                namespace: text(&object["namespace"]),
                name: text(&object["name"]),
                uri: text(&event["requestURI"]),
                code: event["responseStatus"]["code"].as_u64().unwrap_or(0),
            }
        })
        .collect()
}
