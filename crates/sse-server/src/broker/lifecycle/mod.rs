//! The life of a channel: conditions, the end, deletion, settings and expiry.
//!
//! An *incarnation* of a channel lasts from its creation to its deletion. It is *open* until it is
//! closed, and then it stays *closed* until it is deleted:
//!
//! ```text
//! missing ── first write ──► open ── close ──► closed ── delete, or ttl_closed ──► tombstone
//!                             │  ▲                                                    │
//!                             │  └─ ttl: events are removed, the channel stays open   │
//!                             └── delete ─────────────────────────────────────────────┤
//! missing ◄── 24 h ───────────────────────────────────────────────────────────────────┤
//! open    ◄── first write: a new incarnation, whose ids are above all old ones ───────┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `end` | the end of a channel as a record of the log |
//! | `tombstone` | what remains of a deleted channel, and how positions are judged by it |
//! | `write` | one write: its events, condition and end, and its result |
//! | `gate` | the decisions of a write before its items are stored |
//! | `life` | what a log stores about a channel besides its events |
//! | `due_index` | the channels that may be due |
//! | `clock_guard` | when the clock is not trusted to expire channels |
//! | `settings` | the settings of one channel |
//! | `classes` | the settings of channels by their names |
//! | `calls` | the methods of [`Broker`](super::Broker) that concern the life of a channel |
//! | `description` | what a channel is, for `GET /channels` |
//!
//! # The contract
//!
//! The steps of a [`Write`] are decided in this order, and all of them are one step for every other
//! caller, on every node:
//!
//! 1. *Incarnation.* A write that names another incarnation than the present one fails with
//!    [`ChannelDeleted`](super::BrokerError::ChannelDeleted).
//! 2. *Keys.* If every item has a known key, the write returns their first outcomes, whatever the
//!    state of the channel. An open channel is closed all the same if the write closes.
//! 3. *State.* A closed channel fails with [`ChannelClosed`](super::BrokerError::ChannelClosed),
//!    except a write without items that closes with the same reason, which returns the first end. A
//!    missing channel with a tombstone fails with
//!    [`DeletedRecently`](super::BrokerError::DeletedRecently) if its class has `after_delete =
//!    "refuse"`. A missing channel fails with [`NoSuchChannel`](super::BrokerError::NoSuchChannel) if
//!    its class has `create = "explicit"`.
//! 4. *Condition.* It fails with [`ConditionFailed`](super::BrokerError::ConditionFailed), which has
//!    the newest id. A write whose items are all known never gets here.
//! 5. *Space.* The limits of the log, as for every append.
//! 6. The items are appended as by [`append_idempotent`](super::Broker::append_idempotent), and then
//!    the end. Either all of it is durable, or nothing.
//!
//! After an end:
//!
//! - [`read`](super::Broker::read) returns the end as the last record of the channel
//!   ([`Stored::is_end`](super::Stored::is_end)). It does not count towards the limits of a page: a
//!   page that reaches the last event has the end too, also beyond `events_max`. Retention never
//!   removes the end, and a page after a gap ends with it as well. [`Page::last`](super::Page::last)
//!   is the id of the end.
//! - [`last_id`](super::Broker::last_id) and [`BackPage::last`](super::BackPage::last) are the last
//!   id *before* the end, and [`read_back`](super::Broker::read_back) does not return the end: "now",
//!   "last=0" and a time in the future are positions before the end.
//! - [`check_settled`](super::Broker::check_settled) returns the id of the end.
//! - A position after the end is contiguous and has no events.
//!   [`is_ended`](super::Broker::is_ended) returns true for it.
//! - Watchers are notified of an end and of a deletion as of an append.
//!
//! A deletion removes the channel in one step that is small, whatever the channel holds: its events,
//! keys and settings are neither read nor counted any more. A [`Tombstone`] remains for
//! [`TOMBSTONE_LIFE`]. Space is freed later, in bounded steps.
//!
//! Time is the log's clock. `ttl` counts from the last write of an open channel, `ttl_closed` from
//! the end. A channel with keys that have not expired is not due. An index of due channels holds
//! lower bounds: a write does not update it, and a channel that comes up is checked in its own step,
//! and then expires or is indexed again.

mod calls;
mod classes;
mod clock_guard;
mod description;
mod due_index;
mod end;
mod gate;
mod life;
mod settings;
mod tombstone;
mod write;

use std::time::Duration;

pub use self::{
    calls::Configured,
    classes::{AfterDelete, ChannelClass, Classes, CreateRule, Effective},
    description::{ChannelDescription, ChannelState, ListPage, ListQuery},
    end::{CloseReason, DELETED, END, EndMark, InvalidReason, wire_kind},
    settings::{ChannelSettings, SettingSource},
    tombstone::{Tombstone, TombstoneRead},
    write::{Condition, Incarnation, Write, Written},
};

pub(crate) use self::end::is_control;
pub(in crate::broker) use self::{
    clock_guard::ClockGuard,
    due_index::DueIndex,
    gate::{Existing, Gate},
    life::ChannelLife,
};

/// How long a tombstone is kept, by the log's clock.
pub const TOMBSTONE_LIFE: Duration = Duration::from_hours(24);
/// Channels that one page of a list examines at most.
pub const LIST_PAGE_MAX: usize = 1000;
/// Channels that expire per second at most.
pub const EXPIRE_PER_SECOND_MAX: usize = 10_000;
