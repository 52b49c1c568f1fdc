//! Reads fields in a form and notes what does not fit.

use super::fault::{Findings, Rule};
use super::field::Field;

/// Why a text is no value of the wanted kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) rule: Rule,
    pub(super) cause: String,
    pub(super) cure: String,
}

impl Problem {
    pub(super) fn new(rule: Rule, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { rule, cause: cause.into(), cure: cure.into() }
    }

    pub(super) fn invalid(cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(Rule::InvalidValue, cause, cure)
    }
}

/// A text read in a form.
pub(super) type Form<T> = Result<T, Problem>;

/// Reads a field's text in a form; a problem is noted at the field.
pub(super) fn take<T>(
    findings: &Findings<'_>,
    field: &Field<String>,
    form: impl FnOnce(&str) -> Form<T>,
) -> Option<T> {
    match form(field.get()?) {
        Ok(value) => Some(value),
        Err(problem) => {
            findings.error(problem.rule, field.at, problem.cause, problem.cure);
            None
        }
    }
}

/// Reads an optional field. Outer `None`: it is there and faulty.
#[expect(clippy::option_option, reason = "faulty and absent differ")]
pub(super) fn take_optional<T>(
    findings: &Findings<'_>,
    field: Option<&Field<String>>,
    form: impl FnOnce(&str) -> Form<T>,
) -> Option<Option<T>> {
    match field {
        None => Some(None),
        Some(field) => take(findings, field, form).map(Some),
    }
}

/// Reads a list; absent = empty, `None` where anything in it is faulty. Warns of repetitions.
pub(super) fn take_list<T: PartialEq>(
    findings: &Findings<'_>,
    field: Option<&Field<Vec<Field<String>>>>,
    form: impl Fn(&str) -> Form<T>,
) -> Option<Vec<T>> {
    let Some(field) = field else { return Some(Vec::new()) };
    let mut complete = true;
    let mut values = Vec::new();
    for item in field.get()? {
        match take(findings, item, &form) {
            Some(value) if values.contains(&value) => {
                let cause = format!("`{}` is listed twice", item.get().map_or("", String::as_str));
                findings.warning(Rule::Duplicate, item.at, cause, "remove one of the two");
            }
            Some(value) => values.push(value),
            None => complete = false,
        }
    }
    complete.then_some(values)
}
