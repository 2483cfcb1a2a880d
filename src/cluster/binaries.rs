//! PostgreSQL's server programs and the user that may run them.
//!
//! Owns: the search on PATH and in the distributions' versioned directories, and the unprivileged user. Must not know:
//! what the programs are used for.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{ClusterError, OLDEST_SUPPORTED};

/// Debian and Ubuntu install each major version in a directory of its own, outside PATH.
const VERSIONED_DIRECTORY: &str = "/usr/lib/postgresql";

/// Checks that a supported version of PostgreSQL's server programs is installed. Starting a server may still fail.
///
/// # Errors
/// [`ClusterError::NotInstalled`] or [`ClusterError::TooOld`].
pub fn check_installed() -> Result<(), ClusterError> {
    Binaries::find().map(drop)
}

/// A directory that contains `initdb` and `postgres` of one version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    pub(super) directory: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The first supported version on PATH, otherwise the newest one in the versioned directories.
    pub(super) fn find() -> Result<Self, ClusterError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::search(&path, Path::new(VERSIONED_DIRECTORY))
    }

    /// [`Binaries::find`] with the value of PATH and the parent of the versioned directories.
    pub(super) fn search(path: &OsStr, versioned: &Path) -> Result<Self, ClusterError> {
        let mut too_old = None;
        for directory in std::env::split_paths(path).chain(newest_first(versioned)) {
            let Some(major) = major_version(&directory) else { continue };
            if major >= OLDEST_SUPPORTED {
                return Ok(Self { directory, major });
            }
            too_old = Some(major);
        }
        Err(match too_old {
            Some(major) => ClusterError::TooOld { major },
            None => ClusterError::NotInstalled,
        })
    }
}

/// The directories `<versioned>/<number>/bin`, highest number first.
fn newest_first(versioned: &Path) -> Vec<PathBuf> {
    let mut directories: Vec<(u32, PathBuf)> = fs::read_dir(versioned)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    directories.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    directories.into_iter().map(|(_, directory)| directory).collect()
}

/// The major version of the server in a directory; `None` if one of the programs is missing or does not run.
fn major_version(directory: &Path) -> Option<u32> {
    if !directory.is_absolute() || !directory.join("initdb").is_file() {
        return None;
    }
    // Such as "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" or "postgres (PostgreSQL) 18beta1".
    let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_once("(PostgreSQL) ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The user for the server if this process is root, because `initdb` and `postgres` refuse to run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnprivilegedUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl UnprivilegedUser {
    /// The user `postgres`, otherwise `nobody`.
    pub(super) fn find() -> Result<Self, ClusterError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::from_passwd(&passwd).ok_or(ClusterError::NoUnprivilegedUser)
    }

    /// [`UnprivilegedUser::find`] with the text of `/etc/passwd`.
    pub(super) fn from_passwd(passwd: &str) -> Option<Self> {
        ["postgres", "nobody"].iter().find_map(|wanted| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                if fields.next()? != *wanted {
                    return None;
                }
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                (uid != 0).then_some(Self { uid, gid })
            })
        })
    }
}
