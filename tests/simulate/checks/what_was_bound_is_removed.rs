//! A removal names what was bound: it goes through the EdgePort of the last binding.

use routr_registration::model::RegisterRequest;

use crate::{checks::Invariant, world::State};

impl State {
    /// Checks that what is removed is what was bound: the EdgePort is that of the last binding.
    pub fn check_contact(&mut self, run: u32, name: &str, request: &RegisterRequest) {
        let at = self.now();
        let call = self.model.call(&request.call_id);
        let Some(grant) = call.grant.clone().filter(|grant| grant.run == run && !call.unconfirmed) else {
            return;
        };
        // What was bound before through another EdgePort, and may last, is removed as well.
        let before = call.bound_through.get(&request.edge_port).is_some_and(|until| *until > at);
        let right = before || grant.edge_port == request.edge_port;
        self.check(Invariant::WhatWasBoundIsRemoved, right, |_| {
            format!("{name}: bound through {}, removed through {}", grant.edge_port, request.edge_port)
        });
    }
}
