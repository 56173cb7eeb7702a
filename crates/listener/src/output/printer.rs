//! Prints the received events on stdout, in the format of `--format`.
//!
//! Events are collected in a batch, which is written and flushed as one. The write runs on a
//! thread of its own, so that the listener can react to a signal even if the reader of stdout has
//! stopped reading. The same thread stores the last event id after the write, so that a listener
//! that stops leaves neither half-done:
//!
//! ```text
//! events ─► batch ─► begin_write (state: incomplete) ─► write, flush, sync ─► save_id
//! ```

use std::{
    io::{self, IsTerminal},
    mem,
};

use anstyle::{AnsiColor, Style};
use sse_cli::terminal;

use crate::{
    decode::decoder::Event,
    output::{
        batch::{Batch, OutputError},
        raw_blocks::RawBlocks,
        state_file::StateFile,
    },
    settings::follow::Format,
};

const KIND: Style = AnsiColor::Cyan.on_default().bold();
const COMMENT: Style = Style::new().dimmed();

/// Prints events and comments on stdout.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    raw: RawBlocks,
    /// stdout is a terminal, so control characters are made visible.
    is_terminal: bool,
    /// The terminal supports colours, and `NO_COLOR` does not disable them.
    has_colours: bool,
    batch: Batch,
}

impl Printer {
    /// Prints in this format, and stores the position in the state file.
    #[must_use]
    pub fn new(format: Format, state: Option<StateFile>) -> Self {
        // End the line that a crash of the last run may have left unfinished. Raw bytes have no
        // such end.
        let is_torn = format != Format::Raw && state.as_ref().is_some_and(StateFile::is_torn);
        let bytes = if is_torn { b"\n".to_vec() } else { Vec::new() };
        let stdout = io::stdout();
        let colours = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        Self {
            format,
            raw: RawBlocks::default(),
            is_terminal: stdout.is_terminal(),
            has_colours: stdout.is_terminal() && colours,
            batch: Batch { bytes, state },
        }
    }

    /// Begins a connection: drops the bytes of an unfinished block.
    pub fn start_connection(&mut self) {
        self.raw.start_connection();
    }

    /// Adds received bytes, of which [`add_raw_up_to`](Self::add_raw_up_to) prints whole blocks.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if self.format == Format::Raw {
            self.raw.push(bytes);
        }
    }

    /// Adds an event to the batch. In raw format, adds the bytes up to the end of the event.
    pub fn add_event(&mut self, event: &Event) {
        match self.format {
            Format::Text => {
                // The tutorial's two lines: `print(f"event: {event.event} \ndata: {event.data}")`.
                let (kind, data) = (
                    self.with_colour(KIND, self.printable(&event.kind)),
                    self.printable(&event.data),
                );
                self.add_line(&format!("event: {kind} \ndata: {data}"));
            }
            Format::Json => {
                self.add_line(&self.printable_json(to_json(event)));
            }
            Format::Data => self.add_line(&self.printable(&event.data)),
            Format::Raw => self.add_raw_up_to(event.end),
        }
    }

    /// Adds a comment to the batch.
    pub fn add_comment(&mut self, text: &str) {
        match self.format {
            Format::Text => {
                self.add_line(&self.with_colour(COMMENT, format!(": {}", self.printable(text))));
            }
            Format::Json => {
                let json = serde_json::json!({ "comment": text }).to_string();
                self.add_line(&self.printable_json(json));
            }
            // The settings reject comments in data format; raw bytes contain them.
            Format::Data | Format::Raw => {}
        }
    }

    /// In raw format, adds the received bytes up to `end`, counted from the start of the
    /// connection.
    pub fn add_raw_up_to(&mut self, end: u64) {
        if self.format == Format::Raw {
            let bytes = &mut self.batch.bytes;
            let start = bytes.len();
            self.raw.drain_up_to(end, bytes);
            if self.is_terminal {
                let text = String::from_utf8_lossy(&bytes.split_off(start)).into_owned();
                bytes.extend_from_slice(terminal::visible(&text).as_bytes());
            }
        }
    }

    /// Number of bytes that wait for the end of their block.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.raw.held_bytes()
    }

    /// Writes the batch, then stores `last_event_id` if there is a state file.
    ///
    /// # Errors
    /// See [`OutputError`]. The kind of the error is [`io::ErrorKind::BrokenPipe`] if stdout is a
    /// closed pipe.
    pub async fn flush(&mut self, last_event_id: Option<&str>) -> Result<(), OutputError> {
        let last_event_id = last_event_id.filter(|id| self.batch.needs_save(id));
        if self.batch.bytes.is_empty() && last_event_id.is_none() {
            return Ok(());
        }
        let (batch, last_event_id) = (
            mem::take(&mut self.batch),
            last_event_id.map(ToOwned::to_owned),
        );
        let writing =
            tokio::task::spawn_blocking(move || batch.write_and_save(last_event_id.as_deref()));
        self.batch = writing
            .await
            .map_err(|error| OutputError::Stdout(io::Error::other(error)))??;
        Ok(())
    }

    /// Marks the output as complete in the state file, unless a write is still running or has
    /// failed.
    ///
    /// # Errors
    /// The state file cannot be written.
    pub fn close(&mut self) -> Result<(), OutputError> {
        // A write that is still running owns the state file.
        match &mut self.batch.state {
            Some(state) => Ok(state.mark_complete()?),
            None => Ok(()),
        }
    }

    fn add_line(&mut self, text: &str) {
        self.batch.bytes.extend_from_slice(text.as_bytes());
        self.batch.bytes.push(b'\n');
    }

    fn with_colour(&self, style: Style, text: String) -> String {
        if self.has_colours {
            format!("{style}{text}{style:#}")
        } else {
            text
        }
    }

    fn printable(&self, text: &str) -> String {
        if self.is_terminal {
            terminal::visible(text).into_owned()
        } else {
            text.to_owned()
        }
    }

    fn printable_json(&self, json: String) -> String {
        if self.is_terminal {
            terminal::visible_json(&json).into_owned()
        } else {
            json
        }
    }
}

/// Returns the event as one line of JSON, with the keys id, event and data.
pub(super) fn to_json(event: &Event) -> String {
    serde_json::to_string(event).expect("three strings are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(format: Format, is_terminal: bool) -> Printer {
        Printer {
            format,
            raw: RawBlocks::default(),
            is_terminal,
            has_colours: false,
            batch: Batch::default(),
        }
    }

    fn text(output: Printer) -> String {
        String::from_utf8(output.batch.bytes).unwrap()
    }

    fn printed(format: Format, terminal: bool, data: &str) -> String {
        let mut output = output(format, terminal);
        let (id, kind) = ("1-0".to_owned(), "click".to_owned());
        output.add_event(&Event {
            id,
            kind,
            data: data.to_owned(),
            end: 0,
        });
        text(output)
    }

    #[test]
    fn text_format_is_the_two_lines_of_the_tutorial() {
        assert_eq!(
            printed(Format::Text, false, "\"a\""),
            "event: click \ndata: \"a\"\n"
        );
        assert_eq!(
            printed(Format::Text, false, "a\nb"),
            "event: click \ndata: a\nb\n"
        );
        assert_eq!(printed(Format::Text, false, ""), "event: click \ndata: \n");
    }

    #[test]
    fn json_format_is_one_line_with_its_keys_in_order() {
        let line = printed(Format::Json, false, "a\n\"b\"");
        assert_eq!(
            line,
            "{\"id\":\"1-0\",\"event\":\"click\",\"data\":\"a\\n\\\"b\\\"\"}\n"
        );
    }

    #[test]
    fn data_format_is_the_data_and_a_line_end() {
        assert_eq!(printed(Format::Data, false, "a\nb"), "a\nb\n");
    }

    #[test]
    fn raw_format_is_the_bytes_up_to_the_end_of_an_event() {
        let mut raw = output(Format::Raw, false);
        raw.push_bytes(b": x\ndata:a\r\n\r\ndata: b");
        raw.add_raw_up_to(4);
        raw.add_event(&Event {
            end: 14,
            ..Event::default()
        });
        assert_eq!(
            (raw.held_bytes(), text(raw).as_str()),
            (7, ": x\ndata:a\r\n\r\n")
        );
    }

    #[test]
    fn comments_are_printed_in_text_and_json() {
        for (format, shown) in [
            (Format::Text, ": a b\n"),
            (Format::Json, "{\"comment\":\"a b\"}\n"),
            (Format::Raw, ""),
        ] {
            let mut output = output(format, false);
            output.add_comment("a b");
            assert_eq!(text(output), shown);
        }
    }

    #[test]
    fn only_the_type_is_coloured() {
        let mut output = Printer {
            has_colours: true,
            ..output(Format::Text, true)
        };
        output.add_event(&Event {
            kind: "click".to_owned(),
            data: "a".to_owned(),
            ..Event::default()
        });
        assert_eq!(
            text(output),
            "event: \x1b[1m\x1b[36mclick\x1b[0m \ndata: a\n"
        );
    }

    #[test]
    fn control_characters_are_replaced_only_on_a_terminal() {
        assert_eq!(
            printed(Format::Text, true, "\x1b[2J\ta"),
            "event: click \ndata: \u{fffd}[2J\ta\n"
        );
        assert_eq!(
            printed(Format::Text, false, "\x1b[2J\ta"),
            "event: click \ndata: \x1b[2J\ta\n"
        );
        assert!(printed(Format::Json, true, "\u{9b}").contains(r"\u009b"));
        assert!(printed(Format::Json, false, "\u{9b}").contains('\u{9b}'));
        let mut raw = output(Format::Raw, true);
        raw.push_bytes(b"data: \x1b[2J\xFF\n\n");
        raw.add_raw_up_to(13);
        assert_eq!(text(raw), "data: \u{fffd}[2J\u{fffd}\n\n");
    }
}
