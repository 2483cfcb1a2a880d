//! Where PostgreSQL's server programs are, and as whom they may run.
//!
//! Owns: the search on PATH and in the distributions' versioned folders, the unprivileged user.
//! Must not know: what is done with the server.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ClusterError;

/// The oldest server that imsync works with.
pub(super) const OLDEST: u32 = 14;

/// Debian and Ubuntu keep each major version in a folder of its own, outside PATH.
const VERSIONED: &str = "/usr/lib/postgresql";

/// A folder that holds `initdb` and `postgres` of one version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    pub(super) folder: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The first on PATH that is new enough, else the newest of the versioned folders.
    pub(super) fn find() -> Result<Self, ClusterError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::search(&path, Path::new(VERSIONED))
    }

    pub(super) fn search(path: &OsStr, versioned: &Path) -> Result<Self, ClusterError> {
        let mut too_old = None;
        for folder in std::env::split_paths(path).chain(newest_first(versioned)) {
            let Some(major) = major_of(&folder) else { continue };
            if major >= OLDEST {
                return Ok(Self { folder, major });
            }
            too_old = Some(major);
        }
        Err(match too_old {
            Some(major) => ClusterError::TooOld { major },
            None => ClusterError::NotInstalled,
        })
    }
}

/// `<versioned>/<number>/bin`, the highest number first.
fn newest_first(versioned: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<(u32, PathBuf)> = fs::read_dir(versioned)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    folders.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

/// The major version of the server in this folder; `None` when one of its programs is missing or does not run.
fn major_of(folder: &Path) -> Option<u32> {
    if !folder.is_absolute() || !folder.join("initdb").is_file() {
        return None;
    }
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.split_once("(PostgreSQL) ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whom the server runs as when we are root, which `initdb` and `postgres` refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unprivileged {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Unprivileged {
    /// `postgres`, else `nobody`.
    pub(super) fn find() -> Result<Self, ClusterError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::from_passwd(&passwd).ok_or(ClusterError::NoUnprivilegedUser)
    }

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
