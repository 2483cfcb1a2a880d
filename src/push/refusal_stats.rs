//! Rows or the app: what has been accepted and refused in one pass, and what follows from the counts.
//!
//! Owns: the counts of a pass and their thresholds. Must not know: calls, probes, sentences.

use std::collections::{HashMap, HashSet};

use super::batch::Operation;
use crate::im::Code;
use crate::model::AttributeIndex;

/// So many must fail alone, with none accepted, before the app is suspected.
const SUSPICION: u32 = 20;
/// Accounts tried before their refused share means anything.
const SHARE_COUNTS_FROM: u64 = 1000;

/// Accounts tried before refusals can be called the exception.
const SELDOM_COUNTS_FROM: u32 = 20;
/// What was learned of one part of a table is forgotten so soon in the next.
const LATELY: u32 = 256;

/// What is known about a refusal of something that stood alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RefusalCause {
    /// It is the row.
    Row,
    /// It may be the app.
    Open,
    /// It may be the app, and enough have failed to find out.
    Decide(Suspect),
}

/// What is suspected: everything that fails with the code, or one attribute.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Suspect {
    pub op: Operation,
    pub code: Code,
    /// `None`: the account's attributes went together.
    pub attribute: Option<AttributeIndex>,
}

/// Too large a share of the pass was refused with one code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RejectedShare {
    pub refused: u64,
    pub tried: u64,
}

#[derive(Debug)]
pub(super) struct RefusalStats {
    max_rejected_share: f64,
    /// By kind of call and attribute: something with this attribute was accepted.
    accepted: [Vec<bool>; 2],
    /// By kind of call: anything was accepted.
    any: [bool; 2],
    alone: HashMap<Suspect, u32>,
    /// Codes that were found to speak of rows.
    rows: HashSet<Code>,
    tried: u64,
    refused: HashMap<Code, u64>,
    lately: RecentAnswers,
}

/// The last [`LATELY`] accounts answered for, about: older ones count half, a quarter, …
#[derive(Clone, Copy, Debug, Default)]
struct RecentAnswers {
    tried: u32,
    refused: u32,
}

impl RefusalStats {
    pub(super) fn new(max_rejected_share: f64, names: usize) -> Self {
        Self {
            max_rejected_share,
            accepted: [vec![false; names], vec![false; names]],
            any: [false; 2],
            alone: HashMap::new(),
            rows: HashSet::new(),
            tried: 0,
            refused: HashMap::new(),
            lately: RecentAnswers::default(),
        }
    }

    /// IM accepted this attribute of somebody.
    pub(super) fn accept(&mut self, op: Operation, attribute: AttributeIndex) {
        self.any[place(op)] = true;
        self.accepted[place(op)][attribute.index()] = true;
    }

    /// The code was found to speak of rows, for the rest of the pass.
    pub(super) fn rows(&mut self, code: Code) {
        self.rows.insert(code);
    }

    /// One more that stood alone was refused.
    pub(super) fn count(&mut self, suspect: Suspect) {
        *self.alone.entry(suspect).or_default() += 1;
    }

    /// How a refusal of something that stood alone is to be taken now.
    pub(super) fn standing(&self, suspect: Suspect) -> RefusalCause {
        let Suspect { op, code, attribute } = suspect;
        let accepted = attribute.map_or(self.any[place(op)], |attribute| self.accepted[place(op)][attribute.index()]);
        if code.of_account() || accepted || self.rows.contains(&code) {
            return RefusalCause::Row;
        }
        let everybody = Suspect { attribute: None, ..suspect };
        let enough = |suspect| self.alone.get(&suspect).is_some_and(|count| *count >= SUSPICION);
        if enough(suspect) {
            RefusalCause::Decide(suspect)
        } else if !self.any[place(op)] && enough(everybody) {
            RefusalCause::Decide(everybody)
        } else {
            RefusalCause::Open
        }
    }

    /// One more account of the pass has been answered for.
    pub(super) fn tried(&mut self) {
        self.tried += 1;
        self.lately.tried += 1;
        if self.lately.tried >= LATELY {
            self.lately = RecentAnswers { tried: self.lately.tried / 2, refused: self.lately.refused / 2 };
        }
    }

    /// One more account was refused with this code.
    pub(super) fn refused(&mut self, code: Code) {
        *self.refused.entry(code).or_default() += 1;
        self.lately.refused += 1;
    }

    /// Refusals are the exception among the last accounts, as far as that is known.
    pub(super) fn seldom_refused(&self) -> bool {
        self.lately.tried >= SELDOM_COUNTS_FROM && self.lately.refused * 4 < self.lately.tried
    }

    /// Whether the accounts refused with this code are more than the pass may have.
    pub(super) fn too_many(&self, code: Code) -> Option<RejectedShare> {
        let refused = self.refused.get(&code).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "counts of accounts are far below 2^52")]
        let over = refused as f64 > self.max_rejected_share * self.tried as f64;
        (self.tried >= SHARE_COUNTS_FROM && over).then_some(RejectedShare { refused, tried: self.tried })
    }
}

fn place(op: Operation) -> usize {
    match op {
        Operation::Set => 0,
        Operation::Remove => 1,
    }
}
