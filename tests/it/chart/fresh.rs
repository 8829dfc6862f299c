//! Checks that generated files are fresh, and that files which have to agree do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{CHART, VERSION, helm, render};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the places where two documents differ; the documents themselves are too long to show.
fn differences(path: &str, left: &Value, right: &Value) -> Vec<String> {
    match (left, right) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
            keys.into_iter()
                .flat_map(|key| differences(&format!("{path}.{key}"), &left[key], &right[key]))
                .collect()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => (0..one.len())
            .flat_map(|at| differences(&format!("{path}[{at}]"), &left[at], &right[at]))
            .collect(),
        // 1 and 1.0 are the same to the API server.
        (Value::Number(one), Value::Number(other)) if one.as_f64() == other.as_f64() => Vec::new(),
        _ if left == right => Vec::new(),
        _ => vec![format!("{path}: {left}, {right}")],
    }
}

#[test]
fn helm_lint_finds_nothing() {
    let output = helm(&["lint", "--strict", CHART]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_charts_copy_of_the_crds_is_that_of_the_tree() {
    let listing = |folder: &str| {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let (source, copy) = (format!("{ROOT}/crds"), format!("{CHART}/files/crds"));
    assert_eq!(listing(&source), listing(&copy), "`make crds` writes both");
    for name in listing(&source) {
        let same = read(Path::new(&source).join(&name)) == read(Path::new(&copy).join(&name));
        assert!(same, "{name} of the chart differs from that in crds/: `make crds` writes both");
    }
}

#[test]
fn the_rendered_crd_is_the_one_of_the_tree_but_for_labels_and_annotations() {
    let objects = render(json!({}));
    let mut rendered = objects.only("CustomResourceDefinition").clone();
    let metadata = rendered["metadata"].as_object_mut().unwrap();
    assert_eq!(metadata.remove("annotations").unwrap(), json!({"helm.sh/resource-policy": "keep"}));
    assert_eq!(metadata.remove("labels").unwrap()["app.kubernetes.io/managed-by"], "Helm");
    let source: Value =
        serde_saphyr::from_str(&read(format!("{ROOT}/crds/registries.routr.io.yaml"))).unwrap();
    assert_eq!(differences("", &rendered, &source), Vec::<String>::new());
}

#[test]
fn a_packaged_chart_has_the_crd_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = helm(&["package", CHART, "--destination", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let output =
        helm(&["template", "name", package.to_str().unwrap(), VERSION, "--show-only=templates/crds.yaml"]);
    let rendered = String::from_utf8(output.stdout).unwrap();
    assert!(rendered.contains("name: registries.routr.io"), "{rendered}");
}

#[test]
fn the_dockerfile_agrees_with_the_tree() {
    let dockerfile = read(format!("{ROOT}/Dockerfile"));
    let manifest = read(format!("{ROOT}/Cargo.toml"));
    let rust =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let lines: Vec<_> = dockerfile.lines().collect();
    assert!(dockerfile.contains(&format!(" rust:{rust}-")), "rust-version is {rust}");
    // The drop-in use: without arguments it runs from the configuration file; and the chart's arguments
    // replace `run`.
    assert!(lines.contains(&r#"ENTRYPOINT ["/usr/local/bin/routr-registry"]"#));
    assert!(lines.contains(&r#"CMD ["run"]"#));
    assert!(lines.contains(&"USER 65532:65532"), "by number, or Kubernetes cannot tell that it is not root");
    // Whatever the build reads is let in.
    let let_in = read(format!("{ROOT}/.dockerignore"));
    let members = ["tests/simulate/Cargo.toml", "tests/support"];
    for path in ["Cargo.toml", "Cargo.lock", "build.rs", "crates", "proto", "src"].into_iter().chain(members)
    {
        assert!(let_in.lines().any(|line| line == format!("!{path}")), "{path}");
    }
    assert!(dockerfile.contains(" --no-default-features "), "the image leaves the demo out");
}

#[test]
fn the_app_version_is_the_version_of_the_program() {
    let chart: Value = serde_saphyr::from_str(&read(format!("{CHART}/Chart.yaml"))).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_table_of_values_is_fresh_and_complete() {
    let output = Command::new(format!("{ROOT}/scripts/chart-readme.sh")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_check_of_the_table_finds_a_changed_default_and_a_value_without_a_comment() {
    let check = |change: &dyn Fn(String) -> String| {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(format!("{CHART}/README.md"), folder.path().join("README.md")).unwrap();
        fs::write(folder.path().join("values.yaml"), change(read(format!("{CHART}/values.yaml")))).unwrap();
        let script = format!("{ROOT}/scripts/chart-readme.sh");
        let output = Command::new(script).arg("--check").arg(folder.path()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(&|text| text), (true, String::new()));
    let (good, said) = check(&|text| text.replace("replicaCount: 2", "replicaCount: 3"));
    assert!(!good && said.contains("make chart-readme"), "{said}");
    let (good, said) = check(&|text| text + "\nlonely: 1\n");
    assert!(!good && said.contains("no comment for lonely"), "{said}");
}

/// Each value has its place in the schema, so that none can be mistyped unnoticed.
#[test]
fn the_schema_knows_each_value() {
    fn compare(values: &Value, schema: &Value, path: &str) {
        let (Some(values), Some(known)) = (values.as_object(), schema["properties"].as_object()) else {
            return;
        };
        assert_eq!(schema["additionalProperties"], false, "{path} of the schema is open");
        for (key, value) in values {
            let path = format!("{path}.{key}");
            compare(value, known.get(key).unwrap_or_else(|| panic!("{path} is not in the schema")), &path);
        }
        // These are for a chart above this one.
        let of_parent = |key: &str| !path.contains('.') && ["global", "enabled", "tags"].contains(&key);
        for key in known.keys().filter(|key| !of_parent(key.as_str())) {
            let optional =
                ["initialDelaySeconds", "successThreshold", "terminationGracePeriodSeconds", "claims"];
            let optional = optional.contains(&key.as_str()) || path.ends_with(".affinity");
            assert!(optional || values.contains_key(key), "{path}.{key} of the schema is no value");
        }
    }
    let values: Value = serde_saphyr::from_str(&read(format!("{CHART}/values.yaml"))).unwrap();
    let schema: Value = serde_json::from_str(&read(format!("{CHART}/values.schema.json"))).unwrap();
    compare(&values, &schema, "values");
}
