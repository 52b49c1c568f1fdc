//! The variables of this process. One that is empty counts as not set: that is how a workflow gives an input
//! that nobody filled in.

use std::ffi::OsString;

/// The text of a variable; `None` where it is not set, empty, or not UTF-8.
pub fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The value of a variable, such as a path, which need not be UTF-8.
pub fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
