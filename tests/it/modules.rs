//! No circle between modules of the same level: neither among the top-level modules of a crate, nor among
//! those within one of them.
//!
//! It reads the source: `crate::`, `super::` and `self::` paths, in `use` and elsewhere, without tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Uses that close a circle and are still there: each goes with the work that its reason names. One that
/// closes no circle any more must be removed here.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("runtime::persister", "runtime::driver", "READ_RETRIES goes to the persister"),
    (
        "registration/registration::explain",
        "registration/registration::classify",
        "what both need goes to a module of its own",
    ),
    ("sip/headers", "sip/message", "MAX_MESSAGE goes to the parser's limits"),
    ("sip/message", "sip/parser", "parse is called by its own path"),
    ("sip/client::connect", "sip/client::pool", "what a connection needs goes to it"),
    ("sip/client::connection", "sip/client::pool", "what a connection needs goes to it"),
    ("sip/client::keep_alive", "sip/client::pool", "what a connection needs goes to it"),
    ("sip/client::keep_alive", "sip/client::connection", "it is told what to write to"),
    (
        "sip/client::transactions",
        "sip/client::connection",
        "transactions are handed a transport (RFC 3261 section 17)",
    ),
];

/// Uses among siblings: from, to, and the first file that has it.
type Uses = BTreeMap<(String, String), PathBuf>;

#[test]
fn no_circle_between_modules_of_the_same_level() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = vec![("", root.join("src"))];
    let crates = fs::read_dir(root.join("crates")).into_iter().flatten().flatten();
    let crates: Vec<(String, PathBuf)> =
        crates.map(|entry| (format!("{}/", entry.file_name().display()), entry.path().join("src"))).collect();
    sources.extend(crates.iter().map(|(name, path)| (name.as_str(), path.clone())));

    let mut uses = Uses::new();
    for (name, source) in &sources {
        add(name, source, &mut uses);
    }
    assert!(uses.len() > 100, "the source is not read as it should be: {} uses", uses.len());

    let allowed = |(from, to): &(String, String)| ALLOWED.iter().any(|(a, b, _)| a == from && b == to);
    let kept: Uses = uses.clone().into_iter().filter(|(edge, _)| !allowed(edge)).collect();
    let circles: Vec<String> = kept
        .iter()
        .filter(|((from, to), _)| leads(&kept, to, from))
        .map(|((from, to), file)| {
            format!(
                "{from} uses {to} ({}), which leads back to it",
                file.strip_prefix(root).unwrap_or(file).display()
            )
        })
        .collect();
    assert!(circles.is_empty(), "circles between modules:\n{}", circles.join("\n"));
    for (from, to, _) in ALLOWED {
        assert!(
            uses.contains_key(&((*from).to_owned(), (*to).to_owned())) && leads(&kept, to, from),
            "{from} -> {to} closes no circle any more: remove it from ALLOWED"
        );
    }
}

/// Returns whether `to` is reached from `from`.
fn leads(uses: &Uses, from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(at) = next.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            next.extend(uses.keys().filter(|(from, _)| from == at).map(|(_, to)| to.as_str()));
        }
    }
    false
}

/// Adds what one crate uses within itself.
fn add(name: &str, source: &Path, uses: &mut Uses) {
    let mut files = Vec::new();
    let mut tests = BTreeSet::new();
    collect(source, &mut files);
    let texts: Vec<(PathBuf, Vec<String>, String)> = files
        .into_iter()
        .filter_map(|file| {
            let place = file.strip_prefix(source).ok()?.with_extension("");
            let mut module: Vec<String> = place.iter().map(|part| part.display().to_string()).collect();
            if matches!(module.last().map(String::as_str), Some("main" | "lib" | "mod")) {
                module.pop();
            }
            let text = without_comments(&fs::read_to_string(&file).ok()?);
            for test in after_all(&text, "#[cfg(test)]").filter_map(declared) {
                tests.insert([module.as_slice(), &[test]].concat());
            }
            Some((file, module, text))
        })
        .collect();
    let modules: BTreeSet<Vec<String>> = texts.iter().map(|(_, module, _)| module.clone()).collect();
    for (file, module, text) in &texts {
        if (1..=module.len()).any(|length| tests.contains(&module[..length])) {
            continue;
        }
        // The unit tests stand at the end.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for path in paths(text) {
            let Some(used) = absolute(module, &path) else { continue };
            for level in 0..2 {
                let Some((from, to)) = module.get(..=level).zip(used.get(..=level)) else { continue };
                let siblings = from[..level] == to[..level] && from != to;
                if siblings && modules.contains(to) && !tests.contains(to) {
                    let edge = [from, to].map(|module| format!("{name}{}", module.join("::")));
                    uses.entry(edge.into()).or_insert_with(|| file.clone());
                }
            }
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

fn after_all<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark).map(move |(at, _)| &text[at + mark.len()..])
}

/// The module of a file that is declared here, if one is.
fn declared(text: &str) -> Option<String> {
    let statement = text.split_once(';')?.0.trim();
    let name = statement.rsplit_once("mod ")?.1;
    name.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| name.to_owned())
}

/// All paths that begin at the crate or near the module, each of an imported tree.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            // `super::super::x` is read once, from its beginning; `$crate` is another crate's.
            let before = text[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | ':' | '$')) {
                tree(&text[at..], &mut Vec::new(), &mut all);
            }
        }
    }
    all
}

/// Reads a path or a tree of paths; returns what stands behind it.
fn tree<'a>(text: &'a str, before: &mut Vec<String>, all: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = tree(rest, &mut before.clone(), all).trim_start();
            match rest.split_at_checked(1) {
                Some((",", more)) => rest = more,
                Some((_, more)) => return more,
                None => return rest,
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if !name.is_empty() {
        before.push(name.to_owned());
    }
    if let Some(rest) = rest.strip_prefix("::")
        && !name.is_empty()
    {
        return tree(rest, before, all);
    }
    all.push(before.clone());
    // `x as y`
    match rest.trim_start().strip_prefix("as ") {
        Some(renamed) => renamed.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
        None => rest.strip_prefix('*').unwrap_or(rest),
    }
}

/// The path from the crate on.
fn absolute(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut at = match path.first()?.as_str() {
        "crate" => Vec::new(),
        _ => module.to_vec(),
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => {
                at.pop()?;
            }
            name => at.push(name.to_owned()),
        }
    }
    Some(at)
}

#[test]
fn paths_are_read() {
    let text = "use crate::{a::{self, B}, c as d, e::*}; fn f() { super::super::g::h(); $crate::i::j(); }";
    let read: Vec<String> = paths(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(read, ["crate::a::self", "crate::a::B", "crate::c", "crate::e", "super::super::g::h"]);
    let module = ["x", "y", "z"].map(str::to_owned);
    assert_eq!(absolute(&module, &paths(text)[4]).unwrap().join("::"), "x::g::h");
}
