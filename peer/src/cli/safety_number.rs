//! `parlor safety-number`: what two people compare to know that nobody stands in between.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use parlor_common::id::Username;
use parlor_common::identity::AccountKey;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;

use super::Context;
use super::error::CliError;
use crate::crypto::safety_number::SafetyNumber;
use crate::node::output::IntentError;
use crate::node::record::Identity;

/// Reads only: it works while the rendezvous is away, and while another process has the profile.
pub(super) fn run(context: &Context, contact: &Username) -> Result<ExitCode, CliError> {
    let reader = context.home.open_read_only()?;
    let me = reader.identity()?;
    let known = reader.contacts()?.into_iter().find(|listed| listed.contact.name == *contact);
    let known = known.ok_or_else(|| IntentError::UnknownContact(contact.clone()))?.contact;
    let key = known.account_key.ok_or_else(|| IntentError::NoKey(contact.clone()))?;
    let number = number_with(&me, contact, &key);
    let changed = known.changed_key.map(|key| number_with(&me, contact, &key));

    let mut json = json!({ "safety_number": number.digits() });
    if let (Some(changed), Some(fields)) = (&changed, json.as_object_mut()) {
        fields.insert("changed_safety_number".to_owned(), changed.digits().into());
    }
    context.printer.line(&json, &number.to_string())?;
    if io::stdout().is_terminal()
        && let Ok(code) = QrCode::new(number.digits())
    {
        let picture = code.render::<Dense1x2>().quiet_zone(true).build();
        context.printer.text(&picture)?;
    }
    if let Some(changed) = changed {
        context.printer.note(&format!(
            "this is the number of the key that you trust. {contact}'s account key has changed \
             since; with the new one the number is {}. Ask {contact} in person or by phone which of \
             the two they see: if it is the new one, parlor contact accept {contact}",
            changed.groups().join(" "),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn number_with(me: &Identity, contact: &Username, key: &AccountKey) -> SafetyNumber {
    SafetyNumber::of((&me.name, &me.account_key), (contact, key))
}
