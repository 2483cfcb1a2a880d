//! The questions about the source whose answers are only advice for the operator, and a session of their own for them.
//!
//! Owns: which questions there are, and that no pass has to wait for them. Must not know: the sentences.

use super::hidden_changes::HiddenChangeInputs;
use super::listed_texts::check_listed_texts;
use super::reader::Source;
use super::requirements::{FoundColumns, find_columns};
use super::session::{IdleSession, SourceSession};
use super::statements::{StatementInputs, Statements};
use super::table::Table;
use super::warnings::WarningInputs;
use crate::config::Config;
use crate::finding::{Finding, Findings};

/// What the questions are about.
pub(super) struct AdviceQuestions<'a> {
    pub(super) config: &'a Config,
    pub(super) found: &'a FoundColumns<'a>,
    pub(super) inputs: &'a StatementInputs<'a>,
    pub(super) statements: &'a Statements,
    /// A unique index over the account column exists.
    pub(super) account_unique: bool,
    /// The trigger that moves the watermark column.
    pub(super) stamp_remedy: &'a str,
}

impl AdviceQuestions<'_> {
    /// All that applies, as far as the source answers in time. Rows with unusual stamps are counted only if `counts_stamps`.
    pub(super) async fn ask(&self, session: &mut SourceSession, counts_stamps: bool) -> Findings {
        let Self { config, found, inputs, statements, account_unique, stamp_remedy } = *self;
        let Some((account, _)) = found.account else { return Findings::default() };
        let (source, table) = (&config.source, found.table);
        let warnings = WarningInputs {
            table,
            account,
            watermark: found.watermark,
            mapped: &found.mapped,
            statements,
            account_unique,
        };
        let mut warnings = warnings.collect(session).await;
        warnings.extend(check_listed_texts(session, table, &config.attributes).await);
        let hidden_changes = HiddenChangeInputs {
            table,
            watermark: found.watermark,
            mapped: &found.mapped,
            filter: source.filter.as_deref(),
            timezone: &source.watermark_timezone,
            horizon: found.watermark.and_then(|(_, kind)| inputs.horizon(kind)),
            is_indexed: inputs.is_indexed,
            full_every: config.schedule.full_every,
            stamp_remedy,
        };
        warnings.extend(hidden_changes.collect(session, counts_stamps).await);
        warnings
    }
}

/// The questions about one source, before they are asked. Some take seconds on a large table, so they have a session of their
/// own.
#[derive(Debug)]
pub struct SourceAdvice {
    session: IdleSession,
    table: Table,
    limit: u64,
    is_indexed: bool,
    account_unique: bool,
    stamp_remedy: String,
}

impl SourceAdvice {
    pub(super) fn new(session: IdleSession, source: &Source) -> Self {
        Self {
            session,
            table: source.table.clone(),
            limit: source.limit,
            is_indexed: source.is_indexed,
            account_unique: source.account_unique,
            stamp_remedy: source.stamp_remedy.clone(),
        }
    }

    /// The warnings, as far as the source answers in time. `config` and `columns`: those of the source.
    pub async fn collect(self, config: &Config, columns: &[String]) -> Vec<Finding> {
        let Self { session, table, limit, is_indexed, account_unique, stamp_remedy } = self;
        let (found, _) = find_columns(&table, config, columns);
        let Some(inputs) = found.statement_inputs(&config.source, limit, is_indexed) else { return Vec::new() };
        // What the table needs was found before. Without this session, a pass goes on without the advice.
        let Ok(mut session) = session.set_up().await else { return Vec::new() };
        let statements = inputs.statements();
        let questions = AdviceQuestions {
            config,
            found: &found,
            inputs: &inputs,
            statements: &statements,
            account_unique,
            stamp_remedy: &stamp_remedy,
        };
        let found = questions.ask(&mut session, true).await;
        session.close().await;
        found.0
    }
}
