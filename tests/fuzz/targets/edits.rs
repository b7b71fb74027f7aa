//! Inputs that say how genuine bytes are changed: a fuzzer does not find them by itself.

/// Reads an input as edits of `genuine`: in groups of three bytes, where (16 bits) and what is
/// flipped there; to flip nothing cuts the rest off. No edits leave it as it is.
pub(super) fn edited(genuine: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = genuine.to_vec();
    for edit in edits.as_chunks::<3>().0 {
        let [high, low, flipped] = *edit;
        let place = usize::from(u16::from_be_bytes([high, low]));
        match bytes.get_mut(place) {
            Some(byte) if flipped != 0 => *byte ^= flipped,
            _ => bytes.truncate(place),
        }
    }
    bytes
}

/// The input that flips the bits of `flipped` at a place.
pub(super) fn flip(place: u16, flipped: u8) -> Vec<u8> {
    [place.to_be_bytes().as_slice(), &[flipped]].concat()
}
