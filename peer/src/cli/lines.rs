//! Lines of input, each bounded before it is kept.

use std::io::{self, BufRead};

/// What was read as a line.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Line {
    /// A line without its end.
    Text(String),
    /// It was longer than what is taken, and was skipped.
    TooLong,
    /// It was not UTF-8.
    NotUtf8,
}

/// Reads the next line, of at most `limit` bytes; `None` at the end of the input.
pub(super) fn read_line(input: &mut impl BufRead, limit: usize) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            if bytes.is_empty() && !too_long {
                return Ok(None);
            }
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(buffer.len());
        too_long |= bytes.len() + taken > limit;
        if !too_long {
            bytes.extend(buffer.iter().take(taken));
        }
        input.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            break;
        }
    }
    if too_long {
        return Ok(Some(Line::TooLong));
    }
    Ok(Some(String::from_utf8(bytes).map_or(Line::NotUtf8, Line::Text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_bad_ones_skipped() {
        let text = |text: &str| Some(Line::Text(text.to_owned()));
        let mut input = &b"one\n\nlonger\ntwo"[..];
        let mut next = || read_line(&mut input, 3).unwrap();
        assert_eq!(next(), text("one"));
        assert_eq!(next(), text(""));
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), text("two"));
        assert_eq!(next(), None);
        let mut input = &b"\xff\nok\n"[..];
        assert_eq!(read_line(&mut input, 3).unwrap(), Some(Line::NotUtf8));
        assert_eq!(read_line(&mut input, 3).unwrap(), text("ok"));
    }
}
