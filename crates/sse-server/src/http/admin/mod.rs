//! `/admin`: what operators see and do.
//!
//! | file | route |
//! |---|---|
//! | `streams` | `GET` and `DELETE /admin/streams`, `DELETE /admin/streams/{id}` |
//! | `revocations` | `POST /admin/revocations` |
//! | `permission` | who may use these routes if there are no access rules |

pub(crate) mod permission;
pub(crate) mod revocations;
pub(crate) mod streams;
