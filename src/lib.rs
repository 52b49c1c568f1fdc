//! astra dispatch: a task in Plane becomes a reviewed pull request made by an AI agent in isolation.
//!
//! ```text
//! event ─► task ─► plan ─► run ─► result ─► publish
//!
//! domain    decides: pure functions over plain values
//!    ▲
//! adapters  talk to the world: stores, Git, processes; decide nothing
//!    ▲
//! commands  glue: gather, decide, apply
//! ```

pub mod adapters;
pub mod cli;
pub mod commands;
pub mod domain;
pub mod environment;
pub mod error;
pub mod output;
