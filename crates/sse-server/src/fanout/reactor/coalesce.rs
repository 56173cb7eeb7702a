//! Passes: when the streams of a view get their next step.
//!
//! `ViewWaker` in `fanout/mailbox` coalesces the notifications of a view's tails before that.
//!
//! The first change after a pause starts a pass at once. While a view is busy, the next pass starts
//! some time after the end of the last one, and sends everything that arrived in between as one
//! chunk. The pause depends on the cost of the passes ([`pass_pace`](super::pass_pace)) and is at most
//! `--coalesce`:
//!
//! ```text
//! None ──change──► Due ──first slice──► Due, n left ──slices──► Due, 0 left ──end_pass──► None
//!   ▲               ▲                   (again, if a tail changes)                          │
//!   │               └── not_before ── Waiting ◄────────── change before `not_before` ───────┤
//!   └───────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use super::{Pass, Reactor, STREAMS_PER_CLOCK_READ};

/// A pass that has not started.
const DUE: Pass = Pass::Due {
    left: None,
    again: false,
};

impl Reactor<'_> {
    /// Records that a tail of a view has changed.
    pub(super) fn view_changed(&mut self, key: usize) {
        // The view may be gone. If another view has its key, that view gets a needless pass.
        let Some(watched) = self.views.get_mut(key) else {
            return;
        };
        match &mut watched.pass {
            Pass::None if watched.not_before <= self.now => {
                watched.pass = DUE;
                self.due_passes.push_back(key);
            }
            Pass::None => {
                watched.pass = Pass::Waiting;
                self.waiting_passes.push(Reverse((watched.not_before, key)));
            }
            Pass::Waiting => {}
            Pass::Due { again, .. } => *again = true,
        }
    }

    /// Makes passes due that have waited long enough.
    pub(super) fn start_waiting_passes(&mut self) {
        while let Some(Reverse((at, key))) = self.waiting_passes.peek().copied()
            && at <= self.now
        {
            self.waiting_passes.pop();
            if let Some(watched) = self.views.get_mut(key)
                && watched.pass == Pass::Waiting
            {
                watched.pass = DUE;
                self.due_passes.push_back(key);
            }
        }
    }

    /// Runs the next pass until it or the slice ends. Returns `false` if no pass is due.
    pub(super) fn run_pass(&mut self, end: Instant) -> bool {
        let Some(key) = self.due_passes.pop_front() else {
            return false;
        };
        let Some(left) = self.start_or_resume_pass(key) else {
            return true;
        };
        let start = Instant::now();
        let left = self.step_members(key, left, end);
        self.now = Instant::now();
        self.record_cost(key, self.now.saturating_duration_since(start));
        if left == 0 {
            self.end_pass(key);
        } else {
            self.suspend_pass(key, left);
        }
        true
    }

    /// Returns the number of members that have not had their turn; `None` if there is no pass.
    fn start_or_resume_pass(&mut self, key: usize) -> Option<usize> {
        let watched = self.views.get_mut(key)?;
        let Pass::Due { left, .. } = watched.pass else {
            return None;
        };
        if left.is_some() {
            return left;
        }
        // Reset the waker before the tails are read: a change while they are read notifies again.
        watched.changed_at = watched.waker.reset();
        watched.view.clear_cache();
        Some(watched.view.members.len())
    }

    /// Lets members take their step until the slice is over. Returns how many are left.
    ///
    /// The turn goes from the last member to the first. A member that is removed is replaced by the
    /// last one, which has had its turn.
    fn step_members(&mut self, key: usize, mut left: usize, end: Instant) -> usize {
        let mut served = 0_usize;
        // Steps close streams, so the view can shrink and even disappear.
        while let Some(watched) = self.views.get(key) {
            left = left.min(watched.view.members.len());
            if left == 0 {
                return 0;
            }
            left -= 1;
            let member = watched.view.members[left];
            self.step(member as usize);
            served += 1;
            if served.is_multiple_of(STREAMS_PER_CLOCK_READ) {
                self.now = Instant::now();
                if self.now >= end {
                    return left;
                }
            }
        }
        0
    }

    /// Adds the time of a slice to the cost of the pass.
    fn record_cost(&mut self, key: usize, cost: Duration) {
        if let Some(watched) = self.views.get_mut(key) {
            watched.pass_cost += cost;
        }
    }

    fn suspend_pass(&mut self, key: usize, members_left: usize) {
        if let Some(watched) = self.views.get_mut(key)
            && let Pass::Due { left, .. } = &mut watched.pass
        {
            *left = Some(members_left);
            self.due_passes.push_back(key);
        }
    }

    fn end_pass(&mut self, key: usize) {
        let Some(watched) = self.views.get_mut(key) else {
            return;
        };
        watched.view.clear_cache();
        let cost = std::mem::take(&mut watched.pass_cost);
        watched.not_before = self.now + self.pace.record_pass(cost, self.now);
        if let Some(changed_at) = watched.changed_at.take() {
            let took = self.now.saturating_duration_since(changed_at);
            self.context
                .metrics
                .pass_ended(took, watched.view.members.len());
        }
        let pass = std::mem::replace(&mut watched.pass, Pass::None);
        if matches!(pass, Pass::Due { again: true, .. }) {
            self.view_changed(key);
        }
    }
}
