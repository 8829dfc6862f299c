//! Routr's resource files: YAML or JSON with lists of resources, or several documents, of which trunks and
//! credentials count here.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    problem::Problem,
    reader::{Node, Reader},
};
use crate::proto::trunks::TrunkUri;
use routr_types::secret::Secret;

/// Kinds that this server reads; everything else is passed over.
const KINDS: [&str; 2] = ["Trunk", "Credentials"];
/// The versions of Routr's resources.
const API_VERSIONS: [&str; 2] = ["v2beta1", "v2"];

/// A trunk as its file has it: credentials by reference.
pub(super) struct TrunkResource {
    pub(super) reference: String,
    pub(super) api_version: String,
    pub(super) name: String,
    pub(super) region: Option<String>,
    pub(super) inbound_uri: String,
    pub(super) inbound_credentials: Option<String>,
    pub(super) outbound_credentials: Option<String>,
    pub(super) send_register: bool,
    pub(super) uris: Vec<TrunkUri>,
}

/// Credentials as their file has them.
pub(super) struct CredentialsResource {
    pub(super) reference: String,
    pub(super) api_version: String,
    pub(super) name: String,
    pub(super) username: String,
    pub(super) password: Secret,
}

/// Resources of one file.
pub(super) struct Resources {
    pub(super) file: Arc<str>,
    pub(super) trunks: Vec<TrunkResource>,
    pub(super) credentials: Vec<CredentialsResource>,
    /// Notes on values that can be used, but are probably not what was meant.
    pub(super) notes: Vec<Problem>,
}

/// Reads the text of one file.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn parse(file: &str, text: &str) -> Result<Resources, Vec<Problem>> {
    let documents = documents(file, text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::new(file);
    let mut resources =
        Resources { file: file.into(), trunks: Vec::new(), credentials: Vec::new(), notes: Vec::new() };
    let items = documents.iter().flat_map(|document| match document {
        Value::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    });
    for (at, item) in items.enumerate() {
        reader.enter(format!("resource {}", at + 1));
        match item {
            Value::Object(map) => read_resource(&mut reader, map, &mut resources),
            other => {
                reader.problem(String::new(), Some(other), "must be a resource with apiVersion, kind and ref")
            }
        }
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    resources.notes = reader.notes;
    Ok(resources)
}

/// The documents of a file.
fn documents(file: &str, text: &str) -> Result<Vec<Value>, Problem> {
    let unreadable = |message: String| Problem {
        file: file.to_owned(),
        resource: String::new(),
        field: String::new(),
        value: None,
        message,
    };
    if file.ends_with(".json") {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        return serde_json::from_str(text)
            .map(|document| vec![document])
            .map_err(|error| unreadable(format!("is not JSON: {error}")));
    }
    // A file may hold a million trunks, and it is the user's own: no limit but the one on alias bombs.
    let options = serde_saphyr::options! { budget: None };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
        let at_fault = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?));
        // The parser's message may repeat what stands there, which must not be a password.
        if at_fault.is_some_and(|line| line.to_ascii_lowercase().contains("password")) {
            unreadable(format!("is not YAML: line {line}, column {column} cannot be parsed"))
        } else {
            unreadable(format!("is not YAML: {}", error.without_snippet()))
        }
    })
}

/// Reads one resource of whatever kind.
fn read_resource(reader: &mut Reader<'_>, map: &Map<String, Value>, into: &mut Resources) {
    let node = Node::root(map);
    let Some(kind) = reader.required(&node, "kind", "such as Trunk or Credentials") else { return };
    if !KINDS.contains(&kind.as_str()) {
        if let Some(meant) = KINDS
            .iter()
            .find(|known| strsim::damerau_levenshtein(&kind.to_lowercase(), &known.to_lowercase()) <= 2)
        {
            reader.problem("kind".to_owned(), map.get("kind"), &format!("unknown, did you mean {meant}?"));
        }
        return;
    }
    let reference = reader.required(&node, "ref", "the resource's own identifier");
    if let Some(reference) = &reference {
        reader.enter(format!("{kind} {reference}"));
    }
    let api_version = reader.required(&node, "apiVersion", "v2beta1 or v2");
    if let Some(version) = &api_version
        && !API_VERSIONS.contains(&version.as_str())
    {
        reader.problem("apiVersion".to_owned(), map.get("apiVersion"), "must be v2beta1 or v2");
    }
    reader.slips(&node, &["apiVersion", "kind", "ref", "metadata", "spec", "extended"]);
    let metadata = reader.mapping(&node, "metadata");
    let mut of_metadata = |key| metadata.as_ref().and_then(|metadata| reader.text(metadata, key));
    let (name, region) = (of_metadata("name").unwrap_or_default(), of_metadata("region"));
    let spec = reader.mapping(&node, "spec");
    if map.get("spec").is_none_or(Value::is_null) {
        reader.problem("spec".to_owned(), None, "missing: the content of the resource");
    }
    let (Some(reference), Some(api_version), Some(spec)) = (reference, api_version, spec) else { return };
    if kind == "Trunk" {
        let trunk = TrunkResource {
            reference,
            api_version,
            name,
            region,
            inbound_uri: String::new(),
            inbound_credentials: None,
            outbound_credentials: None,
            send_register: false,
            uris: Vec::new(),
        };
        into.trunks.push(read_trunk(reader, &spec, trunk));
    } else if let Some((username, password)) = read_credentials(reader, &spec) {
        into.credentials.push(CredentialsResource { reference, api_version, name, username, password });
    }
}

fn read_trunk(reader: &mut Reader<'_>, spec: &Node<'_>, mut trunk: TrunkResource) -> TrunkResource {
    reader.slips(spec, &["inbound", "outbound"]);
    if let Some(inbound) = reader.mapping(spec, "inbound") {
        reader.slips(&inbound, &["uri", "credentialsRef", "accessControlListRef"]);
        trunk.inbound_uri = reader.text(&inbound, "uri").unwrap_or_default();
        trunk.inbound_credentials = reader.text(&inbound, "credentialsRef");
    }
    let Some(outbound) = reader.mapping(spec, "outbound") else { return trunk };
    reader.slips(&outbound, &["sendRegister", "credentialsRef", "uris"]);
    trunk.send_register = reader.switch(&outbound, "sendRegister").unwrap_or(false);
    trunk.outbound_credentials = reader.text(&outbound, "credentialsRef");
    for entry in reader.mappings(&outbound, "uris") {
        reader.slips(&entry, &["uri", "priority", "weight", "enabled"]);
        let mut uri = TrunkUri {
            priority: reader.number(&entry, "priority"),
            weight: reader.number(&entry, "weight"),
            enabled: reader.switch(&entry, "enabled").unwrap_or_else(|| {
                reader.note(
                    &entry,
                    "enabled",
                    "missing, so the URI is not used: set enabled: true to use it",
                );
                false
            }),
            ..TrunkUri::default()
        };
        // What is absent goes out empty, as the real server sends it: it is for the registry to say what it
        // lacks.
        if let Some(address) = reader.mapping(&entry, "uri") {
            reader.slips(&address, &["user", "host", "port", "transport"]);
            uri.user = reader.text(&address, "user").unwrap_or_default();
            uri.host = reader.text(&address, "host").unwrap_or_default();
            uri.port = reader.number(&address, "port");
            uri.transport = reader.text(&address, "transport").unwrap_or_default();
        }
        trunk.uris.push(uri);
    }
    trunk
}

fn read_credentials(reader: &mut Reader<'_>, spec: &Node<'_>) -> Option<(String, Secret)> {
    reader.slips(spec, &["credentials"]);
    let Some(credentials) = reader.mapping(spec, "credentials") else {
        reader.note(spec, "credentials", "missing, so these credentials are empty");
        return Some((String::new(), Secret::new("")));
    };
    reader.slips(&credentials, &["username", "password"]);
    let username = reader.text(&credentials, "username").unwrap_or_default();
    let password = reader.text(&credentials, "password").unwrap_or_default();
    Some((username, Secret::new(password)))
}
