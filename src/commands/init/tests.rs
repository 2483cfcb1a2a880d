//! Tests of the proposals: which columns are chosen, which are not, and that the file is a configuration.
//!
//! Owns: tables as facts. Must not know: statements.

use std::path::Path;

use super::attributes::{self, NamedAttribute, OmittedColumn, parse_named};
use super::im_section::ImOptions;
use super::proposal;
use super::render::ConfigProposal;
use crate::config::{self, AccountFormat, Environment, UrlOrigin};
use crate::source::{
    ColumnKind, ColumnSample, ColumnStatistics, FoundTrigger, IntrospectedColumn, IntrospectedTable, RelationFacts,
};

/// The rows of the table, and of a sample of it.
const ROWS: u64 = 1000;

fn column(name: &str, kind: ColumnKind) -> IntrospectedColumn {
    IntrospectedColumn {
        name: name.to_owned(),
        type_name: format!("{kind:?}"),
        kind,
        not_null: false,
        readable: true,
        deterministic: true,
        is_primary_key: false,
        is_unique: false,
        leads_index: false,
        statistics: None,
        sample: None,
        trigger: None,
    }
}

/// A column with this number of different values in a sample.
fn sampled(name: &str, kind: ColumnKind, distinct: u64) -> IntrospectedColumn {
    let sample = ColumnSample { rows: ROWS, values: ROWS, distinct, max_bytes: 10, ..ColumnSample::default() };
    IntrospectedColumn { sample: Some(sample), ..column(name, kind) }
}

fn text(name: &str, distinct: u64) -> IntrospectedColumn {
    sampled(name, ColumnKind::Text, distinct)
}

fn unique(column: IntrospectedColumn) -> IntrospectedColumn {
    IntrospectedColumn { is_unique: true, ..column }
}

fn primary(column: IntrospectedColumn) -> IntrospectedColumn {
    IntrospectedColumn { is_primary_key: true, is_unique: true, ..column }
}

fn looking_like(column: IntrospectedColumn, change: impl FnOnce(&mut ColumnSample)) -> IntrospectedColumn {
    let mut sample = column.sample.unwrap_or_default();
    change(&mut sample);
    IntrospectedColumn { sample: Some(sample), ..column }
}

fn table(columns: Vec<IntrospectedColumn>) -> IntrospectedTable {
    let relation = RelationFacts {
        schema: "public".to_owned(),
        name: "users".to_owned(),
        kind: "table",
        can_have_indexes: true,
        estimated_rows: Some(ROWS),
    };
    IntrospectedTable { relation, columns, watermark_obstacle: None, timezone: Some("Asia/Shanghai".to_owned()) }
}

fn account_of(columns: Vec<IntrospectedColumn>) -> Result<(String, bool), String> {
    proposal::account(&table(columns)).map(|account| (account.column, account.is_hex))
}

fn watermark_of(columns: Vec<IntrospectedColumn>) -> Result<(String, Option<String>), String> {
    proposal::watermark(&table(columns), None).map(|watermark| (watermark.column, watermark.timezone))
}

fn attributes_of(columns: Vec<IntrospectedColumn>) -> (Vec<String>, Vec<OmittedColumn>) {
    let (attributes, omitted) = attributes::propose(&table(columns), &[]);
    (attributes.into_iter().map(|attribute| attribute.column).collect(), omitted)
}

#[test]
fn a_unique_column_with_a_usual_name_becomes_the_account() {
    let id = || primary(column("id", ColumnKind::BigInteger));
    for (columns, expected) in [
        (vec![id(), text("city", 5)], ("id", false)),
        (vec![primary(column("id", ColumnKind::Uuid))], ("id", true)),
        // The name of a column for IM counts more than the primary key.
        (vec![id(), unique(text("im_user_id", ROWS))], ("im_user_id", false)),
        // A text that spells uuids.
        (
            vec![primary(looking_like(text("id", ROWS), |sample| {
                sample.max_bytes = 36;
                sample.uuids = ROWS;
            }))],
            ("id", true),
        ),
        // Unique columns that must not leave the database come last.
        (
            vec![unique(text("api_token", ROWS)), unique(text("email", ROWS)), unique(text("slug", ROWS))],
            ("slug", false),
        ),
        // As in a view: the name, and no value twice.
        (vec![text("name", ROWS), text("user_id", ROWS)], ("user_id", false)),
    ] {
        assert_eq!(account_of(columns), Ok((expected.0.to_owned(), expected.1)));
    }
}

#[test]
fn without_a_suitable_account_the_reasons_are_given() {
    for (columns, reason) in [
        (vec![unique(text("email", ROWS))], "email looks like an e-mail address"),
        (vec![primary(column("id", ColumnKind::Other))], "id is Other, and an account column is text"),
        (vec![text("id", 900)], "id has the same value in several rows"),
        (
            vec![primary(looking_like(text("id", ROWS), |sample| sample.max_bytes = 40))],
            "id has values of 40 bytes, and IM takes at most 32",
        ),
        (
            vec![primary(IntrospectedColumn { deterministic: false, ..column("id", ColumnKind::Text) })],
            "id is Text with a nondeterministic collation",
        ),
        (vec![text("city", 5)], "no column has a unique index of its own"),
    ] {
        let error = account_of(columns).expect_err("nothing suits");
        assert!(error.contains(reason) && error.contains("read from a view"), "{error}");
    }
}

#[test]
fn the_watermark_has_a_trigger_or_an_index_or_a_usual_name() {
    let stamp = |name: &str| column(name, ColumnKind::Timestamptz);
    let trigger = |sets_every_update| {
        Some(FoundTrigger { name: "touch".to_owned(), table: "users".to_owned(), sets_every_update })
    };
    let with_trigger = |name: &str| IntrospectedColumn { trigger: trigger(true), ..stamp(name) };
    let indexed = |name: &str| IntrospectedColumn { leads_index: true, ..stamp(name) };
    for (columns, expected) in [
        (vec![stamp("created_at"), stamp("updated_at")], "updated_at"),
        (vec![stamp("updated_at"), with_trigger("changed")], "changed"),
        (vec![stamp("modified"), indexed("mtime")], "mtime"),
        // Whatever its name is.
        (vec![stamp("created_at"), with_trigger("moved")], "moved"),
        (vec![sampled("row_version", ColumnKind::BigInteger, ROWS)], "row_version"),
    ] {
        assert_eq!(watermark_of(columns), Ok((expected.to_owned(), None)));
    }
    let local = watermark_of(vec![column("updated_at", ColumnKind::Timestamp)]);
    assert_eq!(local, Ok(("updated_at".to_owned(), Some("Asia/Shanghai".to_owned()))));
    for (columns, reason) in [
        (vec![stamp("created_at"), stamp("last_login_at")], "No column was found that moves with every change"),
        (vec![sampled("version", ColumnKind::BigInteger, 9)], "each row counts for itself"),
        (vec![column("updated_at", ColumnKind::Date)], "updated_at is Date"),
        (vec![IntrospectedColumn { trigger: trigger(false), ..stamp("inserted") }], "No column was found"),
    ] {
        assert!(watermark_of(columns).is_err_and(|error| error.contains(reason)));
    }
    let late =
        IntrospectedTable { watermark_obstacle: Some("it is old".to_owned()), ..table(vec![stamp("updated_at")]) };
    assert!(proposal::watermark(&late, None).is_err_and(|error| error.contains("it is old")));
}

#[test]
fn a_deleted_column_is_nullable_or_a_boolean() {
    let proposed = |column: IntrospectedColumn| proposal::deletion(&table(vec![column]), &[]);
    for kind in [ColumnKind::Timestamptz, ColumnKind::Timestamp, ColumnKind::Date, ColumnKind::Boolean] {
        assert_eq!(proposed(column("deleted_at", kind)).column.as_deref(), Some("deleted_at"));
    }
    let filled = ColumnStatistics { distinct: 5.0, null_fraction: 0.1 };
    for (column, reason) in [
        (
            IntrospectedColumn { not_null: true, ..column("deleted_at", ColumnKind::Timestamptz) },
            "every row would count",
        ),
        (
            IntrospectedColumn { statistics: Some(filled), ..column("deleted_at", ColumnKind::Timestamptz) },
            "most rows have a value",
        ),
        (column("deleted", ColumnKind::Text), "every value but NULL would mean gone"),
    ] {
        let proposed = proposed(column);
        assert!(proposed.column.is_none() && proposed.why.contains(reason), "{proposed:?}");
    }
    let number = proposed(column("Is_Deleted", ColumnKind::Integer));
    assert_eq!(number.filter.as_deref(), Some("\"Is_Deleted\" IS NOT DISTINCT FROM 0"));
    assert_eq!(proposed(column("city", ColumnKind::Boolean)), proposal::ProposedDeletion::default());
}

#[test]
fn short_texts_with_few_values_become_attributes() {
    let (chosen, _) = attributes_of(vec![
        sampled("level", ColumnKind::Integer, 40),
        sampled("vip", ColumnKind::Boolean, 2),
        text("city", 300),
        text("plan", 3),
        column("mood", ColumnKind::Enum(3)),
    ]);
    assert_eq!(chosen, ["level", "vip", "city", "plan", "mood"], "in the order of the table");
    // Eleven columns: the one that is worst is left out.
    let mut columns: Vec<IntrospectedColumn> = (0..10).map(|number| text(&format!("kind{number}"), 5)).collect();
    columns.insert(0, sampled("age", ColumnKind::Integer, 80));
    let (chosen, omitted) = attributes_of(columns);
    assert_eq!(chosen.len(), 10);
    assert!(omitted[0].column == "age" && omitted[0].reason.contains("at most 10 attributes"), "{omitted:?}");
}

#[test]
fn what_must_not_be_sent_by_accident_is_left_out() {
    for (column, reason) in [
        (text("password", 5), "looks like a password"),
        (text("plan_token", 5), "a key, a token or a hash"),
        (looking_like(text("contact", 9), |sample| sample.emails = 1), "look like an e-mail address"),
        (looking_like(text("contact", 9), |sample| sample.phones = 1), "look like a phone number"),
        (looking_like(sampled("reach", ColumnKind::BigInteger, 9), |sample| sample.phones = 1), "a phone number"),
        (looking_like(text("checksum", 9), |sample| sample.secrets = 1), "look like a hash"),
        (column("city", ColumnKind::Text), "no rows could be read"),
        (column("score", ColumnKind::Integer), "no rows could be read"),
        (column("score", ColumnKind::BigInteger), "no rows could be read"),
        (looking_like(text("bio", 9), |sample| sample.too_long = 200), "its values are long"),
        (looking_like(text("city", 9), |sample| (sample.values, sample.distinct) = (0, 0)), "every row has NULL"),
        (text("full_name", 990), "about 990 different values"),
        (sampled("score", ColumnKind::Integer, 900), "about 900 different values in 1,000 rows"),
        (sampled("team_id", ColumnKind::Integer, 5), "it identifies something else"),
        (sampled("version", ColumnKind::Integer, 5), "when or whether the row changed"),
        (column("seen_at", ColumnKind::Timestamptz), "its type is Timestamptz"),
        (IntrospectedColumn { name: "a\nb".to_owned(), ..text("", 5) }, "control character"),
    ] {
        let (chosen, omitted) = attributes_of(vec![column, text("plan", 5)]);
        assert_eq!(chosen, ["plan"]);
        assert!(omitted[0].reason.contains(reason), "{omitted:?}");
    }
    let unreadable = IntrospectedColumn { readable: false, ..text("city", 5) };
    let (chosen, omitted) = attributes_of(vec![unreadable.clone(), text("plan", 5)]);
    assert!(chosen == ["plan"] && omitted[0].reason.contains("lacks SELECT"), "{omitted:?}");
    // Where the role may read nothing, `check` names the grant.
    assert_eq!(attributes_of(vec![unreadable]).0, ["city"]);
}

#[test]
fn in_a_small_table_values_that_hardly_repeat_are_left_out() {
    let small = |column: IntrospectedColumn, distinct, values| {
        looking_like(column, |sample| (sample.rows, sample.values, sample.distinct) = (values, values, distinct))
    };
    for kind in [ColumnKind::Text, ColumnKind::CaseInsensitiveText, ColumnKind::Integer, ColumnKind::BigInteger] {
        for (distinct, values, is_chosen) in
            [(4, 4, true), (5, 5, false), (4, 5, true), (36, 40, false), (20, 40, true)]
        {
            let (chosen, omitted) = attributes_of(vec![small(sampled("nick", kind, 1), distinct, values)]);
            assert_eq!(chosen.len() == 1, is_chosen, "{kind:?}, {distinct} of {values}: {omitted:?}");
        }
    }
    let (chosen, _) = attributes_of(vec![small(sampled("vip", ColumnKind::Boolean, 2), 2, 2)]);
    assert_eq!(chosen, ["vip"]);
}

#[test]
fn without_a_sample_only_enums_and_booleans_are_proposed() {
    let statistics = Some(ColumnStatistics { distinct: 3.0, null_fraction: 0.0 });
    let (chosen, omitted) = attributes_of(vec![
        column("mood", ColumnKind::Enum(3)),
        column("vip", ColumnKind::Boolean),
        IntrospectedColumn { statistics, ..column("city", ColumnKind::Text) },
        column("level", ColumnKind::Integer),
    ]);
    assert_eq!(chosen, ["mood", "vip"]);
    assert!(omitted.iter().all(|omitted| omitted.reason == "no rows could be read"), "{omitted:?}");
}

#[test]
fn statistics_of_the_whole_table_count_more_than_a_sample() {
    let statistics = Some(ColumnStatistics { distinct: -0.9, null_fraction: 0.0 });
    let (_, omitted) = attributes_of(vec![IntrospectedColumn { statistics, ..text("nick", 5) }]);
    assert!(omitted[0].reason.contains("about 900 different values"), "{omitted:?}");
}

#[test]
fn the_option_attributes_is_checked() {
    let parsed = |items: &[&str]| parse_named(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
    let named = |name: &str, column: &str| NamedAttribute { name: name.to_owned(), column: column.to_owned() };
    assert_eq!(parsed(&["city", "sex=Gender"]), Ok(vec![named("city", "city"), named("sex", "Gender")]));
    assert_eq!(parsed(&["a=city", "b=city"]), Ok(vec![named("a", "city"), named("b", "city")]));
    let many: Vec<String> = (0..11).map(|number| format!("c{number}")).collect();
    let long = "x".repeat(51);
    for (items, reason) in [
        (vec!["city", "city"], "twice"),
        (vec![""], "neither a column nor name=column"),
        (vec!["=city"], "neither a column nor name=column"),
        (vec![long.as_str()], "1 to 50 bytes"),
        (many.iter().map(String::as_str).collect(), "at most 10"),
    ] {
        assert!(parsed(&items).is_err_and(|error| error.contains(reason)), "{items:?}");
    }
}

/// The text for a table with these columns, and the configuration that it is when `[im]` is complete.
fn written(table: &IntrospectedTable) -> (String, config::Config) {
    let account = proposal::account(table);
    let watermark = proposal::watermark(table, None);
    let deletion = proposal::deletion(table, &[]);
    let taken = account.as_ref().ok().map(|account| account.column.clone());
    let (attributes, omitted) = attributes::propose(table, &[taken.as_deref().unwrap_or_default()]);
    let environment = Environment::default();
    let proposal = ConfigProposal {
        relation: &table.relation,
        url: Some("postgres://u:p%40ss\\'\"@localhost/app"),
        origin: &UrlOrigin::Argument,
        account,
        watermark,
        watermark_details: None,
        deletion,
        attributes,
        omitted,
        unsampled: Some("a\nb = 1".to_owned()),
        environment: &environment,
    };
    let text = proposal.text(&ImOptions::default());
    assert!(config::parse(&text, Path::new("imsync.toml"), &environment, true).is_err(), "lines are left to fill in");
    let filled = proposal.filled(&ImOptions::default()).expect("there is an account");
    let loaded = config::parse(&filled, Path::new("imsync.toml"), &environment, false);
    (text, loaded.unwrap_or_else(|problems| panic!("{problems}\n{filled}")).config)
}

#[test]
fn the_file_is_read_as_it_was_meant_whatever_the_names_are() {
    for odd in ["Users", "a\"b'c", "a.b", "用户 表", "back\\slash", "# x", "1=2", "ÄÖ", "a]b"] {
        let mut table = table(vec![
            primary(column(odd, ColumnKind::Uuid)),
            IntrospectedColumn { name: format!("{odd}2"), ..text("", 4) },
            column("updated_at", ColumnKind::Timestamp),
            column("deleted_at", ColumnKind::Boolean),
        ]);
        (table.relation.schema, table.relation.name) = (format!("s{odd}"), odd.to_owned());
        let (text, config) = written(&table);
        let source = &config.source;
        let name = source.table_name().expect("the name is valid");
        assert_eq!((name.schema.as_deref(), name.table.as_str()), (Some(format!("s{odd}").as_str()), odd), "{text}");
        assert_eq!((source.account_column.as_str(), source.account_format), (odd, AccountFormat::Hex));
        assert_eq!(source.watermark_column.as_deref(), Some("updated_at"));
        assert_eq!(source.watermark_timezone, "Asia/Shanghai");
        assert_eq!(source.deleted_column.as_deref(), Some("deleted_at"));
        let attributes: Vec<&str> = config.attributes.iter().map(|attribute| attribute.column.as_str()).collect();
        assert_eq!(attributes, [format!("{odd}2")]);
    }
}

#[test]
fn names_of_attributes_are_short_and_differ() {
    let long = "x".repeat(60);
    let columns = vec![text("City", 4), text("city", 4), text("CITY", 4), text(&long, 4), text(&format!("{long}y"), 4)];
    let (attributes, _) = attributes::propose(&table(columns), &[]);
    let names: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    assert_eq!(names[..3], ["city", "city_2", "city_3"]);
    assert!(names[3].len() == 50 && names[4].len() == 50 && names[4].ends_with("x_2"), "{names:?}");
}

#[test]
fn a_file_without_an_attribute_says_that_one_is_required() {
    let (text, config) = written(&table(vec![primary(column("id", ColumnKind::BigInteger))]));
    assert!(text.contains("# city = \"city\" # <-") && text.contains("At least one attribute is required"), "{text}");
    assert_eq!(config.attributes.len(), 1);
}
