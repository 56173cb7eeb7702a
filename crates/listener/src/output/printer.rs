//! stdout: what was received and nothing else, in the format that the user wants.
//!
//! Events gather in a batch, which is written and flushed as one. The write happens on a thread of its own, so that
//! a reader who has stopped reading does not keep the listener from hearing a signal. What must not be done before it,
//! keeping the last event id, is done by the same thread after it: neither is left half-way when the listener stops.

use std::{
    io::{self, IsTerminal, Write},
    mem,
};

use anstyle::{AnsiColor, Style};
use sse_cli::terminal;

use crate::{
    decode::decoder::Event,
    output::{
        raw_blocks::RawBlocks,
        state_file::{StateError, StateFile},
        stdout,
    },
    settings::follow::Format,
};

const KIND: Style = AnsiColor::Cyan.on_default().bold();
const COMMENT: Style = Style::new().dimmed();

/// Prints what was received on stdout.
#[derive(Debug)]
pub struct Printer {
    format: Format,
    raw: RawBlocks,
    /// stdout is a terminal: control characters are made visible.
    terminal: bool,
    /// It is one with colours, and the user has nothing against them (`NO_COLOR`).
    colours: bool,
    batch: Batch,
}

/// What the thread that writes takes and gives back.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    state: Option<StateFile>,
}

/// What was received cannot be handed on.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// stdout does not take it.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// It was written, but that cannot be noted.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Printer {
    /// Prints in this format, and keeps in this file how far it is.
    #[must_use]
    pub fn new(format: Format, state: Option<StateFile>) -> Self {
        // The last run may have left half a line, which ends here. In raw bytes nothing can end it.
        let is_torn = format != Format::Raw && state.as_ref().is_some_and(StateFile::is_torn);
        let bytes = if is_torn { b"\n".to_vec() } else { Vec::new() };
        let stdout = io::stdout();
        let colours = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        Self {
            format,
            raw: RawBlocks::default(),
            terminal: stdout.is_terminal(),
            colours: stdout.is_terminal() && colours,
            batch: Batch { bytes, state },
        }
    }

    /// The next connection has begun.
    pub fn start_connection(&mut self) {
        self.raw.start_connection();
    }

    /// Takes the bytes in which the next events are.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if self.format == Format::Raw {
            self.raw.push(bytes);
        }
    }

    /// Adds an event to the batch; as raw bytes, up to its end.
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
            // Refused with these settings, or there already.
            Format::Data | Format::Raw => {}
        }
    }

    /// Up to here, in bytes since the connection's start, nothing is unfinished.
    pub fn add_raw_up_to(&mut self, end: u64) {
        if self.format == Format::Raw {
            let bytes = &mut self.batch.bytes;
            let start = bytes.len();
            self.raw.drain_up_to(end, bytes);
            if self.terminal {
                let text = String::from_utf8_lossy(&bytes.split_off(start)).into_owned();
                bytes.extend_from_slice(terminal::visible(&text).as_bytes());
            }
        }
    }

    /// Bytes that wait for the end of their block.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.raw.held_bytes()
    }

    /// Writes the batch, and then keeps the last event id, if it is given and there is a state file.
    ///
    /// # Errors
    /// See [`OutputError`]; the kind of the error is [`io::ErrorKind::BrokenPipe`] when the reader of stdout has gone.
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

    /// The end: what was printed is whole, unless a write was given up in the middle or has failed.
    ///
    /// # Errors
    /// That cannot be noted in the state file.
    pub fn close(&mut self) -> Result<(), OutputError> {
        // It is where the write is, if one is still under way.
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
        if self.colours {
            format!("{style}{text}{style:#}")
        } else {
            text
        }
    }

    fn printable(&self, text: &str) -> String {
        if self.terminal {
            terminal::visible(text).into_owned()
        } else {
            text.to_owned()
        }
    }

    fn printable_json(&self, json: String) -> String {
        if self.terminal {
            terminal::visible_json(&json).into_owned()
        } else {
            json
        }
    }
}

fn to_json(event: &Event) -> String {
    serde_json::to_string(event).expect("three strings are always JSON")
}

impl Batch {
    /// There is a state file, with another id.
    fn needs_save(&self, last_event_id: &str) -> bool {
        self.state
            .as_ref()
            .is_some_and(|state| state.last_event_id() != Some(last_event_id))
    }

    /// Writes the bytes, then the id; its memory serves for the next batch.
    fn write_and_save(mut self, last_event_id: Option<&str>) -> Result<Self, OutputError> {
        if !self.bytes.is_empty() {
            if let Some(state) = &mut self.state {
                state.begin_write()?;
            }
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(&self.bytes)
                .and_then(|()| stdout.flush())
                .map_err(OutputError::Stdout)?;
            if self.state.is_some() {
                stdout::sync_to_disk().map_err(OutputError::Stdout)?;
            }
        }
        if let (Some(state), Some(id)) = (&mut self.state, last_event_id) {
            state.save_id(id)?;
        }
        self.bytes.clear();
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(format: Format, terminal: bool) -> Printer {
        Printer {
            format,
            raw: RawBlocks::default(),
            terminal,
            colours: false,
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
    fn text_is_the_tutorials_two_lines() {
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
    fn json_is_one_line_with_its_keys_in_order() {
        let line = printed(Format::Json, false, "a\n\"b\"");
        assert_eq!(
            line,
            "{\"id\":\"1-0\",\"event\":\"click\",\"data\":\"a\\n\\\"b\\\"\"}\n"
        );
    }

    #[test]
    fn data_is_the_data_alone() {
        assert_eq!(printed(Format::Data, false, "a\nb"), "a\nb\n");
    }

    #[test]
    fn raw_is_what_came_up_to_the_end_of_an_event() {
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
    fn comments_have_their_place_in_text_and_json() {
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
    fn colours_are_round_the_type_only() {
        let mut output = Printer {
            colours: true,
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
    fn only_a_terminal_is_protected() {
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
