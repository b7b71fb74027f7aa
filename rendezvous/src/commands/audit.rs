//! `audit`: what happened here, and whether that is all of it.

use std::time::Duration;

use parlor_common::visible::Visible;
use serde::Serialize;
use serde_json::json;

use super::reach::Core;
use super::{CommandError, print_json, print_line, serve};
use crate::admin::{AdminAnswer, AdminRequest, PAGE};
use crate::args::AuditCommand;
use crate::audit::{Chain, Claim, Head, Page, Row};
use crate::config::Config;

/// How often `--follow` looks.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn run(config: &Config, what: AuditCommand, json: bool) -> Result<(), CommandError> {
    match what {
        AuditCommand::Tail { limit, follow } => {
            let last = tail(&mut Core::reach(config)?, limit, json)?;
            if follow { follow_from(config, last, json) } else { Ok(()) }
        }
        AuditCommand::Verify { head } => verify(&mut Core::reach(config)?, head, json),
    }
}

/// Prints the newest rows; returns the number of the last.
fn tail(core: &mut Core<'_>, limit: u32, json: bool) -> Result<u64, CommandError> {
    let newest = page(core, &AdminRequest::AuditNewest { limit: limit.min(PAGE) })?;
    if limit <= PAGE {
        return print_rows(&newest, 0, json);
    }
    let last = newest.rows.last().map_or(0, |row| row.seq);
    print_after(core, last.saturating_sub(limit.into()), json)
}

/// Prints all rows after one; returns the number of the last.
fn print_after(core: &mut Core<'_>, mut seq: u64, json: bool) -> Result<u64, CommandError> {
    loop {
        let page = page(core, &AdminRequest::AuditAfter { seq })?;
        if page.rows.is_empty() {
            return Ok(seq);
        }
        seq = print_rows(&page, seq, json)?;
    }
}

/// Prints new rows until interrupted. Each look reaches anew, so that a server can start and stop
/// meanwhile.
fn follow_from(config: &Config, mut last: u64, json: bool) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let interrupted = serve::interrupted()?;
        tokio::pin!(interrupted);
        loop {
            tokio::select! {
                () = &mut interrupted => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            last = print_after(&mut Core::reach(config)?, last, json)?;
        }
    })
}

fn page(core: &mut Core<'_>, request: &AdminRequest) -> Result<Page, CommandError> {
    let AdminAnswer::Audit(page) = core.ask(request)? else { return Err(CommandError::NoAnswer) };
    Ok(page)
}

fn print_rows(page: &Page, before: u64, json: bool) -> Result<u64, CommandError> {
    for row in &page.rows {
        if json { print_json(&Line::from(row))? } else { print_line(&to_text(row))? }
    }
    Ok(page.rows.last().map_or(before, |row| row.seq))
}

/// A row as programs read it.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    at: String,
    event: &'a str,
    account: Option<&'a str>,
    source: Option<&'a str>,
    reason: Option<&'a str>,
    hash: &'a str,
}

impl<'a> From<&'a Row> for Line<'a> {
    fn from(row: &'a Row) -> Self {
        Self {
            seq: row.seq,
            at: row.at.to_string(),
            event: &row.event,
            account: row.account.as_deref(),
            source: row.source.as_deref(),
            reason: row.reason.as_deref(),
            hash: &row.hash,
        }
    }
}

/// What somebody wrote into the table by hand does not steer a terminal.
fn to_text(row: &Row) -> String {
    let Row { seq, at, event, account, source, reason, .. } = row;
    let field = |name: &str, value: &Option<String>| {
        value.as_deref().map(|value| format!(" {name}={}", Visible(value))).unwrap_or_default()
    };
    let (account, source) = (field("account", account), field("source", source));
    format!("{seq:>6} {at} {}{account}{source}{}", Visible(event), field("reason", reason))
}

fn verify(core: &mut Core<'_>, claim: Option<Claim>, json: bool) -> Result<(), CommandError> {
    let mut chain = Chain::new(claim);
    let head = loop {
        let page = page(core, &AdminRequest::AuditAfter { seq: chain.last_seq() })?;
        for row in &page.rows {
            chain.feed(row)?;
        }
        if page.rows.is_empty() {
            break page.head;
        }
    };
    let verified = chain.finish(head)?;
    if json {
        return print_json(&json!({ "ok": true, "rows": verified.rows, "head": verified.head }));
    }
    let Head { seq, hash } = verified.head;
    print_line(&format!("sound: {} rows, head {seq}:{hash}", verified.rows))
}
