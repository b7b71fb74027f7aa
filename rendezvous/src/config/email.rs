//! `[email]`: how mail leaves, and whose addresses may register.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::SmtpServer;
use crate::email::{Domain, EmailPolicy, Template, TemplateError};

/// How mail leaves, and whose addresses may register.
#[derive(Clone, Debug, PartialEq)]
pub struct Email {
    /// The server that mail is given to.
    pub smtp: SmtpServer,
    /// Who it is from.
    pub from: Sender,
    /// The domains whose addresses may register; none: all of them.
    pub domains: Vec<Domain>,
    /// Where the text of the mail is from; absent: the one that is built in.
    pub template_file: Option<PathBuf>,
    /// The text of the mail.
    pub template: Template,
}

/// Who mail is from: an address, with or without a name, as in `Parlor <parlor@chat.example>`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Sender(pub Mailbox);

/// A text is no sender.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("expected an address, as in parlor@chat.example or Parlor <parlor@chat.example>")]
pub struct ParseSenderError;

/// `[email]` as typed. What is absent is left to the layer below.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// See [`Email::smtp`].
    pub smtp: Option<SmtpServer>,
    /// See [`Email::from`].
    pub from: Option<Sender>,
    /// See [`Email::domains`].
    pub domains: Option<Vec<Domain>>,
    /// See [`Email::template_file`].
    pub template: Option<PathBuf>,
}

/// `[email]` is not as it should be.
#[derive(Debug, Error)]
pub enum EmailError {
    /// A key is not there that must be.
    #[error("[email] lacks {0}, which every mail needs")]
    Lacks(&'static str),
    /// The template cannot be read.
    #[error("[email] template = {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: std::io::Error,
    },
    /// The template is none.
    #[error("[email] template = {}: {error}", .path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        #[source]
        error: TemplateError,
    },
}

impl EmailSettings {
    /// These settings, and `below` where they say nothing.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            smtp: self.smtp.or(below.smtp),
            from: self.from.or(below.from),
            domains: self.domains.or(below.domains),
            template: self.template.or(below.template),
        }
    }

    /// Checks them, and reads the template.
    pub fn into_email(self) -> Result<Email, EmailError> {
        let template = match &self.template {
            Some(path) => read_template(path.clone())?,
            None => Template::default(),
        };
        Ok(Email {
            smtp: self.smtp.ok_or(EmailError::Lacks("smtp"))?,
            from: self.from.ok_or(EmailError::Lacks("from"))?,
            domains: self.domains.unwrap_or_default(),
            template_file: self.template,
            template,
        })
    }
}

fn read_template(path: PathBuf) -> Result<Template, EmailError> {
    match std::fs::read_to_string(&path).map(|text| text.parse()) {
        Ok(Ok(template)) => Ok(template),
        Ok(Err(error)) => Err(EmailError::Template { path, error }),
        Err(error) => Err(EmailError::Read { path, error }),
    }
}

impl Email {
    /// What the core needs to know of it; mails call the server `server`.
    pub fn policy(&self, server: String) -> EmailPolicy {
        let (domains, template) = (self.domains.clone().into(), self.template.clone());
        EmailPolicy { domains, template, server }
    }

    /// As a file would say it, but for the password.
    pub(super) fn to_settings(&self) -> ShownEmail {
        ShownEmail {
            smtp: self.smtp.to_string(),
            from: self.from.to_string(),
            domains: self.domains.clone(),
            template: self.template_file.clone(),
        }
    }
}

/// What is in force, in the words of the file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownEmail {
    smtp: String,
    from: String,
    domains: Vec<Domain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<PathBuf>,
}

impl FromStr for Sender {
    type Err = ParseSenderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(char::is_control) {
            return Err(ParseSenderError);
        }
        text.parse().map(Self).map_err(|_| ParseSenderError)
    }
}

impl TryFrom<String> for Sender {
    type Error = ParseSenderError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_read_from_its_file_or_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mail.txt");
        let settings = || EmailSettings {
            smtp: Some("smtp://localhost".parse().unwrap()),
            from: Some("Parlor <parlor@chat.example>".parse().unwrap()),
            domains: None,
            template: Some(path.clone()),
        };
        let missing = settings().into_email().unwrap_err();
        assert!(missing.to_string().contains("mail.txt"), "{missing}");
        std::fs::write(&path, "{code}\n{cod}\n").unwrap();
        let refused = settings().into_email().unwrap_err();
        assert!(refused.to_string().contains("mail.txt: line 2"), "{refused}");
        std::fs::write(&path, "{code}\nfor {name}\n").unwrap();
        let email = settings().into_email().unwrap();
        assert_eq!(email.template, "{code}\nfor {name}\n".parse().unwrap());
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        for text in ["p@chat.example", "Parlor <p@chat.example>"] {
            assert_eq!(text.parse::<Sender>().unwrap().to_string(), text);
        }
        for text in ["", "Parlor", "p@", "p@chat.example\r\nBcc: x@y.example"] {
            assert_eq!(text.parse::<Sender>(), Err(ParseSenderError), "{text:?}");
        }
    }
}
