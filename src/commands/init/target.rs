//! The file that is written: never over another one, with mode 0600, whole or not at all.
//!
//! Owns: these three rules. Must not know: what is written.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::commands::exit::CommandFailure;
use crate::secret_file::describe_io_error;

/// Only the owner reads the file, which may hold a password.
const MODE: u32 = 0o600;

/// Fails when the file cannot be written, as far as that shows before. A link that leads nowhere counts as a file.
pub(super) fn check(path: &Path) -> Result<(), CommandFailure> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(exists(path));
    }
    match fs::metadata(directory(path)) {
        Ok(directory) if directory.is_dir() => Ok(()),
        Ok(_) => Err(CommandFailure::usage(format!("{}: not a directory", directory(path).display()))),
        Err(error) => Err(CommandFailure::usage(format!(
            "cannot write {}: {}: {}",
            path.display(),
            directory(path).display(),
            describe_io_error(&error)
        ))),
    }
}

/// Writes the file. It appears under its name when it is complete.
pub(super) fn write(path: &Path, text: &str) -> Result<(), CommandFailure> {
    let failed = |error: &io::Error| {
        CommandFailure::failed(format!("cannot write {}: {}", path.display(), describe_io_error(error)))
    };
    let mut file = tempfile::Builder::new()
        .prefix(".imsync-init-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(directory(path))
        .map_err(|error| failed(&error))?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(|error| failed(&error))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(refused) => Err(failed(&refused.error)),
    }
}

fn exists(path: &Path) -> CommandFailure {
    CommandFailure::usage(format!(
        "{} exists already, and `imsync init` never overwrites a file; name another one with -c FILE, or move it away",
        path.display()
    ))
}

/// The directory of a file; that of a name alone is the working directory.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
