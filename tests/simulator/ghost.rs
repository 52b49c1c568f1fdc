//! What people wanted, and whether they got it: known to the checks, not to the program.

/// The wish for one task.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// Somebody waits for it: it must be carried out and published.
    pub(crate) must: bool,
    /// Somebody asked for it: it may be carried out.
    pub(crate) may: bool,
    /// It was asked for again while a run of it lived: that run may count as the answer, or another.
    again: bool,
}

impl Ghost {
    /// Asked for, not carried out.
    pub(crate) fn asked() -> Self {
        Self { must: true, may: true, again: false }
    }

    /// A person asks for it (again).
    pub(crate) fn ask(&mut self, has_live_run: bool) {
        self.must = true;
        self.may = true;
        self.again = has_live_run;
    }

    /// Nobody wants it any more.
    pub(crate) fn withdraw(&mut self) {
        *self = Self { must: false, may: false, again: false };
    }

    /// A person stopped its run; a wish that came after that stands.
    pub(crate) fn stop(&mut self) {
        *self = Self { must: false, may: self.again, again: self.again };
    }

    /// Nobody waits for it; whoever asked for it may still get it.
    pub(crate) fn excuse(&mut self) {
        self.must = false;
    }

    /// A run of it was published.
    pub(crate) fn answer(&mut self) {
        *self = Self { must: false, may: self.again, again: false };
    }
}
