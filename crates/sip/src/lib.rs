//! A small SIP layer (RFC 3261): what a client that registers needs, and what a server that tests it needs.
//! It knows nothing of gRPC, of Routr or of trunks beyond the name of a transport.
//!
//! ```text
//!   caller --Request + Destination-->  client  --Response or ClientError--> caller
//!                                        |
//!               branch -> transaction, one timer queue     client/transactions
//!                     /                            \
//!        one UDP socket                one connection for each destination
//!        client/udp                    client/pool, client/connection (TCP, TLS)
//!                     \                            /
//!                    message  <-  parser, headers, via, uri, grammar
//! ```
//!
//! Reading order: [`message`] (what is sent), [`uri`] and [`headers`] (what it is made of), [`parser`] (how
//! it is read), [`transaction`] (pure: when to send again, when to give up), [`client`] (sockets and names),
//! [`digest`] (both sides of the password).
//!
//! Rules that hold everywhere here:
//! * Any bytes lead to a message or an error, never to a panic; every size has a bound.
//! * Characters that would break out of a line (CR, LF, NUL) cannot become part of a message.
//! * No message is logged, and `Debug` shows neither credentials nor bodies.

pub mod client;
pub mod digest;
pub mod grammar;
pub mod headers;
pub mod message;
pub mod parser;
pub mod transaction;
pub mod uri;
pub mod via;
