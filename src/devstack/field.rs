//! The field's registrar: plays by name what real registrars, name servers and EdgePorts do.
//!
//! A case is one YAML file: which nodes listen, what each responds as raw text with placeholders, what the
//! name servers and EdgePorts of the case do, and what the right outcome is. `cases/README.md` describes the
//! format; a contributor adds a case without Rust. [`Library`] finds cases, [`Player`] plays one, [`command`]
//! is the subcommand.
//!
//! Requests are read and digests are checked here, independently of [`routr_sip`]: the code under test must
//! not judge itself.

mod bindings;
mod case;
pub mod command;
mod context;
mod dialogue;
mod digest;
mod dns;
mod edge_port;
mod journal;
mod library;
mod net;
mod player;
mod script;
mod template;
#[cfg(test)]
mod tests;
mod tls;
mod when;
mod wire;

pub use self::{
    bindings::Binding,
    case::{Case, CaseError, Over},
    digest::Verdict as CredentialsVerdict,
    dns::Query,
    journal::{Received, Seen},
    library::{Library, LibraryError},
    player::{PlayError, PlayOptions, Player},
};
