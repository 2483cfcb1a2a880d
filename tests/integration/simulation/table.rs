//! The table of these systems and the values that IM should hold for it, computed a second time.
//!
//! Owns: schema, values, `[attributes]` and an independent implementation of their meaning. Must not know:
//! `src/mapping`.
//!
//! The column `detectable` is not mapped. Each write records there whether a timestamp can find it, so that a rollback,
//! a SAVEPOINT or a late commit applies to this flag too.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};

use super::operation::{ConfigVersion, ViewVersion, Watermark, WatermarkUpdate};
use super::settings::Settings;

/// The users as the simulator reports them.
pub(super) type Users = BTreeMap<String, BTreeMap<String, String>>;

/// Texts of the column `extra`. Only the first two, and NULL, are numbers. A row with the second leaves the filter.
pub(super) const EXTRAS: [&str; 5] = ["7", "-1", "no number", "99999999999", ""];

/// The relation that imsync reads.
pub(super) fn relation(settings: &Settings) -> &'static str {
    if settings.view { "people" } else { "users" }
}

pub(super) fn schema(settings: &Settings) -> String {
    let watermark = settings.watermark;
    let kind = match watermark {
        Watermark::Zoned | Watermark::None => "timestamptz",
        Watermark::Local => "timestamp",
        Watermark::Counter => "bigint",
    };
    format!(
        "CREATE SEQUENCE ticks START 1000; CREATE TABLE users (
         id text PRIMARY KEY, number int NOT NULL, city text, note text, plan text, gender text, tier text, lang text,
         kind text, updated_at {kind} DEFAULT {}, deleted_at timestamptz, extra text,
         detectable boolean NOT NULL DEFAULT true);
         CREATE INDEX ON users (updated_at, id); {}",
        watermark_expression(watermark, WatermarkUpdate::Now),
        view(ViewVersion::Plain)
    )
}

/// The statement that creates the view or replaces it.
pub(super) fn view(version: ViewVersion) -> String {
    let (city, condition) = match version {
        ViewVersion::Plain => ("city", ""),
        ViewVersion::WithoutSome => ("city", " WHERE number % 7 <> 3"),
        ViewVersion::OtherCity => ("CASE WHEN number % 7 = 3 THEN 'Quito' ELSE city END", ""),
    };
    format!(
        "CREATE OR REPLACE VIEW people AS SELECT id, number, {city} AS city, note, plan, gender, tier, lang, kind, updated_at, \
         deleted_at, extra, extra::int AS amount, detectable FROM users{condition};"
    )
}

/// The SQL expression for the watermark column.
pub(super) fn watermark_expression(watermark: Watermark, update: WatermarkUpdate) -> String {
    let time = |expression: &str| match watermark {
        Watermark::Local => format!("timezone('Europe/Berlin', {expression})"),
        Watermark::Zoned | Watermark::Counter | Watermark::None => expression.to_owned(),
    };
    match (update, watermark) {
        (WatermarkUpdate::Untouched, _) => "updated_at".to_owned(),
        (WatermarkUpdate::Missing, _) => "NULL".to_owned(),
        (WatermarkUpdate::Old, Watermark::Counter) => "1".to_owned(),
        (WatermarkUpdate::Now | WatermarkUpdate::Lagging | WatermarkUpdate::Ahead, Watermark::Counter) => {
            "nextval('ticks')".to_owned()
        }
        (WatermarkUpdate::Now, _) => time("now()"),
        (WatermarkUpdate::Lagging, _) => time("now() - interval '500 milliseconds'"),
        (WatermarkUpdate::Ahead, _) => time("now() + interval '1 hour'"),
        (WatermarkUpdate::Old, _) => time("timestamptz '2020-02-02'"),
    }
}

/// The `[source]` keys.
pub(super) fn source(settings: &Settings, version: ConfigVersion) -> String {
    let watermark = match settings.watermark {
        Watermark::None => "",
        Watermark::Zoned | Watermark::Counter => "watermark_column = \"updated_at\"\n",
        Watermark::Local => "watermark_column = \"updated_at\"\nwatermark_timezone = \"Europe/Berlin\"\n",
    };
    let narrow = if version == ConfigVersion::NarrowFilter { " AND number % 5 <> 4" } else { "" };
    let cast = match (settings.casts, settings.view) {
        (false, _) => "",
        (true, false) => " AND (extra IS NULL OR extra::int >= 0)",
        (true, true) => " AND (amount IS NULL OR amount >= 0)",
    };
    let relation = relation(settings);
    format!(
        "table = \"public.{relation}\"\naccount_column = \"id\"\n{watermark}watermark_grace = \"1s\"\n\
         deleted_column = \"deleted_at\"\nfilter = \"kind IS DISTINCT FROM 'bot'{narrow}{cast}\"\npage_size = {}\n",
        settings.page_size
    )
}

/// The `[attributes]` section. The first version uses every mapping rule, over six attributes.
pub(super) fn attributes(version: ConfigVersion) -> String {
    match version {
        ConfigVersion::First | ConfigVersion::NarrowFilter => ATTRIBUTES.to_owned(),
        ConfigVersion::WithoutLang => ATTRIBUTES.split("[attributes.lang]").next().unwrap_or_default().to_owned(),
        ConfigVersion::OtherPlan => ATTRIBUTES.replace("silver", "platinum"),
    }
}

/// The mapped columns, each with its attribute's name.
pub(super) const COLUMNS: [(&str, &str); 6] =
    [("city", "city"), ("note", "note"), ("plan", "plan"), ("gender", "sex"), ("tier", "tier"), ("lang", "lang")];

const ATTRIBUTES: &str = r#"city = "city"
[attributes.note]
column = "note"
too_long = "truncate"
[attributes.plan]
column = "plan"
values = { a = "gold", b = "silver" }
unlisted = "keep"
null = "keep"
[attributes.sex]
column = "gender"
values = { a = "male", b = "female" }
[attributes.tier]
column = "tier"
values = { a = "one", b = "two" }
unlisted = "remove"
null = "keep"
[attributes.lang]
column = "lang"
values = { a = "Deutsch" }
unlisted = "send"
too_long = "truncate"
"#;

/// A text that a column can hold, and its longest prefix of at most 50 bytes that ends with a complete grapheme.
struct ColumnText {
    raw: &'static str,
    cut: &'static str,
}

const fn short(raw: &'static str) -> ColumnText {
    ColumnText { raw, cut: raw }
}

/// NULL is the additional last number.
const TEXTS: [ColumnText; 14] = [
    short("a"),
    short("b"),
    short("Quito"),
    short("São Tomé"),
    short(""),
    short(" "),
    short("it's \"quoted\" \\ 'twice'"),
    short("零一二三四五六七八九十一二三四五"),
    // 50 bytes exactly, and 51.
    short("01234567890123456789012345678901234567890123456789"),
    ColumnText {
        raw: "01234567890123456789012345678901234567890123456789+",
        cut: "01234567890123456789012345678901234567890123456789",
    },
    // 17 characters of three bytes.
    ColumnText {
        raw: "零一二三四五六七八九十一二三四五六", cut: "零一二三四五六七八九十一二三四五"
    },
    // A grapheme of 18 bytes (a family), three times.
    ColumnText {
        raw: "👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧", cut: "👨‍👩‍👧👨‍👩‍👧"
    },
    // An e and a combining accent at bytes 50 to 52: both are cut.
    ColumnText {
        raw: "0123456789012345678901234567890123456789012345678e\u{301}",
        cut: "0123456789012345678901234567890123456789012345678",
    },
    short("null"),
];

pub(super) const VALUES: usize = TEXTS.len() + 1;

/// `None` is NULL.
pub(super) fn value(number: usize) -> Option<&'static str> {
    TEXTS.get(number).map(|text| text.raw)
}

/// Accounts from 0 on. Some are awkward, and one is longer than IM accepts.
pub(super) fn account(number: u64) -> String {
    match number {
        3 => "ü-3, 'three'".to_owned(),
        5 => "five \"5\" \\".to_owned(),
        7 => "七七七七七七七七七七".to_owned(),
        11 => "an-account-of-more-than-thirty-two-bytes".to_owned(),
        _ => format!("u{number:02}"),
    }
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) values: Vec<Option<String>>,
    number: i32,
    /// Soft-deleted, or excluded by the filter as a bot.
    gone: bool,
    extra: Option<String>,
    pub(super) detectable: bool,
    pub(super) shown: String,
}

pub(super) async fn rows(connection: &mut PgConnection, settings: &Settings) -> sqlx::Result<BTreeMap<String, Row>> {
    type Columns = (String, i32, Vec<Option<String>>, bool, Option<String>, bool, String);
    let rows: Vec<Columns> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT id, number, ARRAY[city, note, plan, gender, tier, lang], deleted_at IS NOT NULL OR kind = 'bot' IS TRUE, extra, \
         detectable, json_build_array(id, city, note, plan, gender, tier, lang, kind, extra, updated_at, deleted_at, detectable)::text \
         FROM {}",
        relation(settings)
    )))
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, number, values, gone, extra, detectable, shown)| {
            (id, Row { values, number, gone, extra, detectable, shown })
        })
        .collect())
}

/// The expected value of one attribute of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExpectedValue {
    Is(&'static str),
    Nothing,
    /// The previous value.
    Kept,
    /// The previous value, and the attribute is listed as rejected.
    Refused,
}

fn find_text(raw: &str) -> &'static ColumnText {
    TEXTS.iter().find(|text| text.raw == raw).expect("columns hold only texts of this list")
}

fn expected(attribute: &str, column: Option<&str>, version: ConfigVersion) -> ExpectedValue {
    let text = column.filter(|raw| !raw.is_empty()).map(find_text);
    let sent = |text: &'static ColumnText, truncate: bool| match text.raw.len() <= 50 {
        true => ExpectedValue::Is(text.raw),
        false if truncate => ExpectedValue::Is(text.cut),
        false => ExpectedValue::Refused,
    };
    match (attribute, text) {
        ("city", Some(text)) => sent(text, false),
        ("plan", Some(ColumnText { raw: "a", .. })) => ExpectedValue::Is("gold"),
        ("plan", Some(ColumnText { raw: "b", .. })) if version == ConfigVersion::OtherPlan => {
            ExpectedValue::Is("platinum")
        }
        ("plan", Some(ColumnText { raw: "b", .. })) => ExpectedValue::Is("silver"),
        ("plan", _) | ("tier", None) => ExpectedValue::Kept,
        ("sex", Some(ColumnText { raw: "a", .. })) => ExpectedValue::Is("male"),
        ("sex", Some(ColumnText { raw: "b", .. })) => ExpectedValue::Is("female"),
        ("sex", Some(_)) => ExpectedValue::Refused,
        ("tier", Some(ColumnText { raw: "a", .. })) => ExpectedValue::Is("one"),
        ("tier", Some(ColumnText { raw: "b", .. })) => ExpectedValue::Is("two"),
        ("lang", Some(ColumnText { raw: "a", .. })) => ExpectedValue::Is("Deutsch"),
        ("note" | "lang", Some(text)) => sent(text, true),
        ("city" | "note" | "sex" | "lang", None) | ("tier", Some(_)) => ExpectedValue::Nothing,
        (other, _) => panic!("there is no attribute {other}"),
    }
}

/// Whether the account id is too long for IM.
pub(super) fn too_long(account: &str) -> bool {
    account.len() > 32
}

impl Row {
    fn is_filtered_out(&self, version: ConfigVersion) -> bool {
        self.gone || version == ConfigVersion::NarrowFilter && self.number % 5 == 4
    }

    /// Whether the row counts as gone.
    pub(super) fn is_gone(&self, settings: &Settings, version: ConfigVersion) -> bool {
        self.is_filtered_out(version) || settings.casts && self.extra.as_deref() == Some(EXTRAS[1])
    }

    /// Whether the filter raises an error. It does not look at the text when another condition decides.
    pub(super) fn raises(&self, settings: &Settings, version: ConfigVersion) -> bool {
        let is_number = |extra: &str| EXTRAS[..2].contains(&extra);
        settings.casts && !self.is_filtered_out(version) && self.extra.as_deref().is_some_and(|extra| !is_number(extra))
    }
}

/// The expected values of an account, by attribute. `row` is `None` if the table has no such row.
pub(super) fn expected_values(
    account: &str,
    row: Option<&Row>,
    settings: &Settings,
    version: ConfigVersion,
) -> BTreeMap<&'static str, ExpectedValue> {
    let value = |attribute: &'static str, index: usize| match row {
        _ if too_long(account) => ExpectedValue::Nothing,
        Some(row) if row.raises(settings, version) => ExpectedValue::Kept,
        Some(row) if !row.is_gone(settings, version) => match (attribute, version) {
            ("lang", ConfigVersion::WithoutLang) if settings.keep_unmapped => ExpectedValue::Kept,
            ("lang", ConfigVersion::WithoutLang) => ExpectedValue::Nothing,
            _ => expected(attribute, row.values[index].as_deref(), version),
        },
        _ if settings.keep_gone => ExpectedValue::Kept,
        _ => ExpectedValue::Nothing,
    };
    COLUMNS.iter().enumerate().map(|(index, (_, attribute))| (*attribute, value(attribute, index))).collect()
}
