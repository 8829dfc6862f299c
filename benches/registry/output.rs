//! Output of a run's figures: the screen, a JSON file, a picture, and BENCHMARKS.md when they are kept.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::json;

use crate::{
    machine::Machine,
    plot,
    report::{Bench, Figure},
    screen,
};

/// Lines of BENCHMARKS.md around the last run that was kept.
const MARKS: (&str, &str) = ("<!-- figures: begin -->", "<!-- figures: end -->");

/// Writes everything. With `save` into the tree as well.
pub fn write(bench: &Bench, save: bool) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    let machine = Machine::this();
    println!("{}", screen::table(&bench.figures, std::io::stdout().is_terminal()));
    println!("{machine}; the run took {:.0} s", bench.seconds());
    let missed: Vec<&Figure> = bench.figures.iter().filter(|figure| figure.met() == Some(false)).collect();
    let of = bench.figures.iter().filter(|figure| figure.met().is_some()).count();
    println!("{} of {of} goals met", of - missed.len());
    for figure in missed {
        println!("MISSED  {}: {}", figure.section, screen::line(figure));
    }
    let figures: Vec<_> = bench
        .figures
        .iter()
        .map(|figure| {
            let mut value = serde_json::to_value(figure).unwrap_or_default();
            value["ratio"] = json!(figure.ratio());
            value["met"] = json!(figure.met());
            value
        })
        .collect();
    let document = json!({
        "machine": machine, "quick": bench.quick, "seconds": bench.seconds(), "figures": figures, "costs": bench.costs,
    });
    let file = folder.join("figures.json");
    fs::write(&file, serde_json::to_string_pretty(&document)? + "\n")?;
    println!("written: {}", shown(&file, root));
    if bench.costs.len() > 1 {
        let picture = folder.join("cost.svg");
        plot::draw(&bench.costs, &picture)?;
        println!("written: {}", shown(&picture, root));
        if save {
            fs::copy(&picture, root.join("docs/benchmarks.svg"))?;
            println!("written: docs/benchmarks.svg");
        }
    }
    if save {
        let text = format!(
            "Made by `make bench{}` in {:.0} s on {machine}.\n\n{}",
            if bench.quick { "-quick" } else { "" },
            bench.seconds(),
            screen::markdown(&bench.figures)
        );
        keep(&root.join("BENCHMARKS.md"), &text)?;
        println!("written: BENCHMARKS.md");
    }
    Ok(())
}

fn shown<'a>(file: &'a Path, root: &Path) -> std::path::Display<'a> {
    file.strip_prefix(root).unwrap_or(file).display()
}

/// Puts `text` between the marks.
fn keep(file: &Path, text: &str) -> anyhow::Result<()> {
    let before = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (head, rest) = before.split_once(MARKS.0).context("BENCHMARKS.md has lost its first mark")?;
    let (_, tail) = rest.split_once(MARKS.1).context("BENCHMARKS.md has lost its last mark")?;
    fs::write(file, format!("{head}{}\n\n{text}\n{}{tail}", MARKS.0, MARKS.1))?;
    Ok(())
}
