//! The service over real sockets: a gRPC client, the service, and a scripted SIP peer that keeps the raw
//! requests. The peer and the digests here are written without the SIP layer, so that an error of that shows.

mod access;
mod capacity;
mod challenges;
mod contacts;
mod digest;
mod direct;
mod failures;
mod healing;
mod kept_nonces;
mod load;
mod odd_messages;
mod peer;
mod proxied;
mod realms;
mod refusals;
mod responses;
mod secrecy;
mod setup;
mod tls;
mod trace;
mod uri_scheme;
