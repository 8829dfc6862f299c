//! Finding and reading files.

use std::{fs, path::Path};

use super::*;
use crate::config::load::find;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn authority() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(vec!["ca.test".into()]).unwrap().self_signed(&key).unwrap().pem()
}

#[test]
fn argument_goes_before_variable_before_defaults() {
    let directory = directory(&[("a.yaml", ""), ("b.yaml", ""), ("c.yml", ""), ("d.json", "")]);
    let at = |name: &str| directory.path().join(name);
    let (missing, c, d) = (at("missing.yaml"), at("c.yml"), at("d.json"));
    let defaults = [missing.as_path(), c.as_path(), d.as_path()];
    let variable = Some(at("b.yaml").into_os_string());
    assert_eq!(find(Some(&at("a.yaml")), variable.clone(), &defaults).unwrap(), at("a.yaml"));
    assert_eq!(find(None, variable.clone(), &defaults).unwrap(), at("b.yaml"));
    assert_eq!(find(None, Some("".into()), &defaults).unwrap(), c, "an empty variable is none");
    assert_eq!(find(None, None, &defaults).unwrap(), c);

    let error = find(Some(&missing), variable, &defaults).unwrap_err().to_string();
    let looked = missing.display();
    assert_eq!(
        error,
        format!("no configuration found: looked for {looked}; name a file with --config or CONFIG_PATH")
    );
    let error = find(None, None, &[Path::new("/no/a"), Path::new("/no/b")]).unwrap_err().to_string();
    assert!(error.contains("looked for /no/a, /no/b;"), "{error}");
}

#[test]
fn loads_by_extension() {
    let json =
        serde_json::to_string_pretty(&serde_saphyr::from_str::<RegistryDocument>(LEAST).unwrap()).unwrap();
    let tabs = json.replace("  ", "\t");
    let directory = directory(&[("a.yaml", LEAST), ("b.json", &tabs), ("c.yaml", &json)]);
    for name in ["a.yaml", "b.json", "c.yaml"] {
        let path = directory.path().join(name);
        let (found, config) = load(Some(&path)).unwrap();
        assert_eq!((found, config), (path, yaml(LEAST).unwrap()));
    }
}

#[test]
fn unreadable_files_are_told_apart() {
    let directory = directory(&[]);
    assert!(matches!(load(Some(directory.path())), Err(ConfigError::Unreadable { .. })), "a directory");
    let path = directory.path().join("latin.yaml");
    fs::write(&path, b"kind: Registry\nname: \xe4\n").unwrap();
    let text = load(Some(&path)).unwrap_err().to_string();
    assert!(text.ends_with("has 1 mistake:\n  the document (line 2): not UTF-8; save it as UTF-8"), "{text}");
}

#[test]
fn password_comes_from_a_file_beside_the_configuration() {
    let cache = "  cache: {provider: redis, parameters: 'passwordFile=pw'}\n";
    let directory =
        directory(&[("a.yaml", &format!("{LEAST}{cache}")), ("pw", "hunter2, with = and comma\r\n")]);
    let path = directory.path().join("a.yaml");
    let password = |config: &Config| match &config.cache {
        Cache::Redis(settings) => settings.password.clone().unwrap().expose().to_owned(),
        Cache::Memory => panic!("memory"),
    };
    let (_, config) = load(Some(&path)).unwrap();
    assert_eq!(password(&config), "hunter2, with = and comma");
    assert!(!format!("{config:?}").contains("hunter2"));

    fs::write(directory.path().join("pw"), "another").unwrap();
    let (_, changed) = load(Some(&path)).unwrap();
    assert_ne!(changed, config, "a reload sees the change");

    for (text, problem) in [("\n", "is empty"), ("hunter2\nhunter3\n", "has more than one line")] {
        fs::write(directory.path().join("pw"), text).unwrap();
        let shown = load(Some(&path)).unwrap_err().to_string();
        let expected =
            format!("spec.cache.parameters (line 8): passwordFile {problem}; write the path of a file");
        assert!(shown.contains(&expected) && !shown.contains("hunter"), "{shown}");
    }
    fs::remove_file(directory.path().join("pw")).unwrap();
    let shown = load(Some(&path)).unwrap_err().to_string();
    assert!(shown.contains("passwordFile cannot be read (No such file"), "{shown}");
}

#[test]
fn authorities_are_looked_at_together_with_the_rest() {
    let text = LEAST.replace("apiAddr: ", "apiAddr: https://");
    let text = format!("{text}  tls: {{caFile: ca.pem}}\n  methods: ['a b']\n");
    let directory = directory(&[("a.yaml", &text), ("ca.pem", "nothing here")]);
    let path = directory.path().join("a.yaml");
    let shown = load(Some(&path)).unwrap_err().to_string();
    assert!(shown.contains("has 2 mistakes:"), "{shown}");
    assert!(
        shown.contains("spec.tls.caFile (line 8): holds no certificate: \"ca.pem\"; write the path"),
        "{shown}"
    );
    fs::write(directory.path().join("a.yaml"), text.replace("a b", "ab")).unwrap();
    fs::write(directory.path().join("ca.pem"), authority()).unwrap();
    let (_, config) = load(Some(&path)).unwrap();
    assert_eq!(config.api.files.authorities, Some(directory.path().join("ca.pem")));
}

#[test]
fn check_prints_what_the_file_comes_to() {
    let text = "\
kind: Registry
apiVersion: v2beta1
spec:
  requesterAddr: localhost:51909
  apiAddr: https://api
  registerInterval: 20
  methods: [INVITE, MESSAGE]
  cache:
    provider: redis
    parameters: username=me,password=hunter2,secure
  edgePorts:
    - address: 10.100.42.127:5060
      region: us-east1
    - address: edge
";
    let directory = directory(&[("registry.yaml", text), ("bad.yaml", &text.replace("me,", "me,hsot=x,"))]);
    let path = directory.path().join("registry.yaml");
    let expected = format!(
        "{} is good

  name              registry
  instanceId        made by the service
  apiAddr           api:51907, TLS with the system's authorities, at most 30s for a call
  requesterAddr     localhost:51909, no TLS, at most 40s for a call
  registerInterval  20s
  cache             redis at localhost:6379, as me, TLS with the system's authorities
  methods           INVITE, MESSAGE
  edgePorts         10.100.42.127:5060 (us-east1), edge:5060
  registration      expires 10m, up to 1000 in flight, 20 per second for each registrar
  sync              up to 1000000 trunks, 10000 pages and 536870912 bytes within 5m; a trunk up to 262144 bytes
  require           gin
  userAgent         Routr Connect v2
  redirects         within the registrar's own domain, for 1h at most
  digest            minimum none

warning: spec.edgePorts[0].address: 10.100.42.127 is a private address, and Contact names it: calls do not arrive \
         unless the provider can reach it; set spec.edgePorts[0].publicAddress to the address at which providers \
         reach this EdgePort

warning: spec.edgePorts[1].address: edge is a name without a dot, and Contact names it: calls do not arrive \
         unless the provider can reach it; set spec.edgePorts[1].publicAddress to the address at which providers \
         reach this EdgePort
",
        path.display()
    );
    assert_eq!(check(Some(&path)), Checked { code: 0, text: expected });

    let path = directory.path().join("bad.yaml");
    let expected = format!(
        "{} has 1 mistake:\n  spec.cache.parameters (line 10): part 2 has an unknown key: \"hsot\"; did you mean \
         host?\n",
        path.display()
    );
    assert_eq!(check(Some(&path)), Checked { code: 1, text: expected });
    let missing = check(Some(&directory.path().join("missing.yaml")));
    assert!(missing.code == 1 && missing.text.starts_with("no configuration found"), "{missing:?}");
}
