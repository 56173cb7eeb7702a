//! Reads `INFO` of Redis: its version, and which history of the data it is on.

use redis::{Cmd, RedisResult};

use super::{dial::CommandConnection, errors::is_connection_failure};

/// Oldest version of Redis that has exclusive ranges and trimming by id.
const VERSION_MIN: (u32, u32) = (6, 2);

/// Reads a section of `INFO`. The text is empty if this user may not read the section.
///
/// # Errors
///
/// The connection failed.
pub(super) async fn read_section(
    connection: &mut CommandConnection,
    section: &str,
) -> RedisResult<String> {
    empty_if_rejected(info_command(section).query_async(connection).await)
}

pub(super) fn info_command(section: &str) -> Cmd {
    let mut command = redis::cmd("INFO");
    command.arg(section);
    command
}

fn empty_if_rejected(reply: RedisResult<String>) -> RedisResult<String> {
    match reply {
        Err(error) if is_connection_failure(&error) => Err(error),
        reply => Ok(reply.unwrap_or_default()),
    }
}

/// Returns the value of a line `name:value` of `INFO`.
pub(super) fn info_value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// Returns the version in section `server` if it is older than 6.2.
///
/// A version that cannot be read is accepted, because this user may lack the right to read it.
pub(super) fn unsupported_version(server_info: &str) -> Option<&str> {
    let version = info_value(server_info, "redis_version")?;
    (parse_version(version) < VERSION_MIN).then_some(version)
}

fn parse_version(version: &str) -> (u32, u32) {
    let mut parts = version.split('.');
    (parse_number(parts.next()), parse_number(parts.next()))
}

/// A part that is missing or not a number counts as 0.
fn parse_number(part: Option<&str>) -> u32 {
    part.and_then(|part| part.parse().ok()).unwrap_or(0)
}

/// The replication id of a Redis. It changes when the Redis may lack events.
///
/// A replica has the replication id of its primary. When it is promoted it gets a new id, and it
/// may lack data that the old primary had. `None` if this user may not read `INFO`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplicationId(Option<String>);

impl ReplicationId {
    /// # Errors
    ///
    /// The connection failed.
    pub(super) async fn read(connection: &mut CommandConnection) -> RedisResult<Self> {
        let info = read_section(connection, "replication").await?;
        Ok(Self(
            info_value(&info, "master_replid").map(ToOwned::to_owned),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_whole_name_of_its_line() {
        let info = "# Server\r\nredis_version_x:1\r\nredis_version:7.0.15\r\n";
        assert_eq!(info_value(info, "redis_version"), Some("7.0.15"));
        assert_eq!(info_value(info, "redis"), None);
        assert_eq!(info_value("", "redis_version"), None);
    }

    #[test]
    fn versions_before_6_2_are_unsupported_and_an_unknown_one_is_not() {
        let unsupported =
            |version: &str| unsupported_version(&format!("redis_version:{version}\r\n")).is_some();
        for old in ["5.0.14", "6.0.20", "6", "x"] {
            assert!(unsupported(old), "{old}");
        }
        for new in ["6.2.0", "7.0.15", "10.0"] {
            assert!(!unsupported(new), "{new}");
        }
        assert_eq!(unsupported_version("# Server\r\n"), None);
    }
}
