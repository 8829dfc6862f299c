//! The tests that docs/security.md names, against the source.

use std::fs;
use std::path::{Path, PathBuf};

const TEXT: &str = include_str!("../../../docs/security.md");

/// A module: its source, and where the files of its own modules are.
struct Module {
    text: String,
    folder: PathBuf,
}

impl Module {
    /// The root of a crate.
    fn root(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        Some(Self { text, folder: file.parent()?.to_owned() })
    }

    /// A module within this one.
    fn child(&self, name: &str) -> Option<Self> {
        let folder = self.folder.join(name);
        if let Some((before, _)) = self.text.split_once(&format!("mod {name};")) {
            let mut above = before.lines().rev().take(2);
            let path = above.find_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"));
            let file = match path {
                Some(path) => self.folder.parent()?.join(path),
                None => folder.with_extension("rs"),
            };
            let text = fs::read_to_string(file).or_else(|_| fs::read_to_string(folder.join("mod.rs")));
            return Some(Self { text: text.ok()?, folder });
        }
        let (_, text) = self.text.split_once(&format!("mod {name} {{"))?;
        Some(Self { text: text.to_owned(), folder })
    }

    /// Returns whether it has this test; of an empty path, whether it has any.
    fn has(&self, path: &[&str]) -> bool {
        match path {
            [] => self.text.contains("#[test]") || self.text.contains("#[tokio::test"),
            [name, rest @ ..] => {
                let test = rest.is_empty()
                    && self
                        .text
                        .split_once(&format!("fn {name}("))
                        .and_then(|(before, _)| before.rsplit("\n\n").next())
                        .is_some_and(|above| above.contains("#[test]") || above.contains("#[tokio::test"));
                test || self.child(name).is_some_and(|module| module.has(rest))
            }
        }
    }
}

/// The crates with tests, by their roots.
fn crates() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let members = fs::read_dir(root.join("crates")).unwrap();
    let members = members.map(|entry| entry.unwrap().path().join("src/lib.rs"));
    let all = [root.join("tests/it/main.rs"), root.join("src/lib.rs")].into_iter().chain(members);
    all.filter_map(|file| Module::root(&file)).collect()
}

fn exists(crates: &[Module], path: &str) -> bool {
    let path: Vec<&str> = path.split("::").collect();
    crates.iter().any(|root| root.has(&path))
}

#[test]
fn each_test_that_the_threat_model_names_exists() {
    let crates = crates();
    assert!(crates.len() > 5, "the source is not read as it should be");
    let section = TEXT.split("\n## ").find(|section| section.starts_with("Attacks")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut missing = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 4, "{row}");
        let named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        let is_file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name).is_file();
        missing.extend(named.into_iter().filter(|name| !is_file(name) && !exists(&crates, name)));
    }
    assert_eq!(missing, Vec::<&str>::new(), "docs/security.md names tests that do not exist");
}

#[test]
fn what_does_not_exist_is_not_found() {
    let crates = crates();
    for good in
        ["quota::tests", "hostile::documented::what_does_not_exist_is_not_found", "client::tests::udp"]
    {
        assert!(exists(&crates, good), "{good}");
    }
    for bad in ["quota::test", "hostile::documented::exists", "hostile::tests", "quota::tests::no_such_test"]
    {
        assert!(!exists(&crates, bad), "{bad}");
    }
}
