//! stdout: events and nothing else, as text or as JSON.
//!
//! Events gather in a batch, which is written and flushed as one. The write happens on a thread of its own, so that
//! a reader who has stopped reading does not keep the listener from hearing a signal.

use std::{
    io::{self, IsTerminal, Write},
    mem,
};

use crate::{settings::Format, stream::Event, terminal};

/// Prints events on stdout.
#[derive(Debug)]
pub struct Output {
    format: Format,
    /// stdout is a terminal: control characters are made visible.
    terminal: bool,
    batch: Vec<u8>,
}

impl Output {
    /// Prints in this format.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, terminal: io::stdout().is_terminal(), batch: Vec::new() }
    }

    /// Adds an event to the batch.
    pub fn add(&mut self, event: &Event) {
        let text = match self.format {
            Format::Text => self.shown(text(event)),
            Format::Json => self.shown_json(json(event)),
        };
        self.batch.extend_from_slice(text.as_bytes());
    }

    /// Writes the batch.
    ///
    /// # Errors
    /// stdout does not take it; [`io::ErrorKind::BrokenPipe`] when its reader has gone.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = mem::take(&mut self.batch);
        let writing = tokio::task::spawn_blocking(move || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&batch)?;
            stdout.flush()?;
            Ok::<_, io::Error>(batch)
        });
        // Its memory serves for the next batch.
        self.batch = writing.await.map_err(io::Error::other)??;
        self.batch.clear();
        Ok(())
    }

    fn shown(&self, text: String) -> String {
        if self.terminal { terminal::visible(&text).into_owned() } else { text }
    }

    fn shown_json(&self, json: String) -> String {
        if self.terminal { terminal::visible_json(&json).into_owned() } else { json }
    }
}

/// The tutorial's two lines: `print(f"event: {event.event} \ndata: {event.data}")`.
fn text(event: &Event) -> String {
    format!("event: {} \ndata: {}\n", event.kind, event.data)
}

fn json(event: &Event) -> String {
    serde_json::to_string(event).expect("three strings are always JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, terminal: bool, data: &str) -> String {
        let event = Event { id: "1-0".to_owned(), kind: "click".to_owned(), data: data.to_owned() };
        let mut output = Output { format, terminal, batch: Vec::new() };
        output.add(&event);
        String::from_utf8(output.batch).unwrap()
    }

    #[test]
    fn text_is_the_tutorials_two_lines() {
        assert_eq!(printed(Format::Text, false, "\"a\""), "event: click \ndata: \"a\"\n");
        assert_eq!(printed(Format::Text, false, "a\nb"), "event: click \ndata: a\nb\n");
        assert_eq!(printed(Format::Text, false, ""), "event: click \ndata: \n");
    }

    #[test]
    fn json_is_one_line_with_its_keys_in_order() {
        let line = printed(Format::Json, false, "a\n\"b\"");
        assert_eq!(line, "{\"id\":\"1-0\",\"event\":\"click\",\"data\":\"a\\n\\\"b\\\"\"}\n");
    }

    #[test]
    fn only_a_terminal_is_protected() {
        assert_eq!(printed(Format::Text, true, "\x1b[2J\ta"), "event: click \ndata: \u{fffd}[2J\ta\n");
        assert_eq!(printed(Format::Text, false, "\x1b[2J\ta"), "event: click \ndata: \x1b[2J\ta\n");
        assert!(printed(Format::Json, true, "\u{9b}").contains(r"\u009b"));
        assert!(printed(Format::Json, false, "\u{9b}").contains('\u{9b}'));
    }
}
