//! `/admin`: what operators see and do.
//!
//! | file | route |
//! |---|---|
//! | `streams` | `GET` and `DELETE /admin/streams`, `DELETE /admin/streams/{id}` |
//! | `backup` | `POST` and `GET /admin/backup` |
//! | `log` | `GET /admin/log/channels`, `/admin/log/records`, `/admin/log/revocations` |
//! | `revocations` | `POST /admin/revocations` |
//! | `busiest` | `GET /admin/channels/busiest` |
//! | `stats` | `GET /admin/stats` |
//! | `events` | `GET /admin/events`: the feed of the dashboard |
//! | `trace` | `GET /admin/trace` |
//! | `nodes` | `GET /admin/nodes`, and the reports of this node |
//! | `settings`, `printed_settings` | `GET /admin/settings` |
//! | `access` | `POST /admin/access`: what a credential grants |
//! | `page` | `GET /` for browsers: the dashboard, and its files |
//! | `dashboard` | what all dashboards share, and the task that feeds them |
//! | `feed_places` | how many dashboards and traces may be open |
//! | `lag` | how far streams are behind |
//! | `samples`, `problems` | the last 15 minutes; sentences about what is wrong now |
//! | `permission` | who may use these routes if there are no access rules |

pub(crate) mod access;
pub(crate) mod backup;
pub(crate) mod busiest;
pub(crate) mod dashboard;
pub(crate) mod events;
mod feed_places;
mod lag;
pub(crate) mod log;
pub(crate) mod nodes;
pub(crate) mod page;
pub(crate) mod permission;
pub(crate) mod printed_settings;
mod problems;
pub(crate) mod revocations;
mod samples;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod streams;
pub(crate) mod trace;
