//! Which columns become attributes, and why the others do not. Pure.
//!
//! Owns: the names of attributes, the order of the columns, the reasons. Must not know: statements, the form of the file.
//!
//! Attributes select the recipients of campaigns. So short texts with few different values come first, and columns that
//! nobody selects by, or that must not leave the database by accident, are only taken when they are named.

use std::collections::BTreeSet;

use super::names::{deleted_score, is_reference, is_segment, sensitive, watermark_score};
use super::proposal::{is_nameable, usable};
use crate::commands::output::thousands;
use crate::model::{MAX_ATTRIBUTE_NAME_BYTES, MAX_ATTRIBUTES, MAX_VALUE_BYTES};
use crate::source::{ColumnKind, ColumnSample, IntrospectedColumn, IntrospectedTable};

/// So many different values are few.
const FEW: u64 = 100;
/// More different values than this select nobody.
const MANY: u64 = 5_000;
/// Values from which on it shows whether half of them repeat.
const TELLING_VALUES: u64 = 50;
/// Values from which on it counts when hardly any of them repeats.
const FEWEST_VALUES: u64 = 5;

/// An attribute that the command line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedAttribute {
    pub(super) name: String,
    pub(super) column: String,
}

/// An attribute of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProposedAttribute {
    pub(super) name: String,
    pub(super) column: String,
    /// What was found.
    pub(super) note: String,
}

/// A column that is no attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OmittedColumn {
    pub(super) column: String,
    pub(super) reason: String,
}

/// Reads the argument of `--attributes`: columns, or `name=column`.
///
/// # Errors
/// More than ten, a name twice, or a name that IM does not accept.
pub(super) fn parse_named(items: &[String]) -> Result<Vec<NamedAttribute>, String> {
    let mut named: Vec<NamedAttribute> = Vec::new();
    for item in items {
        let (name, column) = item.split_once('=').unwrap_or((item, item));
        let (name, column) = (name.trim(), column.trim());
        if name.is_empty() || column.is_empty() {
            return Err(format!("--attributes: {item:?} is neither a column nor name=column"));
        }
        if name.len() > MAX_ATTRIBUTE_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(format!(
                "--attributes: the attribute name {name:?} is not valid; IM accepts 1 to {MAX_ATTRIBUTE_NAME_BYTES} bytes without control characters, so write name=column"
            ));
        }
        if named.iter().any(|before| before.name == name) {
            return Err(format!("--attributes names {name:?} twice; leave one of them out, or write name=column"));
        }
        named.push(NamedAttribute { name: name.to_owned(), column: column.to_owned() });
    }
    if named.len() > MAX_ATTRIBUTES {
        return Err(format!("--attributes names {} attributes; an IM app has at most {MAX_ATTRIBUTES}", named.len()));
    }
    Ok(named)
}

/// The attributes that the command line names, with what was found about their columns.
pub(super) fn named(table: &IntrospectedTable, named: &[NamedAttribute]) -> Vec<ProposedAttribute> {
    let of = |attribute: &NamedAttribute| {
        let NamedAttribute { name, column } = attribute.clone();
        let note = table.column(&column).map(|column| describe(table, column)).unwrap_or_default();
        ProposedAttribute { name, column, note }
    };
    named.iter().map(of).collect()
}

/// At most ten attributes, and the columns that were left out. `taken`: the columns with another use.
pub(super) fn propose(table: &IntrospectedTable, taken: &[&str]) -> (Vec<ProposedAttribute>, Vec<OmittedColumn>) {
    let usable: Vec<&str> = usable(table).map(|column| column.name.as_str()).collect();
    let mut ranked = Vec::new();
    let mut omitted: Vec<(usize, OmittedColumn)> = Vec::new();
    for (place, column) in table.columns.iter().enumerate().filter(|(_, column)| !taken.contains(&column.name.as_str()))
    {
        let judged = match usable.contains(&column.name.as_str()) {
            true => judge(table, column),
            false if !is_nameable(column) => Err("its name contains a control character".to_owned()),
            false => Err("the role lacks SELECT on it".to_owned()),
        };
        match judged {
            Ok(rank) => ranked.push((rank, place, column)),
            Err(reason) => omitted.push((place, OmittedColumn { column: column.name.clone(), reason })),
        }
    }
    ranked.sort_by_key(|(rank, place, _)| (*rank, *place));
    let surplus = ranked.split_off(ranked.len().min(MAX_ATTRIBUTES));
    omitted.extend(surplus.into_iter().map(|(_, place, column)| {
        let reason = format!("an app has at most {MAX_ATTRIBUTES} attributes; {}", describe(table, column));
        (place, OmittedColumn { column: column.name.clone(), reason })
    }));
    omitted.sort_by_key(|(place, _)| *place);
    ranked.sort_by_key(|(_, place, _)| *place);
    let mut names = BTreeSet::new();
    let attributes = ranked.into_iter().map(|(_, _, column)| ProposedAttribute {
        name: attribute_name(&column.name, &mut names),
        column: column.name.clone(),
        note: describe(table, column),
    });
    (attributes.collect(), omitted.into_iter().map(|(_, omitted)| omitted).collect())
}

/// The name of a column in lower case, at most 50 bytes, unlike those that are in use.
fn attribute_name(column: &str, names: &mut BTreeSet<String>) -> String {
    let mut name = column.to_lowercase();
    name.truncate(name.floor_char_boundary(MAX_ATTRIBUTE_NAME_BYTES));
    let mut number = 2;
    let whole = name.clone();
    while !names.insert(name.clone()) {
        let suffix = format!("_{number}");
        let kept = whole.floor_char_boundary(MAX_ATTRIBUTE_NAME_BYTES - suffix.len());
        name = format!("{}{suffix}", &whole[..kept]);
        number += 1;
    }
    name
}

/// How well a column suits, smaller is better; or why it does not.
fn judge(table: &IntrospectedTable, column: &IntrospectedColumn) -> Result<(u32, bool, bool), String> {
    if let Some(what) = sensitive(&column.name) {
        return Err(format!("its name looks like {what}"));
    }
    if let Some(reason) = column.sample.and_then(|sample| form_of(&sample)) {
        return Err(reason);
    }
    if watermark_score(&column.name) > 0 || deleted_score(&column.name) > 0 {
        return Err("it says when or whether the row changed".to_owned());
    }
    if is_reference(&column.name) {
        return Err("it identifies something else".to_owned());
    }
    let is_free = column.kind.is_text() || column.kind.is_integer();
    if is_free && column.sample.is_none() {
        return Err("no rows could be read".to_owned());
    }
    let variety = variety(table, column);
    if let Some(variety) = variety.filter(|variety| is_free && variety.is_nearly_unique()) {
        return Err(variety.in_words());
    }
    let class = match (column.kind, variety) {
        (_, Some(Variety { of: 0, .. })) => return Err("every row has NULL".to_owned()),
        (ColumnKind::Enum(_), _) => 0,
        (ColumnKind::Text | ColumnKind::CaseInsensitiveText, Some(variety)) => class_of_text(variety)?,
        (ColumnKind::Boolean, _) => 1,
        (ColumnKind::Integer | ColumnKind::BigInteger, Some(variety)) if variety.distinct <= FEW => 2,
        (ColumnKind::Integer | ColumnKind::BigInteger, Some(variety)) => {
            return Err(format!("a number with about {} different values", thousands(variety.distinct)));
        }
        _ => return Err(format!("its type is {}", column.type_name)),
    };
    let is_constant = variety.is_some_and(|variety| variety.distinct <= 1);
    Ok((class, is_constant, !is_segment(&column.name)))
}

fn class_of_text(variety: Variety) -> Result<u32, String> {
    let Variety { distinct, of } = variety;
    if distinct > MANY || (of >= TELLING_VALUES && distinct > FEW.min(of / 2) && distinct * 2 > of) {
        return Err(variety.in_words());
    }
    Ok(if distinct <= FEW { 0 } else { 3 })
}

/// What the values look like that must not be sent by accident, or that are too long. One of them is
/// enough: a sample shows few of the rows.
fn form_of(sample: &ColumnSample) -> Option<String> {
    let forms = [
        (sample.emails, "an e-mail address"),
        (sample.phones, "a phone number"),
        (sample.secrets, "a hash, a token or a key"),
        (sample.uuids, "a uuid"),
    ];
    let found = forms.into_iter().find(|(count, _)| *count > 0);
    if let Some((_, what)) = found {
        return Some(format!("its values look like {what}"));
    }
    (sample.too_long * 10 > sample.values)
        .then(|| format!("its values are long, and IM takes at most {MAX_VALUE_BYTES} bytes"))
}

/// About how many different values there are, in how many rows without NULL.
#[derive(Clone, Copy, Debug)]
struct Variety {
    distinct: u64,
    of: u64,
}

impl Variety {
    /// Hardly any value repeats, as with names, numbers and passwords of people.
    fn is_nearly_unique(self) -> bool {
        self.of >= FEWEST_VALUES && self.distinct * 10 >= self.of * 9
    }

    fn in_words(self) -> String {
        format!("about {} different values in {} rows", thousands(self.distinct), thousands(self.of))
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "estimates, never negative"
)]
fn variety(table: &IntrospectedTable, column: &IntrospectedColumn) -> Option<Variety> {
    let of_sample = column.sample.map(|sample| Variety { distinct: sample.distinct, of: sample.values });
    let of_statistics = column.statistics.zip(table.relation.estimated_rows).map(|(statistics, rows)| {
        let rows = rows as f64;
        let distinct = if statistics.distinct < 0.0 { -statistics.distinct * rows } else { statistics.distinct };
        let of = (1.0 - statistics.null_fraction).max(0.0) * rows;
        Variety { distinct: distinct.round() as u64, of: of.round() as u64 }
    });
    of_statistics.or(of_sample)
}

/// A sentence about a column without its full stop.
fn describe(table: &IntrospectedTable, column: &IntrospectedColumn) -> String {
    let mut parts = vec![column.type_name.clone()];
    match (column.kind, variety(table, column)) {
        (ColumnKind::Enum(labels), _) => parts.push(format!("{labels} labels")),
        (ColumnKind::Boolean, _) => {
            parts.push("IM gets \"true\" and \"false\", or what `values` maps them to".to_owned());
        }
        (_, Some(Variety { distinct: 1, .. })) => parts.push("one value so far".to_owned()),
        (_, Some(variety)) => parts.push(format!("about {} different values", thousands(variety.distinct))),
        (_, None) => parts.push("not analyzed yet".to_owned()),
    }
    let Some(sample) = column.sample.filter(|sample| sample.rows > 0) else { return parts.join(", ") };
    if column.kind.is_text() {
        let bytes = if sample.max_bytes == 1 { "byte" } else { "bytes" };
        parts.push(format!("at most {} {bytes} in a sample", thousands(sample.max_bytes)));
    }
    if sample.values < sample.rows {
        parts.push(format!("NULL in {} of {} rows", thousands(sample.rows - sample.values), thousands(sample.rows)));
    }
    if sample.too_long > 0 {
        parts.push(format!(
            "{} with more than {MAX_VALUE_BYTES} bytes, which are rejected unless too_long = \"truncate\" is set",
            thousands(sample.too_long)
        ));
    }
    parts.join(", ")
}
