//! When each view gets its pass: at once after a pause, and a while after the end of the last one while it is busy.

use std::{cmp::Reverse, time::Instant};

use super::{BETWEEN_LOOKS, Pass, Reactor};

impl Reactor<'_> {
    /// A tail of the view has changed.
    pub(super) fn view_changed(&mut self, key: usize) {
        // The view may be gone, or another may have its key: then a pass in vain does no harm.
        let Some(watched) = self.views.get_mut(key) else {
            return;
        };
        match &mut watched.pass {
            Pass::None if watched.not_before <= self.now => {
                watched.pass = Pass::Due {
                    left: None,
                    again: false,
                };
                self.due.push_back(key);
            }
            Pass::None => {
                watched.pass = Pass::Waiting;
                self.waiting.push(Reverse((watched.not_before, key)));
            }
            Pass::Waiting => {}
            Pass::Due { again, .. } => *again = true,
        }
    }

    pub(super) fn begin_passes(&mut self) {
        while let Some(Reverse((at, key))) = self.waiting.peek().copied()
            && at <= self.now
        {
            self.waiting.pop();
            if let Some(watched) = self.views.get_mut(key)
                && watched.pass == Pass::Waiting
            {
                watched.pass = Pass::Due {
                    left: None,
                    again: false,
                };
                self.due.push_back(key);
            }
        }
    }

    /// Goes on with the pass whose turn it is.
    pub(super) fn run_pass(&mut self, end: Instant) -> bool {
        let Some(key) = self.due.pop_front() else {
            return false;
        };
        let Some(watched) = self.views.get_mut(key) else {
            return true;
        };
        let Pass::Due { left, again } = watched.pass else {
            return true;
        };
        let mut left = left.unwrap_or_else(|| {
            // In this order: a change during the look rings again.
            watched.waker.reset();
            watched.view.forget();
            watched.view.members.len()
        });
        let mut served = 0_usize;
        while left > 0 {
            // From the last to the first: whoever is removed is replaced by one that had its turn.
            let Some(watched) = self.views.get(key) else {
                return true;
            };
            left = left.min(watched.view.members.len());
            let Some(member) = left.checked_sub(1).map(|last| watched.view.members[last]) else {
                break;
            };
            left -= 1;
            self.step(member as usize);
            served += 1;
            if served.is_multiple_of(BETWEEN_LOOKS) {
                self.now = Instant::now();
                if self.now >= end && left > 0 {
                    if let Some(watched) = self.views.get_mut(key) {
                        watched.pass = Pass::Due {
                            left: Some(left),
                            again,
                        };
                        self.due.push_back(key);
                    }
                    return true;
                }
            }
        }
        self.end_pass(key);
        true
    }

    pub(super) fn end_pass(&mut self, key: usize) {
        self.now = Instant::now();
        let Some(watched) = self.views.get_mut(key) else {
            return;
        };
        watched.view.forget();
        watched.not_before = self.now + self.context.settings.coalesce;
        let Pass::Due { again, .. } = std::mem::replace(&mut watched.pass, Pass::None) else {
            return;
        };
        if again {
            self.view_changed(key);
        }
    }
}
