//! The usual ways in which a secret gets written down.
//!
//! What the folded view does away with needs no entry of its own: quoting for shells, the URL-safe
//! alphabet of base64, line breaks, separators, upper case, UTF-16 and `%XX` for every byte (the
//! same letters and digits as plain hexadecimal).

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Long pieces of a secret that are looked for one by one, at most.
const PIECES: usize = 128;
/// Shorter pieces are not worth a pattern: too often they are words.
const SHORTEST_PIECE: usize = 24;

/// All usual encodings of a secret and of its long pieces, with what each is called.
pub(super) fn of(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = whole(secret);
    let pieces = pieces(secret);
    if pieces != [secret] {
        for piece in pieces.into_iter().take(PIECES) {
            all.push(("a part of it", piece.to_vec()));
            all.push(("a part of it in hexadecimal", hex::encode(piece).into_bytes()));
            all.extend(base64(piece).map(|bytes| ("a part of it in base64", bytes)));
        }
    }
    all
}

fn whole(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![("plain", secret.to_vec()), ("hexadecimal", hex::encode(secret).into_bytes())];
    all.extend(base64(secret).map(|bytes| ("base64", bytes)));
    all.push(("reversed", secret.iter().rev().copied().collect()));
    all.push(("URL-encoded", percent(secret, b"-._~")));
    all.push(("URL-encoded", percent(secret, b"-_.!~*'()")));
    let text = String::from_utf8_lossy(secret);
    all.push(("JSON-escaped", serde_json::Value::from(text.as_ref()).to_string().into_bytes()));
    all.push(("HTML-escaped", crate::domain::escape::html(&text).into_bytes()));
    all
}

/// The characters of base64 that depend on the secret alone, for each of the three places in a
/// group of three bytes that it can start at.
fn base64(secret: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..3).map(move |before| {
        let mut padded = vec![0; before];
        padded.extend_from_slice(secret);
        let text = STANDARD_NO_PAD.encode(&padded).into_bytes();
        let first = (before * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        text[first..last].to_vec()
    })
}

/// Percent-encoding of everything but letters, digits and what is `kept`.
fn percent(secret: &[u8], kept: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(secret.len());
    for &byte in secret {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            text.push(byte);
        } else {
            text.extend(format!("%{byte:02x}").bytes());
        }
    }
    text
}

/// The parts of a key file or a JSON document that are secret by themselves: long, of letters *and*
/// digits, and neither an address nor a URL.
fn pieces(secret: &[u8]) -> Vec<&[u8]> {
    let separates = |byte: &u8| byte.is_ascii_whitespace() || b"\"',;".contains(byte);
    secret
        .split(separates)
        .filter(|piece| piece.len() >= SHORTEST_PIECE)
        .filter(|piece| piece.iter().any(u8::is_ascii_digit) && piece.iter().any(u8::is_ascii_alphabetic))
        .filter(|piece| !piece.contains(&b'@') && !piece.windows(3).any(|window| window == b"://"))
        .collect()
}
