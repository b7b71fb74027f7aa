//! Values as columns and back. A column that does not hold what it should is an error, never a
//! panic: the file may be damaged.

use std::error::Error;
use std::str::FromStr;

use parlor_common::identity::{AccountKey, DeviceSecret};
use parlor_common::time::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::crypto::group::{KeyPair, Secret};
use crate::node::record::{Carrier, ContactState, Direction, FailReason, MessageState, Policy};

/// Stores an enum as the numbers given.
macro_rules! stored_as_number {
    ($type:ty { $($variant:ident = $number:literal),+ $(,)? }) => {
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let number: i64 = match self { $(Self::$variant => $number),+ };
                Ok(number.into())
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_i64()? {
                    $($number => Ok(Self::$variant),)+
                    other => Err(FromSqlError::OutOfRange(other)),
                }
            }
        }
    };
}

stored_as_number!(Carrier { Direct = 1, Mailbox = 2 });
stored_as_number!(ContactState { Asked = 1, Asking = 2, Mutual = 3, Blocked = 4 });
stored_as_number!(Direction { In = 0, Out = 1 });
stored_as_number!(FailReason {
    ContactBlocked = 1,
    ContactRemoved = 2,
    KeyChanged = 3,
    OwnKeyChanged = 4
});
stored_as_number!(Policy { Direct = 1 });
// In the order in which a message goes through them. `Failed` comes before `Delivered`: what was
// given up and is acknowledged after all was delivered.
stored_as_number!(MessageState { Queued = 1, Sent = 2, Failed = 3, Delivered = 4, Read = 5 });

/// A value that is stored as its text form.
pub(super) struct Text<T>(pub(super) T);

impl<T: FromStr<Err: Error + Send + Sync + 'static>> FromSql for Text<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(FromSqlError::other)
    }
}

/// A value that is stored as JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0);
        text.map(ToSqlOutput::from).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

/// A time, in ms. A stranger's can be any 64 bits, and all of them come back.
pub(super) struct Millis(pub(super) Timestamp);

impl ToSql for Millis {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_millis().cast_signed().into())
    }
}

impl FromSql for Millis {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(Timestamp::from_millis(value.as_i64()?.cast_unsigned())))
    }
}

/// An account key.
pub(super) struct Key(pub(super) AccountKey);

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(|bytes| Self(AccountKey::from_bytes(bytes)))
    }
}

/// Secret bytes: the copy here is erased when it is dropped.
pub(super) struct SecretBytes(pub(super) Zeroizing<Vec<u8>>);

impl FromSql for SecretBytes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(Zeroizing::new(value.as_blob()?.to_vec())))
    }
}

/// A device key, stored as its seed.
pub(super) struct DeviceSeed(pub(super) DeviceSecret);

impl FromSql for DeviceSeed {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let seed = Zeroizing::new(<[u8; 32]>::column_result(value)?);
        Ok(Self(DeviceSecret::from_seed(&seed)))
    }
}

/// A pair for Diffie–Hellman, stored as its secret half.
pub(super) struct DhSecret(pub(super) KeyPair);

impl FromSql for DhSecret {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = Zeroizing::new(<[u8; Secret::LEN]>::column_result(value)?);
        let secret = Secret::from_bytes(&bytes).ok_or(FromSqlError::InvalidType)?;
        Ok(Self(KeyPair::of(secret)))
    }
}
