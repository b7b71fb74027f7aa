//! Device lists, safety numbers, prekeys: what is signed.

use parlor_common::Fields;
use parlor_common::device_list::{DeviceEntry, DeviceList, SignedDeviceList};
use parlor_common::id::Username;
use parlor_common::identity::{AccountKey, AccountSecret, DeviceSecret};
use parlor_common::prekey::PrekeyUse;
use parlor_common::time::Timestamp;
use serde_json::{Value, json};

use super::{Script, hex};
use crate::crypto::group::KeyPair;
use crate::crypto::prekey::LocalPrekeys;
use crate::crypto::safety_number::SafetyNumber;

const AT: Timestamp = Timestamp::from_millis(1_764_000_000_000);

/// A device with its seed.
struct Device {
    seed: [u8; 32],
    secret: DeviceSecret,
    entry: DeviceEntry,
}

impl Device {
    fn new(script: &mut Script) -> Self {
        let seed = script.bytes();
        let secret = DeviceSecret::from_seed(&seed);
        let dh = KeyPair::generate(script).public().to_bytes();
        let entry = DeviceEntry::new(secret.public(), dh, AT);
        Self { seed, secret, entry }
    }
}

pub(super) fn device_lists() -> Value {
    let mut script = Script::new(4);
    let seed = script.bytes();
    let account = AccountSecret::from_seed(&seed);
    let (one, two) = (Device::new(&mut script), Device::new(&mut script));
    let Ok(name) = "alice".parse() else { return Value::Null };
    let first = DeviceList::first(name, account.public(), one.entry.clone(), AT);
    let mut second = DeviceList { version: 2, previous: Some(first.hash()), ..first.clone() };
    second.devices.push(two.entry.clone());
    let cosigned = second.clone().sign(&account, Some(&one.secret));
    let foreign = second.clone().sign(&AccountSecret::from_seed(&[1; 32]), None);
    let unchained = DeviceList { previous: None, ..second.clone() };
    let twice = DeviceList { devices: vec![one.entry.clone(), one.entry.clone()], ..first.clone() };
    let lists = [
        case(&first, &first.clone().sign(&account, None), &[&one], None, true, "the first"),
        case(&second, &second.clone().sign(&account, None), &[&one, &two], None, true, "a second"),
        case(&second, &cosigned, &[&one, &two], Some(&one), true, "co-signed by the first device"),
        case(&second, &foreign, &[], None, false, "signed by another account"),
        case(&unchained, &unchained.clone().sign(&account, None), &[], None, false, "unchained"),
        case(&twice, &twice.clone().sign(&account, None), &[], None, false, "a device twice"),
    ];
    json!({ "account_seed": hex(seed), "lists": lists, "safety_numbers": safety_numbers() })
}

fn case(
    list: &DeviceList,
    signed: &SignedDeviceList,
    devices: &[&Device],
    cosigner: Option<&Device>,
    valid: bool,
    note: &str,
) -> Value {
    let seeds: Vec<_> = devices.iter().map(|device| hex(device.seed)).collect();
    json!({
        "note": note,
        "json": serde_json::to_string(signed).unwrap_or_default(),
        "signed_bytes": hex(signed_fields(list).as_bytes()),
        "hash": hex(list.hash().0),
        "device_seeds": seeds,
        "cosigner_seed": cosigner.map(|device| hex(device.seed)),
        "valid": valid,
    })
}

/// What the account's key signs, written down a second time: the vectors say so, and the signature
/// in the same vector shows it.
fn signed_fields(list: &DeviceList) -> Fields {
    let fields = Fields::new()
        .field("parlor/v1/device-list")
        .field(list.account_key.as_bytes())
        .field(list.name.as_str())
        .field(list.account_key.as_bytes())
        .number(list.version)
        .optional(list.previous.map(|hash| hash.0))
        .number(list.at.as_millis());
    let devices = list.devices.iter();
    devices.fold(fields, |fields, device| fields.field(device.fields().as_bytes()))
}

/// Two pairs of accounts.
fn safety_numbers() -> Vec<Value> {
    let key = |byte| AccountSecret::from_seed(&[byte; 32]).public();
    let pairs = [(("alice", key(1)), ("bob", key(2))), (("carol", key(3)), ("al.ice-9", key(4)))];
    pairs.into_iter().filter_map(|(one, other)| safety_number(one, other)).collect()
}

fn safety_number(one: (&str, AccountKey), other: (&str, AccountKey)) -> Option<Value> {
    let party = |(name, key): (&str, AccountKey)| json!({ "name": name, "account_key": hex(key.as_bytes()) });
    let (one_name, other_name): (Username, Username) = (one.0.parse().ok()?, other.0.parse().ok()?);
    let number = SafetyNumber::of((&one_name, &one.1), (&other_name, &other.1));
    Some(json!({ "one": party(one), "other": party(other), "digits": number.digits() }))
}

pub(super) fn prekeys() -> Value {
    let mut script = Script::new(5);
    let seed = script.bytes();
    let device = DeviceSecret::from_seed(&seed);
    let uses = [(PrekeyUse::Signed, "signed", 7), (PrekeyUse::OneTime, "one-time", u32::MAX)];
    let pairs = uses.map(|(used, word, id)| {
        let pair = LocalPrekeys::generate(id, used, AT, &mut script);
        json!({
            "id": id,
            "made_at": AT.as_millis(),
            "use": word,
            "dh_secret": hex(pair.dh.expose_bytes()),
            "kem_seed": hex(pair.kem.expose_bytes()),
            "json": serde_json::to_string(&pair.sign(&device)).unwrap_or_default(),
        })
    });
    json!({ "device_seed": hex(seed), "pairs": pairs })
}
