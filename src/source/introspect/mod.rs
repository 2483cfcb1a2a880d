//! Describes the tables of a database for `imsync init`, before there is a configuration.
//!
//! This file lists the files of the folder. Nothing here is used by a pass; no statement writes, and no answer contains a
//! value of a row.
//!
//! | File | Content |
//! |---|---|
//! | `introspection` | [`Introspection`]: the connection and the order of the questions |
//! | `relations` | the relations of the database with their columns and keys |
//! | `profile` | how many values the columns have, and what they look like: from `pg_stats` and from a sample of rows |
//! | `facts` | the types of the answers |

mod facts;
mod introspection;
mod profile;
mod relations;

pub use facts::{
    ColumnKind, ColumnSample, ColumnStatistics, IntrospectedColumn, IntrospectedTable, RelationFacts, WatermarkDetails,
};
pub use introspection::Introspection;
