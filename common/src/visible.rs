//! Text from others, made harmless: what steers a terminal or reorders a line becomes a mark that
//! can be seen.

use std::fmt;

/// Shows text on one line of a terminal or a log.
///
/// Control characters appear as Unicode's pictures of them (`␛` for escape), other characters
/// that are invisible or change the direction of the text as `<U+202E>`.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(pub &'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '\0'..='\x1f' => f.write_char(picture(c, 0x2400))?,
                '\x7f' => f.write_char('\u{2421}')?,
                _ if is_hostile(c) => write!(f, "<U+{:04X}>", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn picture(control: char, base: u32) -> char {
    char::from_u32(base + u32::from(control)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// C1 controls, line and paragraph separators, bidirectional controls (UAX #9) and invisible
/// format characters. The joiners U+200C and U+200D stay: scripts and emoji need them.
const fn is_hostile(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Visible(text).to_string()
    }

    #[test]
    fn escape_sequences_are_shown_not_obeyed() {
        assert_eq!(shown("\x1b[2Jhi"), "␛[2Jhi");
        assert_eq!(shown("a\r\nb\tc\x7f"), "a␍␊b␉c␡");
        assert_eq!(shown("\u{9b}31m"), "<U+009B>31m");
    }

    #[test]
    fn bidirectional_and_invisible_marks_are_shown() {
        assert_eq!(shown("\u{202e}evil"), "<U+202E>evil");
        assert_eq!(shown("a\u{2066}b\u{200b}"), "a<U+2066>b<U+200B>");
    }

    #[test]
    fn honest_text_stays_as_it_is() {
        for text in ["héllo wörld", "שלום", "مرحبا", "👩‍👩‍👧", "日本語"] {
            assert_eq!(shown(text), text);
        }
    }
}
