//! The output of a run.
//!
//! | module | output |
//! |---|---|
//! | [`stats`] | counters and latencies, which the other modules show |
//! | [`summary`] | the summary at the end |
//! | [`json`] | the file of `--report` |
//! | [`record`] | the file of `--record` |
//! | [`status_lines`] | stdout: one status code per line |
//! | [`failure_log`] | messages about failures, at most one per kind and second |
//! | [`progress`] | the progress, as a bar or as lines |
//! | [`stderr`] | stderr: those messages and the progress, on a thread |

pub(crate) mod failure_log;
pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod stats;
pub(crate) mod status_lines;
pub(crate) mod stderr;
mod summary;
