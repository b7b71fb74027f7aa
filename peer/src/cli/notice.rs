//! What is told of the account, of keys and of devices: what happened, what it may mean, and what to do.

use parlor_common::wire::rendezvous::AccountChange;
use serde_json::{Value, json};

use crate::node::output::{DeviceTrust, Event, ListFault};
use crate::node::record::Contact;

/// An event about keys, devices and mailboxes, as JSON and as text; `None` for every other.
pub(super) fn render(event: &Event) -> Option<(Value, String)> {
    let rendered = match event {
        Event::AccountChanged(change) => {
            let json = json!({ "event": "account_changed", "change": change });
            (json, account_changed(*change).to_owned())
        }
        Event::IdentityChanged { contact } => (
            json!({ "event": "identity_changed", "contact": contact }),
            key_changed(contact.as_str()),
        ),
        Event::BundleRefused { contact, error } => {
            let reason = error.to_string();
            let json = json!({ "event": "bundle_refused", "contact": contact, "reason": reason });
            let text = format!(
                "keys that were served for {contact} were refused, and no session was started with \
                 them: {error}"
            );
            (json, text)
        }
        Event::ContactDevices { contact, trust } => {
            let json = json!({ "event": "device_added", "contact": contact, "trust": trust });
            (json, contact_devices(contact.as_str(), *trust))
        }
        Event::ListFault { of, fault, by } => {
            let json = json!({ "event": "device_list", "of": of, "fault": fault, "by": by });
            let by = by.as_ref().map(parlor_common::id::Username::as_str);
            (json, list_fault(of.as_str(), *fault, by))
        }
        Event::MailboxFull { contact } => {
            let json = json!({ "event": "mailbox_full", "contact": contact });
            let text = format!(
                "{contact}'s mailbox at the rendezvous is full; what you wrote waits here, and goes \
                 when there is room again or you are both online"
            );
            (json, text)
        }
        Event::NewDevice { device, signed } => {
            let json = json!({ "event": "new_device", "device": device, "signed": signed });
            let text = if *signed {
                format!(
                    "an earlier device of yours has signed for your newest one, {device}, which \
                     receives now"
                )
            } else {
                format!(
                    "your account was opened on a new device, {device}, with the password alone; \
                     it receives now. If that was you, confirm it from here: parlor devices \
                     confirm. If not, somebody knows your password"
                )
            };
            (json, text)
        }
        _ => return None,
    };
    Some(rendered)
}

const fn account_changed(change: AccountChange) -> &'static str {
    match change {
        AccountChange::Password => {
            "your account has a new password. If you did not change it, somebody knows the old one: \
             log in with your recovery code, and look at parlor devices"
        }
        AccountChange::Recovered => {
            "somebody came in with your account's recovery code and may have set a new password. If \
             that was not you, they have the code: ask whoever runs the rendezvous to disable the \
             account"
        }
        AccountChange::Rekeyed => {
            "your account has a new key, made on another device; this one belongs to it no more. To \
             use the account here, log in again with another --home"
        }
        AccountChange::DeviceRemoved => {
            "this device was removed from your account by another one. The history stays readable \
             here; nothing can be sent"
        }
        AccountChange::Deleted => {
            "your account was deleted. The history stays readable here; nothing can be sent"
        }
        AccountChange::Disabled => {
            "your account was disabled by who runs the rendezvous: ask them. The history stays \
             readable here; nothing can be sent"
        }
        AccountChange::Unknown => "your account was changed",
    }
}

/// What keeps messages from a contact, or from its newest device, if anything does.
pub(super) fn standing(contact: &Contact) -> Option<String> {
    let name = contact.name.as_str();
    if contact.changed_key.is_some() {
        return Some(key_changed(name));
    }
    let held = contact.verified && !contact.unsigned.is_empty();
    held.then(|| contact_devices(name, DeviceTrust::Held))
}

fn key_changed(name: &str) -> String {
    format!(
        "{name}'s account key has changed: {name} has made a new one, or somebody stands in between. \
         Nothing is sent until you decide, and what was written for the old key is never sent to \
         the new one. Compare safety numbers with {name} (parlor safety-number {name}); if they \
         agree: parlor contact accept {name}"
    )
}

fn contact_devices(name: &str, trust: DeviceTrust) -> String {
    match trust {
        DeviceTrust::Signed => {
            format!("an earlier device of {name} has signed for the new one, which receives now")
        }
        DeviceTrust::Unsigned => format!(
            "{name}'s devices have changed by password alone: no earlier device has signed that. The \
             newest one receives now. If {name} knows of no new device, somebody knows {name}'s \
             password"
        ),
        DeviceTrust::Held => format!(
            "{name} has a new device that was added by password alone. {name} is verified, so \
             nothing is sent to it, and earlier devices go on receiving, until one of those signs \
             for it (parlor devices confirm) or you accept it: ask {name}, then parlor contact \
             accept {name}"
        ),
    }
}

fn list_fault(of: &str, fault: ListFault, by: Option<&str>) -> String {
    let by = by.unwrap_or("the rendezvous");
    let what = match fault {
        ListFault::Forked => {
            format!("{by} has another list of {of}'s devices than the one that is known here")
        }
        ListFault::NotShown => format!("{by} has not been shown the newest list of {of}'s devices"),
        ListFault::RolledBack => format!("{by} shows an older list of {of}'s devices than before"),
        ListFault::Unsound => {
            format!("{by} shows a list of {of}'s devices that {of}'s account key did not sign")
        }
        ListFault::Withheld => format!("{by} keeps back the newest list of {of}'s devices"),
    };
    format!(
        "{what}; the known one stays in force. A rendezvous that was restored from a backup does \
         that, or one that deceives: ask whoever runs it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_keys_and_devices_stand_in_json_as_documented() {
        let bob = || "bob".parse().unwrap();
        let line = |event: &Event| render(event).unwrap().0.to_string();
        let changed = Event::IdentityChanged { contact: bob() };
        assert_eq!(line(&changed), r#"{"contact":"bob","event":"identity_changed"}"#);
        let held = Event::ContactDevices { contact: bob(), trust: DeviceTrust::Held };
        assert_eq!(line(&held), r#"{"contact":"bob","event":"device_added","trust":"held"}"#);
        let rekeyed = Event::AccountChanged(AccountChange::DeviceRemoved);
        let json = r#"{"change":"device_removed","event":"account_changed"}"#;
        assert_eq!(line(&rekeyed), json);
        let fault = ListFault::RolledBack;
        let fault = Event::ListFault { of: bob(), fault, by: None };
        let json = r#"{"by":null,"event":"device_list","fault":"rolled_back","of":"bob"}"#;
        assert_eq!(line(&fault), json);
        assert_eq!(render(&Event::Online), None);
    }
}
