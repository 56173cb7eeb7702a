//! The channels of an in-process log, and the orders in which they are searched.
//!
//! | file | holds |
//! |---|---|
//! | `table` | each name once, with a value and a number |
//! | `slot_order` | channels in the order of a time |
//! | `orders` | the orders in which the oldest event and idle channels are found |
//! | `dated` | channels with a value that has a time |

mod dated;
mod orders;
mod slot_order;
mod table;

pub(super) use self::{
    dated::{Dated, DatedChannels},
    orders::{ChannelOrders, Rank, earliest},
    slot_order::{Entry, SlotOrder},
    table::{ChannelTable, Slot},
};
