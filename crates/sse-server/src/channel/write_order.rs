//! Write order: finds the item with the oldest last write, without work per write.
//!
//! The order holds lower bounds. A write only stores its number in the item, and an item whose last
//! write is later than its place is moved when it is found:
//!
//! ```text
//! order          1: a   2: b   3: c      a was last written as 7th, b and c as 2nd and 3rd
//! take_oldest    2: b   3: c   7: a      a is moved to its right place, then b is taken
//! ```
//!
//! An item is moved at most once per write, so each write costs O(log n) at most.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Items that are moved before other threads may use the order.
const MOVES_PER_LOCK: usize = 64;

/// Items by their last writes.
#[derive(Debug)]
pub(super) struct WriteOrder<T> {
    /// Number of writes to all items.
    writes: AtomicU64,
    /// Items, each by the number of one of its writes.
    order: Mutex<BTreeMap<u64, Weak<T>>>,
}

/// An item of an order.
pub(super) trait Ranked {
    /// Returns the item's place, which only the order changes.
    fn rank(&self) -> &Rank;
}

/// The place of an item.
#[derive(Debug, Default)]
pub(super) struct Rank {
    /// Number of the last write; 0 before the first one.
    last_write: AtomicU64,
    /// Key in the order; 0 if the item is not there. It changes only while the order is locked.
    key: AtomicU64,
}

impl<T> Default for WriteOrder<T> {
    fn default() -> Self {
        Self {
            writes: AtomicU64::new(0),
            order: Mutex::default(),
        }
    }
}

impl<T: Ranked> WriteOrder<T> {
    /// Records a write, after it is done.
    ///
    /// An item that [`take_oldest`](Self::take_oldest) returns at the same time may be left out. The
    /// caller of that function sees the write then, and puts the item back.
    pub(super) fn record_write(&self, item: &Arc<T>) {
        let write = self.writes.fetch_add(1, Relaxed) + 1;
        item.rank().last_write.store(write, Relaxed);
        self.put_back(item);
    }

    /// Adds an item to the order, unless it is there.
    pub(super) fn put_back(&self, item: &Arc<T>) {
        let Rank { last_write, key } = item.rank();
        if key.load(Relaxed) != 0 {
            return;
        }
        let mut order = self.lock();
        if key.load(Relaxed) == 0 {
            let place = last_write.load(Relaxed);
            key.store(place, Relaxed);
            order.insert(place, Arc::downgrade(item));
        }
    }

    /// Takes the item with the oldest last write out of the order. Returns `None` if there is none.
    pub(super) fn take_oldest(&self) -> Option<Arc<T>> {
        loop {
            // Dropped after the order is unlocked, because an item that is dropped locks the order.
            let mut moved = Vec::new();
            if let ControlFlow::Break(oldest) = self.find_oldest(&mut moved) {
                return oldest;
            }
        }
    }

    /// Moves items to their right places until the first one is in it, and takes that one. Continues
    /// if this takes too long.
    fn find_oldest(&self, moved: &mut Vec<Arc<T>>) -> ControlFlow<Option<Arc<T>>> {
        let mut order = self.lock();
        while moved.len() < MOVES_PER_LOCK {
            let Some((place, item)) = order.pop_first() else {
                return ControlFlow::Break(None);
            };
            let Some(item) = item.upgrade() else {
                continue;
            };
            let last_write = item.rank().last_write.load(Relaxed);
            if last_write <= place {
                item.rank().key.store(0, Relaxed);
                return ControlFlow::Break(Some(item));
            }
            item.rank().key.store(last_write, Relaxed);
            order.insert(last_write, Arc::downgrade(&item));
            moved.push(item);
        }
        ControlFlow::Continue(())
    }

    /// Removes an item that is being dropped.
    pub(super) fn remove(&self, rank: &Rank) {
        if rank.key.load(Relaxed) != 0 {
            let mut order = self.lock();
            order.remove(&rank.key.load(Relaxed));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Weak<T>>> {
        // No code panics while it holds this lock.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Item(Rank);

    impl Ranked for Item {
        fn rank(&self) -> &Rank {
            &self.0
        }
    }

    fn items(order: &WriteOrder<Item>, count: usize) -> Vec<Arc<Item>> {
        let items: Vec<_> = (0..count).map(|_| Arc::new(Item::default())).collect();
        for item in &items {
            order.record_write(item);
        }
        items
    }

    /// Takes all items. Returns their indexes in `items`.
    fn take_all(order: &WriteOrder<Item>, items: &[Arc<Item>]) -> Vec<usize> {
        let taken = std::iter::from_fn(|| order.take_oldest());
        let index = |taken: Arc<Item>| items.iter().position(|item| Arc::ptr_eq(item, &taken));
        taken.map(|taken| index(taken).unwrap()).collect()
    }

    #[test]
    fn items_are_taken_in_the_order_of_their_last_writes() {
        let order = WriteOrder::default();
        let items = items(&order, 200);
        // All but the last two are written again, in reverse.
        for item in items[..198].iter().rev() {
            order.record_write(item);
        }
        let expected: Vec<usize> = [198, 199].into_iter().chain((0..198).rev()).collect();
        assert_eq!(take_all(&order, &items), expected);
    }

    #[test]
    fn an_item_that_is_put_back_keeps_its_place_until_it_is_written() {
        let order = WriteOrder::default();
        let items = items(&order, 3);
        let first = order.take_oldest().unwrap();
        order.put_back(&first);
        order.put_back(&first);
        assert_eq!(take_all(&order, &items), [0, 1, 2]);
        order.record_write(&items[1]);
        order.record_write(&items[0]);
        assert_eq!(take_all(&order, &items), [1, 0]);
    }

    #[test]
    fn an_item_that_is_dropped_leaves_the_order() {
        let order = WriteOrder::default();
        let mut items = items(&order, 3);
        order.remove(items[0].rank());
        items.remove(0);
        drop(items.remove(0));
        assert_eq!(take_all(&order, &items), [0]);
        assert!(order.lock().is_empty());
    }
}
