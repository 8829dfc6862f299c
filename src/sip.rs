//! A small SIP layer (RFC 3261): what a client that registers needs, and what a server that tests it needs. It knows
//! nothing of gRPC, of Routr or of trunks beyond the name of a transport.
pub mod digest;
pub mod grammar;
pub mod headers;
pub mod message;
pub mod parser;
pub mod uri;
pub mod via;
