//! What the program knows and how it decides: pure functions over plain values.
//!
//! Nothing in here waits, reads a clock, a file, the environment or the network; time, drawn names
//! and settings are arguments. A test (`tests/purity.rs`) holds this directory to it.

pub mod bundle;
pub mod commit;
pub mod decision;
pub mod ending;
pub mod escape;
pub mod event;
pub mod finding;
pub mod gate;
pub mod github_answer;
pub mod github_doctor;
pub mod html_text;
pub mod init;
pub mod job;
pub mod kube_credential;
pub mod kubernetes;
pub mod ledger;
pub mod mask;
pub mod matching;
pub mod message;
pub mod name;
pub mod pass;
pub mod phase;
pub mod plane_answer;
pub mod prompt;
pub mod publish;
pub mod registry;
pub mod relay;
pub mod report;
pub mod request_budget;
pub mod result;
pub mod result_copy;
pub mod run_log;
pub mod run_plan;
pub mod runtime;
pub mod secret_scan;
pub mod status;
pub mod sweep;
pub mod task;
pub mod vault;
pub mod vault_answer;
pub mod vault_provision;
pub mod words;
pub mod work_item;
