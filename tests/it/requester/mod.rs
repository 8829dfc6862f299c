//! The Requester as a product: calls that arrive, refreshes in one transaction, every registrar that the DNS
//! names, and what stands in for Routr's own.

mod calls;
mod documented;
mod drop_in;
mod reaching;
mod readme;
mod refreshes;
mod traced;
