//! The report of a run: the faults by kind with their effect, the figures, and the broken
//! guarantees.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    checker::{Breach, Breaches, Figures},
    faults::Effect,
    lifecycles,
    plan::Fault,
};

/// A run with fewer acknowledged events proves little.
const EVENTS_MIN: u64 = 1_000;
/// Largest allowed percentage of events that lie in gaps.
const GAPS_PERCENT_MAX: u64 = 1;

/// The results of a run.
#[derive(Debug)]
pub(crate) struct Report {
    /// The kinds of faults that the run must include.
    pub(crate) kinds: Vec<Fault>,
    pub(crate) effects: BTreeMap<Fault, Effect>,
    pub(crate) figures: Figures,
    /// Publishes that were rejected.
    pub(crate) refused: u64,
    pub(crate) behind_tail: u64,
    pub(crate) gave_up: u64,
    pub(crate) listeners: Vec<String>,
    /// Channels that ended meanwhile; `None` in a run with an injected fault.
    pub(crate) lives: Option<lifecycles::Figures>,
    /// Skipped parts, with the reason.
    pub(crate) skipped: Vec<String>,
    pub(crate) breaches: Breaches,
}

impl Report {
    /// Adds a breach per expected effect that is missing; for runs that are long enough.
    pub(crate) fn demand_effects(&mut self, idle: impl IntoIterator<Item = String>) {
        let without_effect = self
            .kinds
            .iter()
            .filter(|kind| self.effects.get(kind).is_none_or(|effect| effect.sum == 0));
        let mut missing: Vec<String> = without_effect
            .map(|kind| format!("this kind of fault had no effect: {}", kind.name()))
            .collect();
        missing.extend(idle);
        if self.lives.as_ref().is_some_and(|lives| lives.ended == 0) {
            missing.push("no channel ended".to_owned());
        }
        if self.behind_tail == 0 {
            missing.push("no listener fell behind the tail".to_owned());
        }
        if self.figures.acknowledged < EVENTS_MIN {
            missing.push(format!(
                "{} events are too few to prove anything",
                self.figures.acknowledged
            ));
        }
        self.breaches.add_all(Breach::Trouble, missing);
    }

    /// Adds a breach if too many events lie in gaps: gaps alone would be no useful guarantee.
    pub(crate) fn demand_few_gaps(&mut self) {
        if self.figures.in_gaps * 100 > self.figures.due * GAPS_PERCENT_MAX {
            let what = format!(
                "{} of {} events lie in gaps",
                self.figures.in_gaps, self.figures.due
            );
            self.breaches.add(Breach::Trouble, what);
        }
    }

    /// Returns the text of the report.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| {
            // Writing to a `String` never fails.
            let _ = writeln!(text, "{line}");
        };
        if !self.kinds.is_empty() {
            line(format!("{:<32} {:>5}   effect", "fault", "times"));
        }
        for kind in &self.kinds {
            let Effect { times, sum } = self.effects.get(kind).copied().unwrap_or_default();
            line(format!(
                "{:<32} {times:>5}   {sum} {}",
                kind.name(),
                kind.effect()
            ));
        }
        if self.gave_up > 0 {
            line(format!(
                "on the full disk a node gave up {} times, and was started again",
                self.gave_up
            ));
        }
        self.skipped
            .iter()
            .for_each(|what| line(format!("left out: {what}")));
        self.listeners
            .iter()
            .for_each(|listener| line(listener.clone()));
        self.lives.iter().for_each(|lives| line(lives.line()));
        let Figures {
            acknowledged,
            unknown,
            unknown_stored,
            deliveries,
            due,
            in_gaps,
            gaps,
            lost: _,
            rounds,
        } = self.figures;
        line(format!(
            "events: {acknowledged} acknowledged, {unknown} of unknown outcome ({unknown_stored} of them stored), \
             {} answered with a refusal",
            self.refused
        ));
        line(format!(
            "deliveries: {deliveries} of {due} due; gaps: {gaps}, with {in_gaps} events in them"
        ));
        if rounds > 0 {
            line(format!(
                "history began again {rounds} times, after a gap that said so"
            ));
        }
        line(format!(
            "listeners fell behind the tail {} times",
            self.behind_tail
        ));
        self.breaches.lines().into_iter().for_each(&mut line);
        text
    }
}
