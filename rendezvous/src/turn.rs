//! One turn of core and store, without sockets: what the driver, tests and the benchmark share.

use parlor_common::time::Timestamp;
use rand::CryptoRng;

use crate::server::{Output, Server};
use crate::store::Store;

/// Lets the store answer until the core asks nothing more, the queries of each round in one
/// transaction. Returns what is to be told, none of it a query: all it stands on is committed.
pub fn settle(
    server: &mut Server,
    store: &mut Store,
    now: Timestamp,
    rng: &mut dyn CryptoRng,
) -> Vec<Output> {
    let mut outputs = Vec::new();
    loop {
        let mut queries = Vec::new();
        while let Some(output) = server.poll_output() {
            match output {
                Output::Query(id, query) => queries.push((id, query)),
                Output::Reply { .. } | Output::Event { .. } | Output::Close { .. } => {
                    outputs.push(output);
                }
            }
        }
        if queries.is_empty() {
            return outputs;
        }
        for (id, answer) in store.answer(queries) {
            server.handle_answer(id, answer, now, rng);
        }
    }
}
