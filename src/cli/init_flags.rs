//! The arguments of `imsync init`, declared for clap. The doc comments are help texts.
//!
//! Owns: these arguments. Must not know: what the command does with them.

use clap::{Args, value_parser};

#[derive(Debug, Args)]
pub(super) struct InitFlags {
    /// URL of the database, as psql takes it (default: `$IMSYNC_SOURCE_URL`)
    ///
    /// Every user of this machine can read the arguments of a process, so keep a password out of it: use ~/.pgpass,
    /// `IMSYNC_SOURCE_URL`, or `IMSYNC_SOURCE_URL_FILE`, the path of a file with the URL.
    #[arg(value_name = "URL")]
    pub(super) url: Option<String>,
    /// Table, view or materialized view with the users
    ///
    /// As in SQL, a name with capital letters needs double quotes: 'public."Users"'. If it is the only argument, the URL
    /// comes from the environment.
    #[arg(value_name = "TABLE")]
    pub(super) table: Option<String>,
    /// Columns that become attributes, at most ten
    ///
    /// An attribute has the name of its column; write name=column for another one. A named column is taken whatever its name
    /// or its values look like.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(super) attributes: Vec<String>,
    /// Data centre of the app, such as singapore
    #[arg(long, value_name = "REGION", conflicts_with = "base_url")]
    pub(super) region: Option<String>,
    /// URL of a proxy or of the simulator, instead of a data centre
    #[arg(long, value_name = "URL")]
    pub(super) base_url: Option<String>,
    /// SDKAppID of the app
    #[arg(long, value_name = "ID", value_parser = value_parser!(u32).range(1..))]
    pub(super) sdk_app_id: Option<u32>,
    /// UserID of an administrator of the app (default: administrator)
    #[arg(long, value_name = "NAME")]
    pub(super) identifier: Option<String>,
    /// File with the secret key of the app
    ///
    /// A relative path starts in the directory of the configuration file.
    #[arg(long, value_name = "FILE")]
    pub(super) secret_key_file: Option<String>,
}
