//! Keeps what the agent's program prints: masked, and never more than its limit, whatever comes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::domain::mask::Mask;
use crate::domain::runtime::Stream;

/// The transcript of one agent step: a file, and a copy for whoever reads this process's stderr.
#[derive(Debug)]
pub struct Transcript<W> {
    file: File,
    copy: W,
    out: Mask,
    err: Mask,
    left: u64,
}

impl<W: Write> Transcript<W> {
    /// Starts a new transcript of at most `limit` bytes, in which what `mask` knows is masked.
    pub fn create(path: &Path, copy: W, mask: &Mask, limit: u64) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { file, copy, out: mask.clone(), err: mask.clone(), left: limit })
    }

    /// Takes in a piece of output. Once the limit is reached the rest costs nothing.
    pub fn write(&mut self, stream: Stream, piece: &[u8]) {
        if self.left == 0 {
            return;
        }
        let masked = match stream {
            Stream::Out => self.out.feed(piece),
            Stream::Err => self.err.feed(piece),
        };
        self.keep(&masked);
    }

    /// Writes what a mask still holds back.
    pub fn finish(mut self) {
        for rest in [self.out.finish(), self.err.finish()] {
            self.keep(&rest);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.left == 0 || bytes.is_empty() {
            return;
        }
        let kept = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= kept as u64;
        self.put(&bytes[..kept]);
        if self.left == 0 {
            self.put(b"\n[the transcript is full: what follows is not kept]\n");
        }
    }

    /// A full disk or a reader that has gone costs the transcript, not the run.
    fn put(&mut self, bytes: &[u8]) {
        let _ = self.file.write_all(bytes);
        let _ = self.copy.write_all(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_the_copy_are_masked_and_end_at_the_limit() {
        let home = tempfile::tempdir().expect("directory");
        let path = home.path().join("transcript.log");
        let mut copy = Vec::new();
        let mut transcript =
            Transcript::create(&path, &mut copy, &Mask::new(["s3cret-key"]), 40).expect("create");
        transcript.write(Stream::Out, b"the key is s3cr");
        transcript.write(Stream::Err, b"warning\n");
        transcript.write(Stream::Out, b"et-key\n");
        for _ in 0..1000 {
            transcript.write(Stream::Out, &[b'x'; 1024]);
            transcript.write(Stream::Out, b"\n");
        }
        transcript.finish();
        let kept = std::fs::read_to_string(&path).expect("read");
        let expected = "warning\nthe key is ***\nxxxxxxxxxxxxxxxxx\n[the transcript is full: what follows is not kept]\n";
        assert_eq!(kept, expected);
        assert_eq!(copy, expected.as_bytes());
    }
}
