//! One turn of core, store and bus, without sockets: what the driver, tests and the benchmark share.

use parlor_common::time::Timestamp;
use rand::CryptoRng;

use crate::server::{Bus, Output, Server};
use crate::store::{Database, Store};

/// Lets the store answer and the bus carry until the core asks and publishes nothing more, the
/// queries of each round in one transaction. Returns what is to be told, none of it a query or a
/// notice: all it stands on is committed.
pub fn settle<D: Database>(
    server: &mut Server,
    store: &mut Store<D>,
    bus: &mut dyn Bus,
    now: Timestamp,
    rng: &mut dyn CryptoRng,
) -> Vec<Output> {
    let mut outputs = Vec::new();
    loop {
        let mut queries = Vec::new();
        while let Some(output) = server.poll_output() {
            match output {
                Output::Query(id, query) => queries.push((id, query)),
                Output::Publish(notice) => bus.publish(notice),
                Output::Reply { .. }
                | Output::Event { .. }
                | Output::Admin { .. }
                | Output::Mail { .. }
                | Output::Close { .. } => {
                    outputs.push(output);
                }
            }
        }
        let mut heard = false;
        while let Some(notice) = bus.poll() {
            server.handle_notice(notice);
            heard = true;
        }
        if queries.is_empty() && !heard {
            return outputs;
        }
        if !queries.is_empty() {
            for (id, answer) in store.answer(queries) {
                server.handle_answer(id, answer, now, rng);
            }
        }
    }
}
