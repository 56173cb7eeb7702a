//! Cases of the state file.

use super::*;

/// Opens a file without a stream, as files of earlier versions are.
fn open(path: &Path) -> Result<StateFile, StateError> {
    StateFile::open(path, StateStream::default())
}

fn stream(urls: &[&str], channels: &[&str]) -> StateStream {
    let to_texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    StateStream::new(to_texts(urls), to_texts(channels))
}

#[test]
fn a_stored_id_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.state");
    assert_eq!(open(&path).unwrap().last_event_id(), None);
    for id in ["", "1700-0", "a \"b\" é"] {
        open(&path).unwrap().save_id(id).unwrap();
        assert_eq!(open(&path).unwrap().last_event_id(), Some(id));
    }
    assert!(!directory.path().join("orders.state.new").exists());
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(
        text,
        "{\"last_event_id\":\"a \\\"b\\\" é\",\"clean\":true}\n"
    );
}

#[test]
fn the_output_may_be_torn_until_it_is_marked_complete() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    fs::write(&path, "{\"last_event_id\":\"1-0\"}").unwrap();
    let mut state = open(&path).unwrap();
    assert!(!state.is_torn());
    state.begin_write().unwrap();
    state.save_id("2-0").unwrap();
    drop(state);
    let mut state = open(&path).unwrap();
    assert!(state.is_torn() && state.last_event_id() == Some("2-0"));
    state.mark_complete().unwrap();
    drop(state);
    assert!(!open(&path).unwrap().is_torn());
}

#[test]
fn a_file_belongs_to_one_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(StateError::InUse { .. })));
    drop(first);
    assert!(open(&path).is_ok());
}

#[cfg(unix)]
#[test]
fn permissions_are_preserved_and_those_of_a_new_file_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = directory.path().join("state");
    open(&path).unwrap().save_id("1-0").unwrap();
    assert_eq!(mode(&path), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    open(&path).unwrap().save_id("2-0").unwrap();
    assert_eq!(mode(&path), 0o640);
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_not_followed() {
    use std::os::unix::fs::symlink;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let content = "{\"last_event_id\":\"1-0\"}";
    fs::write(file("victim"), content).unwrap();
    for link in ["state", "state.lock", "state.new"] {
        let _ = fs::remove_file(file(link));
        symlink(file("victim"), file(link)).unwrap();
        let stored = open(&file("state")).and_then(|mut state| state.save_id("2-0"));
        let error = stored.expect_err(link);
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("symbolic link"), "{link}: {cause}");
        fs::remove_file(file(link)).unwrap();
    }
    assert_eq!(fs::read_to_string(file("victim")).unwrap(), content);
}

#[test]
fn other_content_is_rejected_and_preserved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    for foreign in ["", "1700-0\n", "{}", "[1]"] {
        fs::write(&path, foreign).unwrap();
        let error = open(&path).unwrap_err();
        assert!(
            matches!(error, StateError::Foreign { .. }),
            "{foreign:?}: {error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
    }
}

#[test]
fn the_position_of_another_stream_is_rejected_and_preserved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let orders = || stream(&["http://a/stream", "http://b/stream"], &["orders"]);
    StateFile::open(&path, orders())
        .unwrap()
        .save_id("1-0")
        .unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for other in [
        stream(&["http://c/stream"], &["orders"]),
        stream(&["http://a/stream"], &["users"]),
        stream(&["http://a/stream"], &[]),
    ] {
        let error = StateFile::open(&path, other).unwrap_err();
        assert!(matches!(error, StateError::OtherStream { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let message = StateFile::open(&path, stream(&["http://c/stream"], &["users"])).unwrap_err();
    assert!(
        message.to_string().contains(
            "is for channel orders of http://a/stream and http://b/stream, not for channel users of http://c/stream"
        ),
        "{message}"
    );
    // A node was added, and another one removed.
    let moved = stream(&["http://b/stream", "http://c/stream"], &["orders"]);
    let mut state = StateFile::open(&path, moved).unwrap();
    assert_eq!(state.last_event_id(), Some("1-0"));
    state.save_id("2-0").unwrap();
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .contains("http://c/stream")
    );
}

#[test]
fn a_file_without_a_stream_is_accepted_and_gets_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    fs::write(&path, "{\"last_event_id\":\"1-0\",\"clean\":true}\n").unwrap();
    let mut state = StateFile::open(&path, stream(&["http://a/s"], &[])).unwrap();
    assert_eq!(state.last_event_id(), Some("1-0"));
    state.save_id("2-0").unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "{\"last_event_id\":\"2-0\",\"clean\":true,\"urls\":[\"http://a/s\"]}\n"
    );
}

#[test]
fn an_unwritable_path_is_reported_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let error = open(&directory.path().join("absent").join("state")).unwrap_err();
    assert!(matches!(error, StateError::Write { .. }), "{error}");
    assert!(matches!(
        open(directory.path()),
        Err(StateError::Read { .. })
    ));
    fs::remove_file(sibling_path(
        &fs::canonicalize(directory.path()).unwrap(),
        ".lock",
    ))
    .unwrap();
}
