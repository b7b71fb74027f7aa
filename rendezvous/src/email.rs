//! Registration by e-mail: whose address may register, the code that is mailed to it, and the mail.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `address.rs` | addresses and domains, each in one spelling |
//! | `code.rs` | the code, and what is kept of it |
//! | `template.rs` | the text of the mail |

mod address;
mod code;
mod template;

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

pub use self::address::{Address, AddressError, AllowedDomains, Domain, DomainError};
pub use self::code::{EmailCode, EmailCodeHash};
pub use self::template::{Filled, Template, TemplateError};

/// The subject of every mail. Nothing in it comes from whoever asked for the mail.
pub const SUBJECT: &str = "Your code for Parlor";

/// What the core needs to know to let newcomers in by e-mail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EmailPolicy {
    /// Whose addresses may register.
    pub domains: AllowedDomains,
    /// The text of the mail.
    pub template: Template,
    /// What the mail calls this server.
    pub server: String,
}

/// A mail did not leave. Why is in the driver's log.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the mail could not be sent")]
pub struct NotSent;

/// A mail with a code.
#[derive(Clone, Eq, PartialEq)]
pub struct Mail {
    /// To whom.
    pub to: Address,
    /// Plain text; the code is its first line.
    pub body: Zeroizing<String>,
}

/// There is a code in the body.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, body: _ } = self;
        f.debug_struct("Mail").field("to", to).finish_non_exhaustive()
    }
}
