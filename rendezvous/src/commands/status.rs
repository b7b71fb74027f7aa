//! `status`: how the server is doing.

use std::collections::BTreeMap;

use serde_json::json;

use super::reach::Core;
use super::{CommandError, print_json, print_line};
use crate::admin::{AdminAnswer, AdminRequest, Counters, Status};

pub(super) fn run(core: &mut Core<'_>, json: bool) -> Result<(), CommandError> {
    let running = core.is_running();
    let AdminAnswer::Status(status) = core.ask(&AdminRequest::Status {})? else {
        return Err(CommandError::NoAnswer);
    };
    let Status { connections, accounts, online, counters } = *status;
    let Counters { refused, cut } = counters;
    if json {
        return print_json(&json!({
            "running": running, "connections": connections, "accounts": accounts,
            "online": online, "refused": refused, "cut": cut,
        }));
    }
    print_line(if running { "running" } else { "not running" })?;
    print_line(&format!("accounts     {accounts}"))?;
    print_line(&format!("online       {online}"))?;
    print_line(&format!("connections  {connections}"))?;
    print_counts("refused", &refused)?;
    print_counts("cut off", &cut)
}

fn print_counts(what: &str, counts: &BTreeMap<String, u64>) -> Result<(), CommandError> {
    counts.iter().try_for_each(|(name, count)| print_line(&format!("{what}      {name}: {count}")))
}
