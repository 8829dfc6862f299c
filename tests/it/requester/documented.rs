//! docs/requester.md against the program: its settings, and the messages that it quotes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, CommandFactory as _};
use routr_registry::cli::Cli;

const TEXT: &str = include_str!("../../../docs/requester.md");

/// Rows of the tables under a heading, as cells without the space around them.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let section = TEXT.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Texts between backquotes.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The flags of `requester --help`, with their cells of the table: flag and value, variable, default.
fn flags() -> BTreeMap<String, (String, String, Option<String>)> {
    let mut command = Cli::command();
    command.build();
    let requester = command.find_subcommand("requester").unwrap();
    let row = |arg: &Arg| {
        let long = arg.get_long().filter(|long| !["help", "version"].contains(long))?;
        // A switch has a name of its value, too, and takes none.
        let value = if arg.get_action().takes_values() { arg.get_value_names() } else { None };
        let value = value.unwrap_or_default().join(" ");
        let variable = arg.get_env().map(|name| name.to_str().unwrap().to_owned()).unwrap_or_default();
        let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_str().unwrap()).collect();
        let default = (!default.is_empty()).then(|| default.join(","));
        let flag = format!("--{long} {value}").trim_end().to_owned();
        Some((long.to_owned(), (flag, variable, default)))
    };
    requester.get_arguments().filter_map(row).collect()
}

#[test]
fn the_table_of_settings_has_every_flag_with_its_variable_and_default_and_no_other() {
    let known = flags();
    assert!(known.len() > 15, "{known:?}");
    let table: Vec<_> = rows("Settings").into_iter().filter(|row| row[0].starts_with("`--")).collect();
    let named: Vec<_> = table.iter().map(|row| quoted(row[0])[0].split(' ').next().unwrap()).collect();
    for long in known.keys() {
        let count = named.iter().filter(|name| name.strip_prefix("--") == Some(long)).count();
        assert_eq!(count, 1, "--{long} in the table of docs/requester.md");
    }
    for row in table {
        let shown = quoted(row[0])[0];
        let long = shown.split(' ').next().unwrap().trim_start_matches("--");
        let Some((flag, variable, default)) = known.get(long) else { panic!("--{long} is no flag") };
        assert_eq!(shown, flag);
        assert_eq!(quoted(row[1]).join(" "), *variable, "{flag}");
        if let Some(default) = default {
            assert_eq!(quoted(row[2]).first(), Some(&default.as_str()), "{flag}");
        }
        assert!(row[3].len() > 5, "{flag} is explained");
    }
}

/// Source text of the product, with the lines of a text that is broken by a backslash joined.
fn source() -> String {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() && !entry.ends_with("tests") {
                collect(&entry, files);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                files.push(entry);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates"] {
        collect(&root.join(folder), &mut files);
    }
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |joined, part| joined + part.trim_start())
}

#[test]
fn the_messages_of_the_troubleshooting_are_those_that_the_program_has() {
    let source = source();
    let rows = rows("Troubleshooting");
    assert!(rows.len() > 10, "{}", rows.len());
    for row in rows.iter().skip(1) {
        assert_eq!(row.len(), 3, "{row:?}");
        let messages = quoted(row[1]);
        assert!(!messages.is_empty(), "{row:?}");
        for piece in messages.iter().flat_map(|message| message.split('…')) {
            assert!(source.contains(piece), "{piece:?} of {:?} is in no message", row[0]);
        }
    }
}
