//! Runs the fuzz targets. Built by `make fuzz` (`--cfg fuzzing`), libFuzzer has `main` and the environment's
//! `FUZZ_TARGET` names the target. Built as usual, it takes the inputs that are named, without a C++ compiler
//! and with backtraces:
//!
//! ```sh
//! cargo run --example fuzz -- TARGET FILE...
//! cargo run --example fuzz -- write-seeds        # the inputs of fuzz/seeds.rs again
//! ```
#![cfg_attr(fuzzing, no_main)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

#[cfg(not(fuzzing))]
mod seeds;
#[cfg_attr(fuzzing, allow(dead_code, reason = "the list of targets is for the other main"))]
mod targets;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: std::sync::LazyLock<&targets::Target> = std::sync::LazyLock::new(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        targets::Target::named(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name}: there is no such target"))
    });
    TARGET.check(data);
});

#[cfg(not(fuzzing))]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    if name == "write-seeds" {
        return seeds::write();
    }
    let Some(target) = targets::Target::named(&name) else {
        println!("TARGET FILE... with one of these targets:");
        for target in &targets::TARGETS {
            println!("  {:<14} {}", target.name, target.input);
        }
        return;
    };
    for file in arguments {
        println!("{name}: {file}");
        target.check(&std::fs::read(file).unwrap());
    }
    println!("nothing is wrong with them");
}
