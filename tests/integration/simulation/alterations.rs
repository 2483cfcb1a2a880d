//! Changes of the schema: a column of another type, another table or view under the same name.
//!
//! Owns: the DDL of each alteration. Must not know: imsync.
//!
//! After an alteration imsync compares every row by itself, so each row counts as detectable, also one whose value was
//! changed by the alteration and not by its application.

use sqlx::{AssertSqlSafe, Executor};

use super::operation::{Alteration, ViewVersion, Watermark, WatermarkUpdate};
use super::system::System;
use super::table::{self, COLUMNS};

/// Puts another table in the place of `users`.
fn replace_table() -> String {
    format!(
        "DROP VIEW people; ALTER TABLE users RENAME TO old_users; CREATE TABLE users (LIKE old_users INCLUDING ALL); \
         INSERT INTO users SELECT * FROM old_users; DROP TABLE old_users; {}",
        table::view(ViewVersion::Plain)
    )
}

/// The values of these rows change, and their watermark does not.
fn change_values(column: &str, modulus: u64, rest: u64) -> String {
    format!(
        "UPDATE users SET {column} = CASE WHEN {column} = 'a' THEN 'b' ELSE 'a' END WHERE number % {modulus} = {rest};"
    )
}

impl System {
    fn alteration(&mut self, alteration: Alteration) -> Option<String> {
        match alteration {
            Alteration::WatermarkType => {
                let (kind, values, to) = match self.settings.watermark {
                    Watermark::Zoned => ("bigint", "nextval('ticks')", Watermark::Counter),
                    Watermark::Counter => ("timestamptz", "timestamptz '2021-01-01'", Watermark::Zoned),
                    // The zone in the configuration belongs to this type.
                    Watermark::Local | Watermark::None => return None,
                };
                self.settings.watermark = to;
                self.writers.watermark = to;
                let default = table::watermark_expression(to, WatermarkUpdate::Now);
                Some(format!(
                    "DROP VIEW people; ALTER TABLE users ALTER updated_at DROP DEFAULT; \
                     ALTER TABLE users ALTER updated_at TYPE {kind} USING NULL; UPDATE users SET updated_at = {values}; \
                     ALTER TABLE users ALTER updated_at SET DEFAULT {default}; {}",
                    table::view(ViewVersion::Plain)
                ))
            }
            Alteration::Table { modulus, rest } => {
                Some(format!("{} {}", replace_table(), change_values("city", modulus, rest)))
            }
            Alteration::Column { column, modulus, rest } => {
                let (name, _) = COLUMNS[column];
                Some(format!(
                    "DROP VIEW people; ALTER TABLE users RENAME {name} TO old; ALTER TABLE users ADD {name} text; \
                     UPDATE users SET {name} = old; ALTER TABLE users DROP old; {} {}",
                    table::view(ViewVersion::Plain),
                    change_values(name, modulus, rest)
                ))
            }
            Alteration::View(version) => self.settings.view.then(|| table::view(version)),
        }
    }

    /// Alters the source, unless a lock cannot be had.
    pub(super) async fn alter(&mut self, alteration: Alteration) -> Result<(), String> {
        self.writers.end_all(&mut self.observer).await;
        let before = self.settings.watermark;
        let Some(statements) = self.alteration(alteration) else { return Ok(()) };
        let sql = format!(
            "BEGIN; SET LOCAL search_path = public; SET LOCAL lock_timeout = '2s'; SET LOCAL client_min_messages = error; {statements} \
             UPDATE users SET detectable = true; COMMIT"
        );
        let name = format!("{alteration:?}");
        let name = name.split([' ', '(']).next().unwrap_or_default().to_owned();
        let Err(error) = self.observer.execute(AssertSqlSafe(sql)).await else {
            self.counts.count("alterations", name);
            return Ok(());
        };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if !matches!(code.as_deref(), Some("55P03" | "40P01")) {
            return Err(format!("{alteration:?}: {error}"));
        }
        self.observer.execute("ROLLBACK").await.map_err(|error| error.to_string())?;
        (self.settings.watermark, self.writers.watermark) = (before, before);
        self.counts.count("alterations", "not done for a lock");
        Ok(())
    }
}
