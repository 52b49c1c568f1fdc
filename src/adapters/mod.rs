//! The world: files, stores, Git, processes. Adapters carry out and report; they decide nothing.

pub mod beneath;
pub mod checkout;
pub mod confinement;
pub mod delivery;
pub mod event_file;
pub mod git;
pub mod github;
pub mod kubernetes;
pub mod local;
pub mod model_key;
pub mod own_cgroup;
pub mod plane;
pub mod process_identity;
pub mod registry_files;
pub mod relay_spool;
pub mod result_ref;
pub mod run_directory;
pub mod store;
pub mod supervised_process;
pub mod tls;
pub mod token_http;
pub mod transcript;
pub mod vault_file;
pub mod vault_server;
pub mod work_tree;
pub mod workflow_identity;
