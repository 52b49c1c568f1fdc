//! Times of the protocol. The inequalities between them count, not the numbers: a *started* write
//! is over before a claim may follow, and a holder is silent before its claim may be taken over.

use std::time::Duration;

/// A Plane write is begun within this time after the re-reads it rests on, else it is dropped.
pub const SEND_WITHIN: Duration = Duration::from_secs(10);
/// A Plane write that has no answer so long after it was begun counts as unanswered; waiting for the budget
/// is part of it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// An item that the same process read this short a time before need not be read again before a write;
/// [`SEND_WITHIN`] counts from that read. Plane allows few requests, so that none is made twice.
pub const REUSE_WITHIN: Duration = Duration::from_secs(5);
/// A publisher sends nothing more this long after its claim (monotonic clock).
pub const CLAIM_USE: Duration = Duration::from_secs(5 * 60);

/// The times and bounds that decisions use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Attempts of one task are counted within this time.
    pub attempts_within: Duration,
    /// A second attempt starts no sooner than this after its admission; each further one waits
    /// four times as long.
    pub backoff: Duration,
    /// A task that was refused for good is tried again after this time even if nothing changed.
    pub block: Duration,
    /// A Job is claimed no sooner than this after its end: more than [`SEND_WITHIN`] and
    /// [`WRITE_TIMEOUT`] together. Waived where there is no Plane.
    pub claim_margin: Duration,
    /// A claim may be taken over after this time: more than [`CLAIM_USE`].
    pub claim_takeover: Duration,
    /// How often one pass starts over when others changed the ledger under it.
    pub rounds: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            attempts_within: Duration::from_secs(24 * 3600),
            backoff: Duration::from_secs(30),
            block: Duration::from_secs(3600),
            claim_margin: Duration::from_secs(30),
            claim_takeover: Duration::from_secs(10 * 60),
            rounds: 40,
        }
    }
}

impl Timing {
    /// How long attempt `attempt` waits after its admission.
    pub fn backoff_before(&self, attempt: u32) -> Duration {
        match attempt {
            0 | 1 => Duration::ZERO,
            _ => self.backoff.saturating_mul(4_u32.saturating_pow(attempt.saturating_sub(2))),
        }
    }
}
