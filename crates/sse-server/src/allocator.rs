//! The allocator of the program: jemalloc, set to return unused memory to the system soon.
//!
//! After a storm of connections, glibc's allocator keeps some 20 KB per connection that was open at
//! once. jemalloc returns them, but waits 10 s by default.

use anyhow::anyhow;
use tikv_jemalloc_ctl::{Access as _, AsName as _};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Milliseconds after which jemalloc returns unused memory to the system.
const DIRTY_DECAY_MS: isize = 1000;

/// Applies the settings; call this before the program starts a thread.
///
/// `arenas.dirty_decay_ms` is the default of arenas that jemalloc creates later. Until the first
/// thread starts, arena 0 is the only one.
pub(crate) fn configure() -> anyhow::Result<()> {
    for name in ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"] {
        name.name().write(DIRTY_DECAY_MS).map_err(|error| {
            anyhow!(
                "cannot set jemalloc's {}: {error}",
                name.trim_end_matches('\0')
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_holds_for_present_and_future_arenas() {
        configure().expect("jemalloc knows the setting");
        for name in ["arenas.dirty_decay_ms\0", "arena.0.dirty_decay_ms\0"] {
            let decay_ms: isize = name.name().read().expect("jemalloc knows the setting");
            assert_eq!(decay_ms, DIRTY_DECAY_MS, "{name}");
        }
    }
}
