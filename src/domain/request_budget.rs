//! How many requests may still be sent to Plane, and who goes first when they run short.
//!
//! Plane counts the requests of one key in a sliding window of a minute (60 by default). What is
//! left of the window belongs to the more important the scarcer it gets.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The window in which Plane counts. Source: Plane 1.3.1, `API_KEY_RATE_LIMIT` = `60/minute`.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Requests in a window, until Plane's answers say otherwise.
pub const DEFAULT_RATE: u32 = 60;

/// What a request is for; the later, the more important.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Importance {
    /// Nice to have: a waiting task's position.
    Progress,
    /// A run starts.
    Start,
    /// A run's last word, and what a decision reads.
    FinalWord,
    /// Somebody wants something stopped.
    Cancel,
}

impl Importance {
    /// The share of the window, in percent, that is kept back for more important requests.
    fn reserve_percent(self) -> u32 {
        match self {
            Self::Progress => 40,
            Self::Start => 20,
            Self::FinalWord => 5,
            Self::Cancel => 0,
        }
    }
}

/// The requests of one process within the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestBudget {
    rate: u32,
    /// When each request of the window was sent, oldest first.
    sent: VecDeque<Timestamp>,
    /// Plane said 429: nothing is sent before this time.
    closed_until: Option<Timestamp>,
}

impl RequestBudget {
    /// A budget of `rate` requests a minute, at least one.
    pub fn new(rate: u32) -> Self {
        Self { rate: rate.max(1), sent: VecDeque::new(), closed_until: None }
    }

    /// Takes one request from the budget, or says how long to wait before asking again.
    pub fn take(&mut self, importance: Importance, now: Timestamp) -> Result<(), Duration> {
        self.forget_before(now);
        if let Some(until) = self.closed_until.filter(|until| *until > now) {
            return Err(between(now, until));
        }
        self.closed_until = None;
        // At least one request a window for everyone, however small the rate.
        let usable = (self.rate - self.rate * importance.reserve_percent() / 100).max(1) as usize;
        if self.sent.len() < usable {
            self.sent.push_back(now);
            return Ok(());
        }
        // The request that has to leave the window before this one fits.
        let leaving = self.sent[self.sent.len() - usable];
        Err(between(now, end_of_window(leaving)))
    }

    /// Believes Plane's own count (`X-RateLimit-Remaining`) where it is smaller than ours: other
    /// processes use the same key.
    pub fn correct(&mut self, remaining: u32, now: Timestamp) {
        self.forget_before(now);
        let seen_by_plane = self.rate.saturating_sub(remaining) as usize;
        while self.sent.len() < seen_by_plane {
            self.sent.push_back(now);
        }
    }

    /// Plane refused with 429: nothing is sent for so long (`Retry-After`).
    pub fn close(&mut self, retry_after: Duration, now: Timestamp) {
        let wait = SignedDuration::try_from(retry_after).unwrap_or(SignedDuration::MAX);
        self.closed_until = Some(now.saturating_add(wait).unwrap_or(Timestamp::MAX));
    }

    fn forget_before(&mut self, now: Timestamp) {
        while self.sent.front().is_some_and(|sent| end_of_window(*sent) <= now) {
            self.sent.pop_front();
        }
    }
}

fn end_of_window(sent: Timestamp) -> Timestamp {
    sent.saturating_add(SignedDuration::from_secs(WINDOW.as_secs() as i64)).unwrap_or(Timestamp::MAX)
}

fn between(now: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_396_800 + seconds).unwrap()
    }

    #[test]
    fn what_is_left_belongs_to_the_more_important() {
        let mut budget = RequestBudget::new(60);
        let mut sent = |importance| (0..).take_while(|_| budget.take(importance, at(0)).is_ok()).count();
        assert_eq!(sent(Importance::Progress), 36);
        assert_eq!(sent(Importance::Start), 12);
        assert_eq!(sent(Importance::FinalWord), 9);
        assert_eq!(sent(Importance::Cancel), 3);
    }

    #[test]
    fn the_wait_is_until_the_window_has_room() {
        let mut budget = RequestBudget::new(2);
        assert_eq!(budget.take(Importance::Cancel, at(0)), Ok(()));
        assert_eq!(budget.take(Importance::Cancel, at(10)), Ok(()));
        assert_eq!(budget.take(Importance::Cancel, at(20)), Err(Duration::from_secs(40)));
        assert_eq!(budget.take(Importance::Cancel, at(60)), Ok(()));
        assert_eq!(budget.take(Importance::Cancel, at(60)), Err(Duration::from_secs(10)));
    }

    #[test]
    fn a_refusal_closes_the_budget_and_planes_own_count_is_believed() {
        let mut budget = RequestBudget::new(60);
        budget.close(Duration::from_secs(58), at(0));
        assert_eq!(budget.take(Importance::Cancel, at(1)), Err(Duration::from_secs(57)));
        assert_eq!(budget.take(Importance::Cancel, at(58)), Ok(()));
        budget.correct(0, at(58));
        assert_eq!(budget.take(Importance::Cancel, at(59)), Err(Duration::from_secs(59)));
        budget.close(Duration::MAX, at(60));
        assert!(budget.take(Importance::Cancel, at(10_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_minute_ever_sees_more_than_the_rate(rate in 1u32..80, steps in proptest::collection::vec(0i64..20, 1..200)) {
            let mut budget = RequestBudget::new(rate);
            let (mut now, mut sent) = (0, Vec::new());
            for step in steps {
                now += step;
                if budget.take(Importance::Cancel, at(now)).is_ok() {
                    sent.push(now);
                }
                let in_window = sent.iter().filter(|s| now - **s < 60).count();
                prop_assert!(in_window <= rate as usize);
            }
        }
    }
}
