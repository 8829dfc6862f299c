//! Every input that the fuzzers have kept, through their targets, without a fuzzer: what was fixed stays
//! fixed.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
};

#[allow(dead_code, reason = "all of them are run here, none by its name")]
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use targets::{TARGETS, Target};

/// Largest input in the tree, and all of them together, in bytes.
const MOST: (usize, usize) = (4_096, 300_000);

fn inputs(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let folders = ["corpus", "regressions"].map(|folder| root.join(folder).join(target.name));
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    files.map(|file| file.unwrap().path()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// Inputs whose target panicked.
fn failing(target: &Target) -> Vec<String> {
    let fails = |data: &[u8]| catch_unwind(AssertUnwindSafe(|| target.check(data))).is_err();
    let failing = inputs(target).into_iter().filter(|(_, data)| fails(data));
    failing
        .map(|(path, _)| format!("cargo run --example fuzz -- {} {}", target.name, path.display()))
        .collect()
}

#[test]
fn every_input_that_was_kept_passes() {
    let failing: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> = TARGETS.iter().map(|target| scope.spawn(|| failing(target))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failing.is_empty(), "these show why:\n{}", failing.join("\n"));
}

#[test]
fn each_target_has_a_small_corpus() {
    let mut all = 0;
    for target in &TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() >= 3, "{} has {} inputs", target.name, inputs.len());
        for (path, data) in &inputs {
            assert!(data.len() <= MOST.0, "{} has {} bytes", path.display(), data.len());
            all += data.len();
        }
    }
    assert!(all <= MOST.1, "the corpus has {all} bytes: make fuzz-corpus makes it smaller");
}
