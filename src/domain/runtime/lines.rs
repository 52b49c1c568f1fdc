//! Cuts a stream of bytes into lines.

/// A longer line is dropped whole, in bytes: no event of an agent's CLI is that long.
pub const LINE_LIMIT: usize = 8 << 20;

/// Collects the pieces of lines.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    /// Takes in a piece and hands over every line that it completes, without its newline.
    pub fn feed(&mut self, piece: &[u8], mut line: impl FnMut(&str)) {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(rest) => {
                    self.add(rest);
                    self.complete(&mut line);
                }
                None => self.add(part),
            }
        }
    }

    /// Hands over what stands after the last newline.
    pub fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.begun.is_empty() {
            self.complete(&mut line);
        }
    }

    fn add(&mut self, part: &[u8]) {
        if self.is_too_long || self.begun.len() + part.len() > LINE_LIMIT {
            self.is_too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn complete(&mut self, line: &mut impl FnMut(&str)) {
        if !self.is_too_long {
            line(&String::from_utf8_lossy(&self.begun));
        }
        self.begun.clear();
        self.is_too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        for piece in pieces {
            lines.feed(piece, |line| found.push(line.to_owned()));
        }
        lines.finish(|line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn pieces_become_lines() {
        assert_eq!(lines(&[b"a\nb", b"c\n\nd"]), ["a", "bc", "", "d"]);
        assert_eq!(lines(&["é\n".as_bytes().split_at(1).0, "é\n".as_bytes().split_at(1).1]), ["é"]);
        assert!(lines(&[b""]).is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_and_the_next_is_not() {
        let long = vec![b'x'; LINE_LIMIT / 2 + 1];
        assert_eq!(lines(&[b"a\n", &long, &long, b"tail\nb\n"]), ["a", "b"]);
    }
}
