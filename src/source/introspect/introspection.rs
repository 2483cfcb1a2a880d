//! The connection of `imsync init`, and the order of its questions.
//!
//! Owns: which facts of a table are gathered. Must not know: the statements over a sample, what imsync proposes.

use sqlx::Row as _;

use super::facts::{ColumnKind, IntrospectedTable, RelationFacts, WatermarkDetails};
use super::{profile, relations};
use crate::config::SourceUrl;
use crate::finding::{Finding, Findings};
use crate::postgres::Connector;
use crate::source::column_type::WatermarkType;
use crate::source::error::SourceError;
use crate::source::requirements::column_not_found;
use crate::source::session::{SourceSession, close_idle};
use crate::source::stamp_remedy::stamp_remedy;
use crate::source::stamp_triggers::stamping_trigger;
use crate::source::table::Table;
use crate::source::warnings::create_index;

/// The zone that `ALTER DATABASE` or `ALTER ROLE ALL` sets, else that of the server's log, which initdb sets to the same. The
/// zone of this session is UTC, so it tells nothing.
const TIMEZONE: &str = "
SELECT coalesce(
  (SELECT pg_catalog.split_part(s.setting, '=', 2)
   FROM pg_catalog.pg_db_role_setting AS d CROSS JOIN LATERAL pg_catalog.unnest(d.setconfig) AS s (setting)
   WHERE d.setrole = 0 AND pg_catalog.lower(s.setting) LIKE 'timezone=%'
     AND d.setdatabase IN (0, (SELECT b.oid FROM pg_catalog.pg_database AS b WHERE b.datname = pg_catalog.current_database()))
   ORDER BY d.setdatabase DESC LIMIT 1),
  pg_catalog.current_setting('log_timezone', true))";

/// A read-only session on a database whose tables are described.
#[derive(Debug)]
pub struct Introspection {
    session: SourceSession,
    table: Option<Table>,
}

impl Introspection {
    /// Connects and applies the session settings.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses the login, or is a pooler that switches sessions.
    pub async fn open(url: &SourceUrl, application_name: &str) -> Result<Self, SourceError> {
        let connector = Connector::new(&url.url, url.url_file.as_ref(), application_name);
        let (session, second) = SourceSession::open_with(connector).await?;
        close_idle(second).await;
        Ok(Self { session, table: None })
    }

    /// The relations of the database with their columns, without sizes of columns, and how many were left out: of very many,
    /// those with the lowest `score` of their name and the fewest rows. `excluded`: a schema that has all of these tables is
    /// left out.
    ///
    /// # Errors
    /// Those of a statement.
    pub async fn relations(
        &mut self,
        excluded: &[&str],
        score: fn(&str) -> u32,
    ) -> Result<(Vec<IntrospectedTable>, usize), SourceError> {
        relations::relations(&mut self.session, excluded, score).await
    }

    /// One relation with what the catalogs and `pg_stats` say about it. The error suggests similar names.
    ///
    /// # Errors
    /// When it does not exist, or those of a statement.
    pub async fn table(&mut self, name: &str) -> Result<IntrospectedTable, SourceError> {
        let session = &mut self.session;
        let table = Table::find(session, name).await?;
        let columns = relations::introspected_columns(session, vec![table.oid]).await?.remove(&table.oid);
        let mut columns = columns.unwrap_or_default();
        let statistics = profile::statistics(session, &table).await;
        for column in &mut columns {
            column.statistics = statistics.get(&column.name).copied();
            if column.has_watermark_type() {
                column.trigger = stamping_trigger(session, table.oid, &column.name).await;
            }
        }
        let obstacle = table.materialized_or_foreign_base(session).await?;
        let obstacle = obstacle.map(|(kind, base)| relations::late_rows(kind, Some(&base)));
        let estimated_rows = table.estimated_rows(session).await;
        let zones = session.advice(sqlx::query(TIMEZONE)).await.unwrap_or_default();
        let introspected = IntrospectedTable {
            relation: RelationFacts::new(table.schema.clone(), table.name.clone(), table.kind, estimated_rows),
            columns,
            watermark_obstacle: obstacle,
            timezone: zones.first().and_then(|row| row.try_get(0).ok()),
        };
        self.table = Some(table);
        Ok(introspected)
    }

    /// Fails when the table lacks one of these columns. The error names it with similar names. `option`: what names them.
    ///
    /// # Errors
    /// [`SourceError::Unmet`], with every column that is missing.
    pub fn require_columns(&self, option: &str, columns: &[&str]) -> Result<(), SourceError> {
        let Some(table) = &self.table else { return Ok(()) };
        let missing = columns.iter().filter(|name| table.column(name).is_none());
        let findings: Vec<Finding> = missing.map(|name| column_not_found(table, option, name)).collect();
        if findings.is_empty() { Ok(()) } else { Err(SourceError::Unmet(Findings(findings))) }
    }

    /// Adds to these columns of the table what a sample of rows shows. Returns why no sample could be read.
    pub async fn sample(&mut self, table: &mut IntrospectedTable, columns: &[String]) -> Option<SourceError> {
        let found = self.table.as_ref()?;
        let wanted: Vec<(String, ColumnKind)> = table
            .columns
            .iter()
            .filter(|column| columns.contains(&column.name))
            .map(|column| (column.name.clone(), column.kind))
            .collect();
        match profile::samples(&mut self.session, found, &wanted).await {
            Ok(samples) => {
                for column in &mut table.columns {
                    column.sample = samples.get(&column.name).copied();
                }
                None
            }
            Err(error) => Some(error),
        }
    }

    /// What there is beside the type of a watermark column: the index, and the statements for what is missing.
    pub async fn watermark_details(
        &mut self,
        watermark: &str,
        account: &str,
        timezone: &str,
    ) -> Option<WatermarkDetails> {
        let table = self.table.as_ref()?;
        let (watermark, account) = (table.column(watermark)?, table.column(account)?);
        let kind = WatermarkType::from_typname(&watermark.base_type)?;
        let session = &mut self.session;
        let has_index = if table.kind.can_have_indexes() {
            table.has_index_for_order(session, &[watermark, account]).await
        } else {
            None
        };
        Some(WatermarkDetails {
            has_index,
            create_index: create_index(table, "", &[watermark, account]),
            trigger_remedy: stamp_remedy(session, table, Some((watermark, kind)), timezone).await,
        })
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.session.close().await;
    }
}
