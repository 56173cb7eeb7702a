//! The first names of a range, over all slots.
//!
//! A single Redis has all names in order. In a Redis Cluster, each slot replies with its own first
//! names, and they are merged. Names are spread over 16 384 slots, so a few names of each slot are
//! enough for a page. A slot that may have more of them is asked again.

use redis::Cmd;

use super::{
    read_gate::ReadKind,
    replies::parse_reply,
    slots::{Slot, Slots},
    streams::Streams,
};
use crate::broker::BrokerError;

/// Names that each slot of a Redis Cluster is asked for at first.
const FIRST_PART: usize = 2;

impl Streams {
    /// Returns up to `limit` names of the range, in order.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no primary replies.
    pub(super) async fn first_names(
        &self,
        kind: ReadKind,
        (from, to): (String, String),
        limit: usize,
    ) -> Result<Vec<String>, BrokerError> {
        let part = match self.names.slots() {
            Slots::One => limit,
            Slots::Cluster => FIRST_PART.min(limit),
        };
        let command = |slot| self.names_command(slot, &from, &to, part);
        let mut of_slots = Vec::new();
        for (slot, reply) in self.shards.each_slot_in_turn(kind, command).await? {
            of_slots.push((slot, parse_reply::<Vec<String>>(reply)?));
        }
        let more = slots_with_more(&of_slots, part, limit);
        let mut names: Vec<String> = of_slots.into_iter().flat_map(|(_, names)| names).collect();
        let commands = more.into_iter();
        let commands = commands.map(|(slot, last)| {
            let from = format!("({last}");
            (slot, self.names_command(slot, &from, &to, limit))
        });
        for reply in self.shards.each_command(commands.collect()).await? {
            names.extend(parse_reply::<Vec<String>>(reply)?);
        }
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    fn names_command(&self, slot: Slot, from: &str, to: &str, limit: usize) -> Cmd {
        let mut command = redis::cmd("ZRANGEBYLEX");
        command.arg(self.names.index(slot)).arg(from).arg(to);
        command.arg("LIMIT").arg(0).arg(limit);
        command
    }
}

/// The slots of which more than `part` names may be among the first `limit` ones of all, each with the
/// last name that is known.
fn slots_with_more(
    of_slots: &[(Slot, Vec<String>)],
    part: usize,
    limit: usize,
) -> Vec<(Slot, String)> {
    if part >= limit {
        return Vec::new();
    }
    let mut names: Vec<&String> = of_slots.iter().flat_map(|(_, names)| names).collect();
    names.sort_unstable();
    let bound = names.get(limit - 1);
    let may_have_more = |last: &&String| bound.is_none_or(|bound| *last < *bound);
    let last_of = |(slot, names): &(Slot, Vec<String>)| {
        let last = names.last().filter(|_| names.len() >= part)?;
        may_have_more(&last).then(|| (*slot, last.clone()))
    };
    of_slots.iter().filter_map(last_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_asked_again_if_its_next_name_may_be_on_the_page() {
        let slots = [["a", "b"], ["c", "x"], ["d", "y"]];
        let numbered = slots.iter().zip(0..);
        let of_slots: Vec<(Slot, Vec<String>)> = numbered
            .map(|(names, slot)| (Slot::new(slot), names.map(str::to_owned).to_vec()))
            .collect();
        let asked = |limit| {
            let more = slots_with_more(&of_slots, 2, limit);
            more.into_iter().map(|(_, last)| last).collect::<Vec<_>>()
        };
        assert_eq!(asked(2), Vec::<String>::new());
        assert_eq!(asked(4), ["b"]);
        assert_eq!(asked(6), ["b", "x"]);
        assert_eq!(asked(7), ["b", "x", "y"]);
    }
}
