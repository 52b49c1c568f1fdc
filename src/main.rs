//! The program: logger, options, command, exit code.

fn main() {}
