//! What a contact request, or the answer to one, says of its sender: name, account key and
//! devices, signed by one of them for one recipient.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device_list::{DeviceListError, SignedDeviceList, VerifiedDeviceList};
use crate::encoding::Fields;
use crate::id::Username;
use crate::identity::{AccountKey, BadSignature, DeviceKey, DeviceSecret, Label, Signature};
use crate::time::Timestamp;

/// A card as it travels: unchecked until [`Card::verify`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Card {
    from: Username,
    to: Username,
    at: Timestamp,
    devices: SignedDeviceList,
    signer: DeviceKey,
    signature: Signature,
}

/// Why a card was refused.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CardError {
    /// Its signature does not hold.
    #[error("the card's signature does not hold")]
    BadSignature,
    /// Its device list was refused.
    #[error("the card's device list was refused: {0}")]
    DeviceList(#[from] DeviceListError),
    /// It was signed by a device that is not on the list.
    #[error("the card was signed by a device that is not on its list")]
    UnknownDevice,
    /// It is from or to somebody else.
    #[error("the card is from or to somebody else")]
    WrongParty,
}

impl From<BadSignature> for CardError {
    fn from(_: BadSignature) -> Self {
        Self::BadSignature
    }
}

impl Card {
    /// Makes the card that `device`, of the account with `devices`, shows to `to`.
    pub fn sign(
        devices: &VerifiedDeviceList,
        to: Username,
        at: Timestamp,
        device: &DeviceSecret,
    ) -> Self {
        let from = devices.list().name.clone();
        let fields = fields(&from, &to, at, devices);
        let signature = device.sign(Label::Card, &fields);
        let signer = device.public();
        Self { from, to, at, devices: devices.signed().clone(), signer, signature }
    }

    /// The account key that the card claims, to be compared or trusted on first use.
    pub fn claimed_account_key(&self) -> AccountKey {
        self.devices.claimed_account_key()
    }

    /// Checks that `from` shows the card to `to` under `account_key`, and returns the devices.
    pub fn verify(
        self,
        from: &Username,
        to: &Username,
        account_key: &AccountKey,
    ) -> Result<VerifiedDeviceList, CardError> {
        if self.from != *from || self.to != *to {
            return Err(CardError::WrongParty);
        }
        let devices = self.devices.verify(from, account_key)?;
        if devices.device(&self.signer).is_none() {
            return Err(CardError::UnknownDevice);
        }
        let fields = fields(from, to, self.at, &devices);
        self.signer.verify(Label::Card, &fields, &self.signature)?;
        Ok(devices)
    }
}

fn fields(from: &Username, to: &Username, at: Timestamp, devices: &VerifiedDeviceList) -> Fields {
    let fields = Fields::new().field(from.as_str()).field(to.as_str()).number(at.as_millis());
    fields.field(devices.list().hash().0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_list::{DeviceEntry, DeviceList};
    use crate::identity::AccountSecret;
    use crate::prekey::DhPublicBytes;

    fn devices(secret: &DeviceSecret) -> VerifiedDeviceList {
        let account = AccountSecret::from_seed(&[7; 32]);
        let dh = DhPublicBytes(Box::new([1; 384]));
        let entry = DeviceEntry::new(secret.public(), dh, Timestamp::default());
        let name: Username = "alice".parse().unwrap();
        let list = DeviceList::first(name.clone(), account.public(), entry, Timestamp::default());
        list.sign(&account, None).verify(&name, &account.public()).unwrap()
    }

    #[test]
    fn a_card_is_for_one_recipient_and_from_a_listed_device() {
        let secret = DeviceSecret::from_seed(&[1; 32]);
        let devices = devices(&secret);
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse::<Username>().unwrap());
        let card = Card::sign(&devices, bob.clone(), Timestamp::from_millis(3), &secret);
        let key = card.claimed_account_key();
        assert_eq!(card.clone().verify(&alice, &bob, &key), Ok(devices.clone()));

        let carol = "carol".parse().unwrap();
        assert_eq!(card.clone().verify(&alice, &carol, &key), Err(CardError::WrongParty));
        let mut redated = card;
        redated.at = Timestamp::from_millis(4);
        assert_eq!(redated.verify(&alice, &bob, &key), Err(CardError::BadSignature));

        let ghost = DeviceSecret::from_seed(&[2; 32]);
        let card = Card::sign(&devices, bob.clone(), Timestamp::from_millis(3), &ghost);
        assert_eq!(card.verify(&alice, &bob, &key), Err(CardError::UnknownDevice));
    }
}
