//! Connects to the source and examines it: session, table, columns, privileges, expressions.
//!
//! Owns: the order of these steps, and that one problem does not hide another. Must not know: how pages are read, what the
//! advice is about.

use super::advice::{AdviceQuestions, SourceAdvice};
use super::error::SourceError;
use super::fingerprint::{FingerprintReader, MarkedFingerprint, columns_in_filter};
use super::list_transactions::list_statement;
use super::page::PollState;
use super::reader::Source;
use super::requirements::{self, FoundColumns};
use super::server::examine_server;
use super::session::{IdleSession, SourceSession, close_idle};
use super::stamp_remedy::stamp_remedy;
use super::table::{Column, Table};
use super::whole_scan::WholeScan;
use crate::config;
use crate::finding::{Finding, Findings, Severity};

/// A connection that is set up, before the table is examined.
#[derive(Debug)]
pub struct SourceConnection {
    session: SourceSession,
    /// Another one that is not set up; `None` where the server permits no second connection.
    second: Option<IdleSession>,
}

impl SourceConnection {
    /// Connects and applies the session settings.
    ///
    /// # Errors
    /// Those of [`Source::connect`], as far as they are about the server and not about the table.
    pub async fn open(config: &config::Config) -> Result<Self, SourceError> {
        let (session, second) = SourceSession::open(config).await?;
        Ok(Self { session, second })
    }
}

/// When the questions are asked whose answers are only advice for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdviceTime {
    Now {
        counts_stamps: bool,
    },
    /// By [`SourceAdvice::collect`].
    Later,
}

impl Source {
    /// Connects, applies the session settings, introspects the table, and checks everything that a pass needs.
    /// `columns` are the mapped columns (`Mapping::columns`), in their order.
    ///
    /// # Errors
    /// [`SourceError::Unsuitable`] or [`SourceError::Unmet`] when the configuration, the table or the role has to be
    /// changed, else [`SourceError::Unreachable`] or [`SourceError::Refused`].
    pub async fn connect(config: &config::Config, columns: &[String]) -> Result<Self, SourceError> {
        Self::connect_with(config, columns, true).await
    }

    /// Like [`Source::connect`], to replace a lost connection. Rows with unusual stamps are not counted again, which may take
    /// fifteen seconds.
    ///
    /// # Errors
    /// Those of [`Source::connect`].
    pub async fn reconnect(config: &config::Config, columns: &[String]) -> Result<Self, SourceError> {
        Self::connect_with(config, columns, false).await
    }

    async fn connect_with(
        config: &config::Config,
        columns: &[String],
        counts_stamps: bool,
    ) -> Result<Self, SourceError> {
        let (session, second) = SourceSession::open(config).await?;
        close_idle(second).await;
        let (source, findings) =
            Box::pin(Self::examine_with(config, session, columns, AdviceTime::Now { counts_stamps })).await?;
        required(source, findings)
    }

    /// As [`Source::connect`] on an open connection, without its warnings: these are what the returned advice finds. Nobody
    /// waits for the questions that only serve them.
    ///
    /// # Errors
    /// Those of [`Source::connect`].
    pub async fn of_connection(
        connection: SourceConnection,
        config: &config::Config,
        columns: &[String],
    ) -> Result<(Self, Option<SourceAdvice>), SourceError> {
        let SourceConnection { session, second } = connection;
        let time = if second.is_some() { AdviceTime::Later } else { AdviceTime::Now { counts_stamps: true } };
        let (source, findings) = Box::pin(Self::examine_with(config, session, columns, time)).await?;
        let source = required(source, findings)?;
        let advice = second.map(|second| SourceAdvice::new(second, &source));
        Ok((source, advice))
    }

    /// Like [`Source::connect`], but returns all warnings and errors that can be found. Without a source, one of the
    /// findings is an error.
    ///
    /// # Errors
    /// When the connection cannot be opened, or is lost.
    pub async fn examine(config: &config::Config, columns: &[String]) -> Result<(Option<Self>, Findings), SourceError> {
        let (session, second) = SourceSession::open(config).await?;
        close_idle(second).await;
        Box::pin(Self::examine_with(config, session, columns, AdviceTime::Now { counts_stamps: true })).await
    }

    async fn examine_with(
        config: &config::Config,
        mut session: SourceSession,
        columns: &[String],
        advice: AdviceTime,
    ) -> Result<(Option<Self>, Findings), SourceError> {
        let mut findings = Findings::default();
        let server = examine_server(&mut session, config.source.watermark_column.is_some()).await;
        findings.extend(keep_problems(&mut Findings::default(), server)?.into_iter().flatten());
        let table = keep_problems(&mut findings, Table::find(&mut session, &config.source.table).await)?;
        let Some(table) = table else {
            findings.push(Finding::unchecked("source.columns", "the table was not found"));
            return Ok((None, findings));
        };
        let (found, problems) = requirements::find_columns(&table, config, columns);
        findings.extend(problems);
        if found.watermark.is_some() {
            let checked = requirements::check_watermark_relation(&mut session, &table).await;
            keep_problems(&mut findings, checked)?;
        }
        if found.account.is_none() {
            let because = "the account column was not found or has another type than allowed";
            findings.extend(["source.filter", "source.account_index"].map(|id| Finding::unchecked(id, because)));
            return Ok((None, findings));
        }
        Self::examine_columns(config, session, &found, advice, findings).await
    }

    /// The part of [`Source::examine`] that needs the account column.
    async fn examine_columns(
        config: &config::Config,
        mut session: SourceSession,
        found: &FoundColumns<'_>,
        advice: AdviceTime,
        mut findings: Findings,
    ) -> Result<(Option<Self>, Findings), SourceError> {
        let (source, table) = (&config.source, found.table.clone());
        let Some((account, account_type)) = found.account else { return Ok((None, findings)) };
        let account_unique = table.has_unique_index(&mut session, account).await?;
        let limit = page_limit(source.page_size, account_unique);
        let is_indexed = is_indexed(&mut session, &table, found, account).await;
        let Some(inputs) = found.statement_inputs(source, limit, is_indexed) else { return Ok((None, findings)) };
        keep_problems(&mut findings, requirements::check_expressions(&mut session, &table, &inputs).await)?;
        let read = read_fingerprint(&mut session, config, &table, &found.mapped);
        let fingerprint = keep_problems(&mut findings, read.await)?.filter(|_| findings.worst() != Severity::Error);
        let statements = inputs.statements();
        let stamp_remedy = stamp_remedy(&mut session, &table, found.watermark, &source.watermark_timezone).await;
        let mut warnings = Findings::default();
        if let AdviceTime::Now { counts_stamps } = advice {
            let questions = AdviceQuestions {
                config,
                found,
                inputs: &inputs,
                statements: &statements,
                account_unique,
                stamp_remedy: &stamp_remedy,
            };
            warnings = questions.ask(&mut session, counts_stamps).await;
        }
        findings.extend(warnings.clone());
        let Some((fingerprint_reader, MarkedFingerprint { fingerprint, mark })) = fingerprint else {
            return Ok((None, findings));
        };
        let examined = Self {
            qualified_name: table.qualified_name(),
            account_type,
            account_nullable: !account.not_null,
            account_unique,
            watermark: found.watermark.map(|(_, kind)| kind),
            session,
            config: source.clone(),
            list: list_statement(statements.newest_counters.as_ref(), fingerprint_reader.query(mark.is_some())),
            statements,
            limit,
            is_indexed,
            poll_state: PollState::default(),
            whole_scan: WholeScan::default(),
            warnings: warnings.0,
            stamp_remedy,
            fingerprint_reader,
            fingerprint,
            mark,
            table,
        };
        Ok((Some(examined), findings))
    }
}

/// The source, unless something is missing that a pass needs.
fn required(source: Option<Source>, findings: Findings) -> Result<Source, SourceError> {
    source.ok_or_else(|| SourceError::Unmet(Findings(findings.0.into_iter().filter(Finding::is_error).collect())))
}

/// Where an account may have several rows, one more row shows whether the last account of a page continues.
fn page_limit(page_size: u32, account_unique: bool) -> u64 {
    u64::from(page_size.max(1)) + u64::from(!account_unique)
}

/// Whether an index returns the rows in the order of the polls.
async fn is_indexed(session: &mut SourceSession, table: &Table, found: &FoundColumns<'_>, account: &Column) -> bool {
    let Some((watermark, _)) = found.watermark.filter(|_| table.kind.can_have_indexes()) else { return false };
    table.has_index_for_order(session, &[watermark, account]).await == Some(true)
}

/// Turns an error into findings, except one of the connection.
fn keep_problems<T>(findings: &mut Findings, result: Result<T, SourceError>) -> Result<Option<T>, SourceError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ SourceError::Unreachable(_)) => Err(error),
        Err(problem) => {
            findings.extend(problem.findings());
            Ok(None)
        }
    }
}

/// The fingerprint depends on every column that is read or that the filter names.
async fn read_fingerprint(
    session: &mut SourceSession,
    config: &config::Config,
    table: &Table,
    mapped: &[String],
) -> Result<(FingerprintReader, MarkedFingerprint), SourceError> {
    let source = &config.source;
    let mut columns = columns_in_filter(
        source.filter.as_deref().unwrap_or_default(),
        table.columns.iter().map(|column| column.name.as_str()),
    );
    columns.push(source.account_column.clone());
    columns.extend(source.watermark_column.iter().chain(&source.deleted_column).chain(mapped).cloned());
    FingerprintReader::prepare(session, (&table.schema, &table.name), source.watermark_column.as_deref(), &columns)
        .await
}
