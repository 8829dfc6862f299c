//! Passwords in the memory of the processes that work with them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::field::harness::{Chain, PASSWORD, Play, Setup};
use crate::support::wait::{PATIENCE, wait_for};

const SOON: Duration = PATIENCE;
const PAGE: u64 = 4096;

/// Returns how often any of these stands in the writable memory of a process.
fn found_in(pid: i32, needles: &[Vec<u8>]) -> usize {
    let [memory, pages] = ["mem", "pagemap"]
        .map(|name| File::open(format!("/proc/{pid}/{name}")).expect("a file of a process"));
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps of a process");
    let mut found = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).expect("an address"));
        for (at, length) in present(&pages, from, to) {
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            // What cannot be read, such as a page of the kernel's, holds nothing of ours.
            let Ok(length) = memory.read_at(&mut bytes, at) else { continue };
            for needle in needles {
                found += memchr::memmem::find_iter(&bytes[..length], needle).count();
            }
        }
    }
    found
}

/// The runs of pages that are there: an allocator reserves a gigabyte and uses little of it.
fn present(pages: &File, from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut entries = vec![0; usize::try_from((to - from) / PAGE * 8).unwrap()];
    pages.read_exact_at(&mut entries, from / PAGE * 8).expect("the page map of a process");
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (at, entry) in (from..to).step_by(usize::try_from(PAGE).unwrap()).zip(entries.chunks_exact(8)) {
        // In memory, or swapped out: bits 63 and 62 (proc_pid_pagemap(5)).
        if entry[7] >> 6 == 0 {
            continue;
        }
        match runs.last_mut() {
            Some((start, length)) if *start + *length == at => *length += PAGE,
            _ => runs.push((at, PAGE)),
        }
    }
    runs
}

#[tokio::test]
async fn a_password_is_in_memory_once_and_its_base64_never() {
    const TRUNKS: usize = 40;
    let play = Play::start("D1-strongest").await;
    let users: Vec<String> = (1..=TRUNKS).map(|n| format!("user{n}")).collect();
    let trunks = users.iter().map(|user| play.trunk(user, "UDP")).collect();
    // The connection to the API server, with the last list in its buffers, ends when it is not used.
    let setup = Setup { register_interval: "1h", ..Setup::default() };
    let mut chain = Chain::with(trunks, setup).await;
    chain.all_registered(TRUNKS, SOON).await;
    let clear = [PASSWORD.as_bytes().to_vec()];
    // The text before it decides in which of three forms it is encoded; the groups of four at the ends depend
    // on what is beside it.
    let encoded = ["", "1", "12"].map(|before| {
        let text = BASE64_STANDARD.encode(format!("{before}{PASSWORD}"));
        text.as_bytes()[4..text.len() - 4].to_vec()
    });
    let registry = chain.registry.pid();
    let requester = chain.requester().pid();
    let once = async || match (found_in(registry, &clear), found_in(registry, &encoded)) {
        (TRUNKS, 0) => Ok(()),
        seen => Err(format!("clear, Base64: {seen:?}")),
    };
    wait_for(once, SOON, "each password once in the registry").await;
    // The registry's connection to the Requester ends with the registry.
    chain.registry.terminate(SOON).await;
    let never = async || match (found_in(requester, &clear), found_in(requester, &encoded)) {
        (0, 0) => Ok(()),
        seen => Err(format!("clear, Base64: {seen:?}")),
    };
    wait_for(never, SOON, "no password in the Requester").await;
}
