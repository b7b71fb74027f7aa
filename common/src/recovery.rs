//! The way into an account without its password: whoever opens the recovery box holds the account
//! key, and proves that by a signature that is good on one connection only.

use crate::encoding::Fields;
use crate::id::Username;
use crate::identity::{AccountKey, AccountSecret, BadSignature, Label, Signature};

/// Signs that the holder of the account key of `name` is at this end of the connection that
/// exports `exporter` (32 bytes, as for a login).
pub fn prove(account: &AccountSecret, name: &Username, exporter: &[u8; 32]) -> Signature {
    account.sign(Label::Recovery, &fields(name, exporter))
}

/// Checks a proof.
pub fn check(
    account: &AccountKey,
    name: &Username,
    exporter: &[u8; 32],
    proof: &Signature,
) -> Result<(), BadSignature> {
    account.verify(Label::Recovery, &fields(name, exporter), proof)
}

fn fields(name: &Username, exporter: &[u8; 32]) -> Fields {
    Fields::new().field(name.as_str()).field(exporter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_name_on_its_connection_only() {
        let (account, other) =
            (AccountSecret::from_seed(&[1; 32]), AccountSecret::from_seed(&[2; 32]));
        let (alice, bob): (Username, Username) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let proof = prove(&account, &alice, &[3; 32]);
        assert!(check(&account.public(), &alice, &[3; 32], &proof).is_ok());
        assert!(check(&account.public(), &alice, &[4; 32], &proof).is_err());
        assert!(check(&account.public(), &bob, &[3; 32], &proof).is_err());
        assert!(check(&other.public(), &alice, &[3; 32], &proof).is_err());
    }
}
