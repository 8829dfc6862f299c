//! The one loop: trunks in, actions performed, replies fed back.

pub mod handle;
pub mod view;
