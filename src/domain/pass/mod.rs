//! The pass: gather, decide, apply. Every entry point (event, publish, sweep, by hand) runs it.
//!
//! The protocol is a state machine without IO: it says which calls to make, and is told the
//! answers. Whoever drives it (`adapters::store::drive`, the simulator) decides when each call
//! happens, and may stop for ever after any of them: any later pass goes on from there.
//!
//! ```text
//! read ledger ─► list Jobs ─► look up missing ─► read items ─► plan ─► swap ─► effects ─► confirm ─► secret ─► release
//!      ▲                                                               │
//!      └────────────── pause (jittered, bounded) ◄── conflict ─────────┘
//! ```
//!
//! **A Job runs only after the ledger says `started` with that Job's UID.** That one sentence makes
//! a slow or revived dispatcher harmless.

mod call;
mod candidates;
mod edit;
mod fingerprint;
mod machine;
mod observed;
mod plan;
mod publication;
mod report;
mod start_write;
mod timing;

pub use call::{
    Hint, ItemRead, LedgerRead, Listing, NewJob, OrphanPod, Request, Response, StateTarget, Step, Version,
};
pub use machine::{Pass, PassInput, PassStep};
pub use publication::{Publication, PublicationEnd};
pub use report::{PassEnd, PassReport, StopOutcome, Subject, TaskOutcome};
pub use start_write::{StartWrite, StartWriteEnd};
pub use timing::{CLAIM_USE, REUSE_WITHIN, SEND_WITHIN, Timing, WRITE_TIMEOUT};
