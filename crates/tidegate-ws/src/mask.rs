//! Masking of frame payloads, RFC 6455 section 5.3.

/// Applies the masking key to `payload` in place and turns `key` so that it continues with the next byte of the frame.
///
/// Eight bytes at a time: the compiler makes vector instructions of the loop. Masking twice gives the original.
pub(crate) fn apply(payload: &mut [u8], key: &mut [u8; 4]) {
    let [a, b, c, d] = *key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= mask;
    }
    key.rotate_left(rest.len() % 4);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_bytes() {
        let plain: Vec<u8> = (0..61).collect();
        let expected: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ [9, 200, 33, 7][i % 4]).collect();
        for cut in 0..=plain.len() {
            let mut bytes = plain.clone();
            let mut key = [9, 200, 33, 7];
            let (first, second) = bytes.split_at_mut(cut);
            apply(first, &mut key);
            apply(second, &mut key);
            assert_eq!(bytes, expected, "cut at {cut}");
        }
    }
}
