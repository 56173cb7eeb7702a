//! Events on their way out: stdout, the record file, the state file; messages on stderr.
//!
//! | module | holds |
//! |---|---|
//! | [`delivery`] | each event is recorded, printed and counted |
//! | [`printer`] | the events on stdout, in the format of `--format` |
//! | [`batch`] | a write to stdout, and the position stored after it |
//! | [`exec`] | the command of `--exec`, which handles events instead |
//! | `until_end` | whether the channels have ended, for `--until-end` |
//! | [`raw_blocks`] | whole blocks of raw bytes, for `--format raw` |
//! | [`stdout`] | whether stdout is still read, and whether its data is on disk |
//! | [`state_file`] | the file of `--state`, which keeps the last event id between runs |
//! | [`state_stream`] | the stream to which that id belongs |
//! | [`record`] | the file of `--record`, from which loss is counted |
//! | [`stderr`] | messages for people |

pub mod batch;
pub mod delivery;
pub mod exec;
pub mod printer;
pub mod raw_blocks;
pub mod record;
pub mod state_file;
pub mod state_stream;
pub mod stderr;
pub mod stdout;
mod until_end;
