//! The types that an account column and a watermark column may have, domains over them included.
//!
//! Owns: their names in `pg_type` and in SQL, and which texts are values of an account type. Must not know: the table.

/// The type of an account column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccountType {
    Text,
    Varchar,
    /// `char(n)`: trailing blanks are not part of the text.
    Char,
    Int2,
    Int4,
    Int8,
    Uuid,
}

impl AccountType {
    /// The type with this `pg_type.typname`.
    pub(super) fn from_typname(typname: &str) -> Option<Self> {
        Some(match typname {
            "text" => Self::Text,
            "varchar" => Self::Varchar,
            "bpchar" => Self::Char,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    /// The type that a text is cast to.
    ///
    /// Without a length, because a cast to `varchar(10)` would cut a longer text to another account. Never a domain,
    /// because its check would fail the whole look-up for one account.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Text => "pg_catalog.text",
            Self::Varchar => "pg_catalog.varchar",
            Self::Char => "pg_catalog.bpchar",
            Self::Int2 => "pg_catalog.int2",
            Self::Int4 => "pg_catalog.int4",
            Self::Int8 => "pg_catalog.int8",
            Self::Uuid => "pg_catalog.uuid",
        }
    }

    /// A value of this type has exactly this text. Checked here, because a failed cast in `PostgreSQL` fails the whole
    /// statement.
    pub(super) fn has_value(self, text: &str) -> bool {
        let integer = |low: i64, high: i64| {
            text.parse::<i64>().is_ok_and(|value| (low..=high).contains(&value) && value.to_string() == text)
        };
        match self {
            Self::Text | Self::Varchar => !text.contains('\0'),
            Self::Char => !text.contains('\0') && !text.ends_with(' '),
            Self::Int2 => integer(i16::MIN.into(), i16::MAX.into()),
            Self::Int4 => integer(i32::MIN.into(), i32::MAX.into()),
            Self::Int8 => integer(i64::MIN, i64::MAX),
            Self::Uuid => {
                text.len() == 36
                    && text.bytes().enumerate().all(|(index, byte)| match index {
                        8 | 13 | 18 | 23 => byte == b'-',
                        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                    })
            }
        }
    }
}

/// The type of a watermark column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatermarkType {
    Timestamptz,
    /// Without time zone: `source.watermark_timezone` says how it is read.
    Timestamp,
    /// A counter.
    Int8,
}

impl WatermarkType {
    /// The type with this `pg_type.typname`.
    pub(super) fn from_typname(typname: &str) -> Option<Self> {
        Some(match typname {
            "timestamptz" => Self::Timestamptz,
            "timestamp" => Self::Timestamp,
            "int8" => Self::Int8,
            _ => return None,
        })
    }

    /// The type that a text is cast to.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Timestamptz => "pg_catalog.timestamptz",
            Self::Timestamp => "pg_catalog.timestamp",
            Self::Int8 => "pg_catalog.int8",
        }
    }
}
