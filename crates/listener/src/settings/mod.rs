//! Every setting of the listener, from the command line or the environment, checked once.
//!
//! Each flag has an environment variable of the same name after `LISTENER_` (of `listener bench`:
//! after `LISTENER_BENCH_`). The flag overrides the variable.
//!
//! | module | holds |
//! |---|---|
//! | [`command_line`] | the commands |
//! | [`follow`], [`load`] | the settings for following a stream, and of `listener bench` |
//! | [`exec`] | those of `--exec` |
//! | [`target`] | what both share: URLs, the request and its filter |
//! | [`url_list`], [`stream_url`], [`header`], [`last_event_id`], [`body`] | the parts of the request |
//! | `load_help` | texts of the help of `listener bench` |
//! | `values` | parsers of values |

pub mod body;
pub mod command_line;
pub mod exec;
pub mod follow;
pub mod header;
pub mod last_event_id;
pub mod load;
mod load_help;
pub mod stream_url;
pub mod target;
pub mod url_list;
mod values;
