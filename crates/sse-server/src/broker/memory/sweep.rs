//! Sweeps: remove events that are too old, and keys that have expired, of the channels that are due.

use super::{
    log::Log,
    trim::{trim_channel, trim_to_age},
};
use crate::broker::channel_index::Slot;

impl Log {
    /// Removes up to `remove_max` old events and expired keys. Returns true if there may be more.
    pub(super) fn sweep(&mut self, now_ms: u64, remove_max: usize) -> bool {
        let log_ms = self.log_ms(now_ms);
        let mut left = remove_max - self.channels.deleted.free(remove_max);
        while left > 0
            && let Some(slot) = self.channels.sweeps.pop(log_ms)
        {
            left -= self.sweep_channel(slot, log_ms, left).clamp(1, left);
        }
        left == 0
    }

    /// Removes up to `remove_max` old events and expired keys of a channel. Returns how many.
    fn sweep_channel(&mut self, slot: Slot, log_ms: u64, remove_max: usize) -> usize {
        let Some((channel, log)) = self.channels.at(slot) else {
            return 0;
        };
        let (classes, retention) = (&self.classes, &self.retention);
        let effective = classes.effective(channel, log.settings(), retention);
        let swept = self.channels.update_at(slot, |log| {
            let keys = log.keys.forget_expired(log_ms, remove_max);
            let mut removed = trim_channel(log, &effective);
            let left = remove_max.saturating_sub(keys + removed.events);
            removed += trim_to_age(log, effective.cutoff_ms(log_ms), left);
            (keys, removed, log.next_sweep_ms(&effective))
        });
        let Some((keys, removed, next_ms)) = swept else {
            return 0;
        };
        self.bytes -= removed.bytes;
        self.channels.sweeps.set(slot, next_ms);
        keys + removed.events
    }
}
