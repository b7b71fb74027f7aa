//! E-mail addresses and their domains, each in one spelling.
//!
//! An address is a mailbox of RFC 5321 §4.1.2 in printable ASCII, without what a mail program
//! allows around one (RFC 5322's comments, names and angle brackets) and without address literals.
//! Its domain is written in ASCII and in lower case, by UTS #46, so that two domains are the same
//! if and only if their texts are: a look-alike in another script has another text.

use std::fmt;
use std::str::FromStr;

use email_address::EmailAddress;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An address has at most this many bytes: a path of RFC 5321 §4.5.3.1.3 without its brackets.
const MAX_ADDRESS: usize = 254;

/// What is before the `@` has at most this many bytes (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL: usize = 64;

/// An e-mail address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// A dot-string, or a quoted string with no more quoting than it needs.
    local: String,
    domain: Domain,
}

/// The part of an address after its `@`: a host name of two labels or more, in lower case.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

/// The domains whose addresses may register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AllowedDomains {
    /// All of them.
    Every,
    /// These, and no others: not what is below them either.
    Only(Vec<Domain>),
}

/// A text is no address that mail is sent to. The text says why.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AddressError {
    /// A line break, a NUL or another character that is not seen.
    #[error("it has a control character in it")]
    Control,
    /// What is after the last `@` is no domain.
    #[error("{0}")]
    Domain(#[from] DomainError),
    /// What is before the `@` is no dot-string and no quoted string (RFC 5321 §4.1.2).
    #[error("what stands before the @ is no mailbox; it takes no comments, names or brackets")]
    Local,
    /// There is no `@`.
    #[error("it has no @")]
    NoAt,
    /// What is before the `@` has letters beyond ASCII (RFC 6531), which few servers deliver.
    #[error("what stands before the @ has letters beyond ASCII; give an address without")]
    NonAscii,
    /// What is before the `@` can be read as a way to another host.
    #[error("what stands before the @ may have none of % ! @ : in it")]
    Routed,
    /// It is longer than an address may be.
    #[error("it is too long: at most 64 characters before the @, and 254 in all")]
    TooLong,
}

/// A text is no domain that mail is sent to.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("what stands after the @ is no domain such as mail.example")]
pub struct DomainError;

impl Address {
    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The address as it is counted. Few hosts know `Bob` from `bob`, and those who do give one
    /// person both.
    pub fn folded(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A domain's ASCII form may be longer or shorter than what was typed, but not by that much.
        if text.len() > 4 * MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(AddressError::Control);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoAt)?;
        let address = Self { local: parse_local(local)?, domain: domain.parse()? };
        if address.local.len() + 1 + address.domain.0.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        Ok(address)
    }
}

/// What goes on the wire, and is read again as the same address.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// Checks what is before the `@`, and writes it in its one spelling.
fn parse_local(local: &str) -> Result<String, AddressError> {
    if !local.is_ascii() {
        return Err(AddressError::NonAscii);
    }
    if local.len() > MAX_LOCAL {
        return Err(AddressError::TooLong);
    }
    if !EmailAddress::is_valid_local_part(local) {
        return Err(AddressError::Local);
    }
    let quoted = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let local = quoted.map_or_else(|| local.to_owned(), canonical);
    // Postfix and others read `a%evil.example@host` as an order to pass the mail on.
    if local.contains(['%', '!', '@', ':']) { Err(AddressError::Routed) } else { Ok(local) }
}

/// A quoted string with no more quoting than it needs (RFC 5321 §4.1.2: `"Joe"` is `Joe`).
fn canonical(quoted: &str) -> String {
    let (mut plain, mut minimal) = (String::new(), String::new());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        let meant = if c == '\\' { chars.next().unwrap_or(c) } else { c };
        plain.push(meant);
        if matches!(meant, '\\' | '"') {
            minimal.push('\\');
        }
        minimal.push(meant);
    }
    let needless = !plain.starts_with('"') && EmailAddress::is_valid_local_part(&plain);
    if needless { plain } else { format!("\"{minimal}\"") }
}

impl Domain {
    /// The domain's text: printable ASCII in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (deny, hyphens) = (AsciiDenyList::STD3, Hyphens::Check);
        // Empty labels, a trailing dot and what the DNS does not hold are refused.
        let ascii = Uts46::new().to_ascii(text.as_bytes(), deny, hyphens, DnsLength::Verify);
        let domain = ascii.map_err(|_| DomainError)?.into_owned();
        let last = domain.rsplit_once('.').map(|(_, last)| last).ok_or(DomainError)?;
        // `192.0.2.7` is an address without its brackets (RFC 3696 §2).
        let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
        if numeric { Err(DomainError) } else { Ok(Self(domain)) }
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AllowedDomains {
    /// Whether an address of `domain` may register.
    pub fn allow(&self, domain: &Domain) -> bool {
        match self {
            Self::Every => true,
            Self::Only(domains) => domains.contains(domain),
        }
    }
}

/// No domains: every one.
impl From<Vec<Domain>> for AllowedDomains {
    fn from(domains: Vec<Domain>) -> Self {
        if domains.is_empty() { Self::Every } else { Self::Only(domains) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAMPUS: &str = "isb.nu.edu.pk";

    fn campus() -> AllowedDomains {
        AllowedDomains::from(vec![CAMPUS.parse().unwrap()])
    }

    /// What becomes of an address where the campus alone may register.
    fn judged(text: &str) -> Result<String, String> {
        let address = text.parse::<Address>().map_err(|error| error.to_string())?;
        if campus().allow(address.domain()) {
            Ok(address.to_string())
        } else {
            Err("not on the list".to_owned())
        }
    }

    fn parsed(text: &str) -> Result<String, AddressError> {
        text.parse::<Address>().map(|address| address.to_string())
    }

    #[test]
    fn an_address_of_the_domain_is_taken_in_its_one_spelling() {
        for (typed, taken) in [
            ("x@isb.nu.edu.pk", "x@isb.nu.edu.pk"),
            ("x@ISB.NU.EDU.PK", "x@isb.nu.edu.pk"),
            ("First.Last+tag@Isb.Nu.Edu.Pk", "First.Last+tag@isb.nu.edu.pk"),
            ("\"x\"@isb.nu.edu.pk", "x@isb.nu.edu.pk"),
            (r#""a\b"@isb.nu.edu.pk"#, "ab@isb.nu.edu.pk"),
            (r#""a b c"@isb.nu.edu.pk"#, r#""a b c"@isb.nu.edu.pk"#),
            (r#""a\"b\\c"@isb.nu.edu.pk"#, r#""a\"b\\c"@isb.nu.edu.pk"#),
            (r#""\"x\""@isb.nu.edu.pk"#, r#""\"x\""@isb.nu.edu.pk"#),
            (r#""a..b"@isb.nu.edu.pk"#, r#""a..b"@isb.nu.edu.pk"#),
            // Full-width letters are letters of the same domain (UTS #46), not look-alikes.
            ("x@ｉｓｂ.nu.edu.pk", "x@isb.nu.edu.pk"),
        ] {
            assert_eq!(judged(typed).as_deref(), Ok(taken), "{typed}");
        }
    }

    #[test]
    fn the_original_programs_substring_is_no_way_in() {
        for typed in [
            "someone@isb.nu.edu.pk.evil.example",
            "\"a@isb.nu.edu.pk\"@evil.example",
            "someone@evil.example@isb.nu.edu.pk.evil.example",
            "someone@evilisb.nu.edu.pk",
            "someone@sub.isb.nu.edu.pk",
            "someone@nu.edu.pk",
            "isb.nu.edu.pk@evil.example",
            // Cyrillic: U+0455 for s, U+0435 for e, U+0440 for p.
            "x@i\u{455}b.nu.edu.pk",
            "x@isb.nu.\u{435}du.pk",
            "x@isb.nu.edu.\u{440}k",
            // A dot of another script is a dot, and the rest is on no list.
            "x@isb.nu.edu.pk\u{3002}evil.example",
        ] {
            assert!(judged(typed).is_err(), "{typed}");
        }
        let cyrillic: Domain = "i\u{455}b.nu.edu.pk".parse().unwrap();
        assert_eq!(cyrillic.as_str(), "xn--ib-eoc.nu.edu.pk");
    }

    #[test]
    fn nothing_gets_into_a_header_or_a_command() {
        for control in ['\r', '\n', '\0', '\t', '\u{7f}', '\u{85}', '\u{1b}'] {
            for at in 0..=15 {
                let mut text = "x@isb.nu.edu.pk".to_owned();
                text.insert(at, control);
                assert_eq!(parsed(&text), Err(AddressError::Control), "{text:?}");
            }
            let quoted = format!("\"a{control}b\"@isb.nu.edu.pk");
            assert_eq!(parsed(&quoted), Err(AddressError::Control), "{quoted:?}");
        }
        let injection = "x@isb.nu.edu.pk\r\nBcc: all@evil.example";
        assert_eq!(parsed(injection), Err(AddressError::Control));
        assert!(parsed("x@isb.nu.edu.pk\u{2028}Bcc: y@evil.example").is_err());
    }

    #[test]
    fn what_is_around_or_in_place_of_an_address_is_refused() {
        for local in [
            "",
            ".",
            ".x",
            "x.",
            "x..y",
            "x y",
            " x",
            "x ",
            "(comment)x",
            "x(comment)",
            "X <x",
            "<x",
            "x,y",
            "x;y",
            "x:y",
            "x\\y",
            "\"",
            "\"\"",
            "\"x",
            "x\"",
            "\"x\"y",
            "\"a\"b\"",
            "\"a\\\"",
            "x@y",
            "@x",
        ] {
            let text = format!("{local}@isb.nu.edu.pk");
            assert_eq!(parsed(&text), Err(AddressError::Local), "{text}");
        }
        for domain in [
            "",
            ".",
            "isb.nu.edu.pk.",
            ".isb.nu.edu.pk",
            "isb..nu.edu.pk",
            "localhost",
            "[192.0.2.7]",
            "[IPv6:::1]",
            "192.0.2.7",
            "isb.nu.edu.pk>",
            "isb.nu.edu.pk (x)",
            "(x)isb.nu.edu.pk",
            "isb.nu.edu.pk ",
            " isb.nu.edu.pk",
            "-isb.nu.edu.pk",
            "isb-.nu.edu.pk",
            "i_sb.nu.edu.pk",
            "isb.nu.edu.pk/x",
            "xn--a.example",
            "isb%00.pk",
        ] {
            let text = format!("x@{domain}");
            assert_eq!(parsed(&text), Err(DomainError.into()), "{text}");
        }
        assert_eq!(parsed("isb.nu.edu.pk"), Err(AddressError::NoAt));
        assert_eq!(parsed(""), Err(AddressError::NoAt));
        assert_eq!(parsed("ж@isb.nu.edu.pk"), Err(AddressError::NonAscii));
        assert_eq!(parsed("\"ж\"@isb.nu.edu.pk"), Err(AddressError::NonAscii));
    }

    #[test]
    fn no_local_part_leads_on_to_another_host() {
        for local in ["a%evil.example", "evil.example!a", "\"a@evil.example\"", "\"@x:a\""] {
            let text = format!("{local}@isb.nu.edu.pk");
            assert_eq!(parsed(&text), Err(AddressError::Routed), "{text}");
        }
        assert_eq!(parsed("a.b+c@isb.nu.edu.pk"), Ok("a.b+c@isb.nu.edu.pk".to_owned()));
    }

    #[test]
    fn lengths_are_bounded() {
        let address = |local: usize, label: usize| {
            let label = "d".repeat(label);
            format!("{}@{label}.{label}.{label}.example", "l".repeat(local))
        };
        assert!(parsed(&address(64, 59)).is_ok());
        assert_eq!(address(64, 60).len(), 255);
        assert_eq!(parsed(&address(64, 60)), Err(AddressError::TooLong));
        assert_eq!(parsed(&address(65, 1)), Err(AddressError::TooLong));
        assert_eq!(parsed(&address(1, 64)), Err(DomainError.into()));
        assert_eq!(parsed(&"x".repeat(100_000)), Err(AddressError::TooLong));
    }

    #[test]
    fn no_domains_are_all_domains_and_case_does_not_count() {
        let address: Address = "Bob@Anywhere.Example".parse().unwrap();
        assert!(AllowedDomains::from(vec![]).allow(address.domain()));
        assert!(!campus().allow(address.domain()));
        assert_eq!(address.folded(), "bob@anywhere.example");
        let list = AllowedDomains::from(vec!["Bücher.example".parse().unwrap()]);
        let address: Address = "x@xn--bcher-kva.example".parse().unwrap();
        assert!(list.allow(address.domain()));
        assert!(serde_json::from_str::<Domain>("\"not a domain\"").is_err());
    }

    proptest! {
        /// Near misses of addresses, of all the characters that matter.
        #[test]
        fn what_is_taken_is_one_line_of_an_allowed_domain(
            local in "[a-z\"\\\\@.()<> \r\n\0é]{0,12}",
            domain in "(isb\\.nu\\.edu\\.pk|ISB\\.nu\\.edu\\.pk|[a-zі.\\[\\]<>@\r\n -]{0,12})",
        ) {
            if let Ok(address) = format!("{local}@{domain}").parse::<Address>() {
                let text = address.to_string();
                prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                prop_assert!(text.len() <= MAX_ADDRESS);
                let after = text.rsplit_once('@').unwrap().1;
                prop_assert_eq!(campus().allow(address.domain()), after == CAMPUS);
                prop_assert_eq!(text.parse::<Address>().unwrap(), address);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,80}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert!(address.to_string().is_ascii());
            }
        }
    }
}
