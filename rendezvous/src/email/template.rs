//! The text of the mail that brings a code.
//!
//! A template is the mail's text with placeholders in it: `{code}`, `{name}` (the wanted name) and
//! `{server}`. Its first line is `{code}` and nothing else, so that people and programs find the
//! code in the same place in every mail.

use std::str::FromStr;

use parlor_common::id::Username;
use thiserror::Error;
use zeroize::Zeroizing;

use super::EmailCode;

/// A template has at most this many bytes.
const MAX_TEMPLATE: usize = 16 * 1024;

/// The text where none is configured.
const DEFAULT: &str = "\
{code}

Somebody, hopefully you, wants to register as {name} at {server}.
If that is you, give this code to Parlor. It is good for a few minutes, and once.

If it is not you, there is nothing to do: without the code nobody registers with your address.
";

/// The text of a mail, with its placeholders.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Text(String),
    Code,
    Name,
    Server,
}

/// What goes in the place of the placeholders.
#[derive(Clone, Copy, Debug)]
pub struct Filled<'a> {
    /// `{code}`.
    pub code: &'a EmailCode,
    /// `{name}`.
    pub name: &'a Username,
    /// `{server}`.
    pub server: &'a str,
}

/// A text is no template.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TemplateError {
    /// It has a character that is not seen.
    #[error("line {line} has a control character")]
    Control {
        /// Counts from 1.
        line: usize,
    },
    /// The code is not alone on its first line.
    #[error("its first line must be {{code}} and nothing else")]
    FirstLine,
    /// It is longer than a mail has to be.
    #[error("it has more than {MAX_TEMPLATE} bytes")]
    TooLong,
    /// A brace opens what is no placeholder.
    #[error("line {line}: {{ begins none of {{code}}, {{name}} and {{server}}")]
    Unknown {
        /// Counts from 1.
        line: usize,
    },
}

impl Template {
    /// The mail's text.
    pub fn fill(&self, filled: Filled<'_>) -> Zeroizing<String> {
        let code = Zeroizing::new(filled.code.expose());
        let mut body = Zeroizing::new(String::new());
        for piece in &self.0 {
            body.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Code => &code,
                Piece::Name => filled.name.as_str(),
                Piece::Server => filled.server,
            });
        }
        body
    }
}

impl Default for Template {
    fn default() -> Self {
        // The tests parse it.
        DEFAULT.parse().unwrap_or_else(|_| Self(vec![Piece::Code]))
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEMPLATE {
            return Err(TemplateError::TooLong);
        }
        let text = text.replace("\r\n", "\n");
        for (line, content) in (1..).zip(text.split('\n')) {
            if content.contains(|c: char| c.is_control() && c != '\t') {
                return Err(TemplateError::Control { line });
            }
        }
        if text.split('\n').next() != Some("{code}") {
            return Err(TemplateError::FirstLine);
        }
        parse(&text).map(Self)
    }
}

fn parse(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        line += before.matches('\n').count();
        let (piece, after) = placeholder(after).ok_or(TemplateError::Unknown { line })?;
        pieces.extend([Piece::Text(before.to_owned()), piece]);
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// The placeholder whose brace was just read, and what follows it.
fn placeholder(after: &str) -> Option<(Piece, &str)> {
    let (name, rest) = after.split_once('}')?;
    let piece = match name {
        "code" => Piece::Code,
        "name" => Piece::Name,
        "server" => Piece::Server,
        _ => return None,
    };
    Some((piece, rest))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn filled(template: &Template) -> String {
        let code = EmailCode::generate(&mut StdRng::from_seed([1; 32]));
        let name = "alice".parse().unwrap();
        let body = template.fill(Filled { code: &code, name: &name, server: "chat.example" });
        body.replace(&code.expose(), "ABCD-EFGH")
    }

    #[test]
    fn the_default_has_the_code_alone_on_its_first_line() {
        let default: Template = DEFAULT.parse().unwrap();
        assert_eq!(Template::default(), default);
        let mail = filled(&default);
        assert!(mail.starts_with("ABCD-EFGH\n\n"), "{mail}");
        assert!(mail.contains("as alice at chat.example"), "{mail}");
        assert!(!mail.contains('{'), "{mail}");
    }

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let template: Template = "{code}\r\n{server}: {name}, {code} }\r\n".parse().unwrap();
        assert_eq!(filled(&template), "ABCD-EFGH\nchat.example: alice, ABCD-EFGH }\n");
        assert_eq!(filled(&"{code}".parse().unwrap()), "ABCD-EFGH");
    }

    #[test]
    fn what_is_no_template_is_refused_with_its_line() {
        let refused = |text: &str| text.parse::<Template>().unwrap_err();
        let unknown = |line| TemplateError::Unknown { line };
        for first in ["", "\n{code}\n", "Your code: {code}\n", "{code} \n", "{name}\n{code}\n"] {
            assert_eq!(refused(first), TemplateError::FirstLine, "{first:?}");
        }
        assert_eq!(refused("{code}\n\n{password}"), unknown(3));
        assert_eq!(refused("{code}\n{name}\n{ name }"), unknown(3));
        assert_eq!(refused("{code}\n{"), unknown(2));
        assert_eq!(refused("{code}\n{co\nde}"), unknown(2));
        assert_eq!(refused("{code}\nx\u{1b}[2J"), TemplateError::Control { line: 2 });
        assert_eq!(refused("{code}\nx\ry"), TemplateError::Control { line: 2 });
        assert_eq!(refused(&"x".repeat(MAX_TEMPLATE + 1)), TemplateError::TooLong);
        assert!(unknown(3).to_string().contains("line 3"));
    }
}
