//! Any program that keeps the runtime interface: it starts in the clone, finds its task through
//! the `RUN_*` variables, and exit code 0 says that it is done.

use super::{Exit, Invocation, ProcessEnd, Stream, not_started, unexplained};
use crate::domain::phase::{AgentEnding, AgentReport};
use crate::domain::result::FailureClass;

/// What to do where the program is not installed.
pub const INSTALL: &str = "install it here, or choose an image that has it";

/// The command line. An empty command names no program, which the registry does not let through.
pub fn invocation(command: &[String]) -> Invocation {
    let (program, arguments) =
        command.split_first().map_or((String::new(), &[][..]), |(program, rest)| (program.clone(), rest));
    Invocation {
        program,
        arguments: arguments.to_vec(),
        fixed: Vec::new(),
        defaults: Vec::new(),
        input: String::new(),
        install: INSTALL,
    }
}

/// What the output has said so far: only its last words count, to explain a failure.
#[derive(Debug, Default)]
pub struct Reading {
    last_words: String,
}

impl Reading {
    /// Takes in one line.
    pub fn line(&mut self, stream: Stream, line: &str) {
        if stream == Stream::Err && !line.trim().is_empty() {
            line.clone_into(&mut self.last_words);
        }
    }

    /// What the whole comes to.
    pub fn report(&self, end: &ProcessEnd) -> AgentReport {
        let mut report =
            not_started(FailureClass::Agent, unexplained("The agent's program", end.exit, &self.last_words));
        report.seconds = end.seconds;
        if let Exit::Code(code) = end.exit {
            report.exit_code = Some(code);
            if code == 0 {
                report.ending = AgentEnding::Done;
                report.class = None;
                report.reason = "The agent's program says that it is done.".to_owned();
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_decides() {
        let table = [
            (Exit::Code(0), AgentEnding::Done, None, "The agent's program says that it is done."),
            (
                Exit::Code(3),
                AgentEnding::Failed,
                Some(FailureClass::Agent),
                "The agent's program ended with exit code 3: no such table",
            ),
            (
                Exit::Signal(9),
                AgentEnding::Failed,
                Some(FailureClass::Agent),
                "The agent's program was killed (signal 9), perhaps for want of memory: no such table",
            ),
        ];
        for (exit, ending, class, reason) in table {
            let mut reading = Reading::default();
            reading.line(Stream::Out, "working");
            reading.line(Stream::Err, "no such table");
            reading.line(Stream::Err, " ");
            let report = reading.report(&ProcessEnd { exit, stopped: None, seconds: 1.0 });
            assert_eq!((report.ending, report.class, report.reason.as_str()), (ending, class, reason));
        }
    }

    #[test]
    fn arguments_stay_apart() {
        let invocation = invocation(&["sh".into(), "-c".into(), "exit 0; x".into()]);
        assert_eq!(invocation.program, "sh");
        assert_eq!(invocation.arguments, ["-c", "exit 0; x"]);
    }
}
