//! Secrets are replaced by stars in whatever is kept of a program's output.

/// Shorter values are no secrets worth the name, and masking them would eat ordinary words.
const SHORTEST: usize = 6;
/// What stands in the place of a secret.
const STARS: &[u8] = b"***";
/// An unfinished line longer than this is passed on in pieces.
const LONGEST_LINE: usize = 64 * 1024;

/// The lines of a value that are worth hiding.
pub fn secret_lines(value: &str) -> impl Iterator<Item = &str> {
    value.lines().map(str::trim).filter(|line| line.len() >= SHORTEST)
}

/// Masks one stream of bytes, whatever the pieces that it arrives in.
///
/// No pattern holds a newline (a value of several lines is masked line by line), so whole lines can
/// be passed on at once; of a long unfinished line as much is held back as a secret could need.
#[derive(Debug, Clone)]
pub struct Mask {
    patterns: Vec<Vec<u8>>,
    first_bytes: Box<[bool; 256]>,
    held: Vec<u8>,
}

impl Mask {
    /// Masks these values: each as it is, each of its lines, and as it stands in JSON.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        for line in values.into_iter().flat_map(secret_lines) {
            patterns.push(line.as_bytes().to_vec());
            let json = serde_json::Value::from(line).to_string();
            patterns.push(json.as_bytes()[1..json.len() - 1].to_vec());
        }
        // The longest first: a secret that begins with another one is masked whole.
        patterns.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        let mut first_bytes = Box::new([false; 256]);
        for pattern in &patterns {
            first_bytes[usize::from(pattern[0])] = true;
        }
        Self { patterns, first_bytes, held: Vec::new() }
    }

    /// Takes in the next piece and returns what can be passed on.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let whole_lines = self.held.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let unfinished = self.held.len() - whole_lines;
        let keep_back = self.patterns.first().map_or(0, |longest| longest.len() - 1);
        let ready =
            if unfinished > LONGEST_LINE { self.held.len() - keep_back.min(unfinished) } else { whole_lines };
        self.pass_on(ready)
    }

    /// Returns what was held back, at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        self.pass_on(self.held.len())
    }

    /// Masks a text that is whole.
    pub fn text(&self, text: &str) -> String {
        let mut mask = Self { held: text.as_bytes().to_vec(), ..self.clone() };
        String::from_utf8_lossy(&mask.finish()).into_owned()
    }

    /// Passes on the held bytes before `ready`, and those of a secret that begins before it.
    fn pass_on(&mut self, ready: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(ready);
        let mut at = 0;
        while at < ready {
            let found = self.first_bytes[usize::from(self.held[at])]
                .then(|| self.patterns.iter().find(|pattern| self.held[at..].starts_with(pattern)))
                .flatten();
            match found {
                Some(pattern) => {
                    out.extend_from_slice(STARS);
                    at += pattern.len();
                }
                None => {
                    out.push(self.held[at]);
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked(mask: &mut Mask, pieces: &[&[u8]]) -> String {
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| mask.feed(piece)).collect();
        out.extend(mask.finish());
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn values_lines_and_json_forms_are_masked() {
        let table = [
            ("sk-ant-0123", "key sk-ant-0123!", "key ***!"),
            ("first line\nsecond line", "xfirst linex second line", "x***x ***"),
            ("with\"quote", r#"{"key":"with\"quote"}"#, r#"{"key":"***"}"#),
            ("secret", "secretsecret", "******"),
            ("short", "short", "short"),
        ];
        for (value, text, expected) in table {
            assert_eq!(Mask::new([value]).text(text), expected);
        }
        assert_eq!(Mask::new(["secret", "secret-longer"]).text("secret-longer secret"), "*** ***");
    }

    #[test]
    fn a_line_without_an_end_is_passed_on_in_pieces_without_splitting_a_secret() {
        let mut mask = Mask::new(["0123456789"]);
        let long = vec![b'x'; LONGEST_LINE];
        assert_eq!(mask.feed(&long).len(), 0);
        let passed = mask.feed(b"xx01234");
        assert_eq!(passed.len(), LONGEST_LINE + 7 - 9);
        let rest = masked(&mut mask, &[b"56789yy\n"]);
        assert!(rest.ends_with("xx***yy\n"), "{rest}");
    }

    proptest! {
        #[test]
        fn no_way_of_cutting_shows_the_secret(
            before in "[a-z0-9 \n]{0,40}", after in "[a-z0-9 \n]{0,40}", cuts in proptest::collection::vec(0usize..100, 0..6),
        ) {
            let secret = "abc123abc124";
            let text = format!("{before}{secret}{after}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut mask = Mask::new([secret]);
            let mut out = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                out.extend(mask.feed(&text.as_bytes()[from..cut]));
                from = cut;
            }
            out.extend(mask.finish());
            let out = String::from_utf8(out).expect("UTF-8");
            prop_assert!(!out.contains(secret));
            prop_assert_eq!(out, mask.text(&text));
        }
    }
}
