//! The world: files, stores, Git, processes. Adapters decide nothing.

pub mod beneath;
pub mod run_directory;
