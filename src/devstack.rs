//! The dependencies of a registry, small enough to run on a laptop and in a test, and real on the wire: an
//! API server that serves Routr's resource files ([`api`]) and a SIP registrar that misbehaves on request
//! ([`registrar`]), with sample resources that show what a registry does with them ([`samples`]). [`field`]
//! plays by name what registrars, name servers and EdgePorts of the field do.

pub mod api;
pub mod field;
pub mod registrar;
pub mod samples;
