//! Looks for what must not be found: texts and passwords, in any form that somebody might give
//! them by accident.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// Bytes that crossed the network, inside TLS.
#[derive(Default)]
pub struct Wire {
    pieces: Vec<Vec<u8>>,
}

impl Wire {
    /// Remembers what crossed.
    pub fn record(&mut self, bytes: &[u8]) {
        self.pieces.push(bytes.to_vec());
    }

    /// How many bytes crossed.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// Whether a text crossed, in any form.
    pub fn holds(&self, text: &str) -> bool {
        let forms = forms(text.as_bytes());
        self.pieces.iter().any(|piece| forms.iter().any(|form| contains(piece, form)))
    }
}

/// Whether bytes hold a text, in any form: as it is, in hexadecimal, in base64 at any offset, as a
/// list of numbers in JSON or `Debug`.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    forms(text.as_bytes()).iter().any(|form| contains(bytes, form))
}

fn forms(text: &[u8]) -> Vec<Vec<u8>> {
    assert!(text.len() >= 6, "so short a text is found anywhere");
    let numbers = |between: &str| {
        let numbers: Vec<String> = text.iter().map(u8::to_string).collect();
        numbers.join(between).into_bytes()
    };
    let mut forms = vec![
        text.to_vec(),
        HEXLOWER.encode(text).into_bytes(),
        HEXUPPER.encode(text).into_bytes(),
        numbers(","),
        numbers(", "),
    ];
    for encoding in [BASE64_NOPAD, BASE64URL_NOPAD] {
        // Whole groups of three, wherever in one the text begins.
        for offset in 0..3 {
            let whole = &text[offset..];
            let whole = &whole[..whole.len() / 3 * 3];
            forms.push(encoding.encode(whole).into_bytes());
        }
    }
    forms
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_in_every_form() {
        let text = "sesame open";
        let base64 = BASE64URL_NOPAD.encode(b"xysesame open!");
        let debug = format!("{:?}", text.as_bytes());
        let hex = HEXLOWER.encode(b"sesame open");
        for found in ["a sesame open b", &base64, &debug, &hex] {
            assert!(holds(found.as_bytes(), text), "{found}");
        }
        assert!(!holds(b"open sesame", text));
    }
}
