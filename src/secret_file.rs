//! A file that holds a secret. It is read again while imsync runs, because secrets rotate.
//!
//! Owns: which part of a file is the secret, and why a file holds none. Must not know: what a secret opens, when it is read.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// A URL or a key has some hundred bytes. The limit refuses `/dev/zero` and the like.
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;

/// The file of a secret, and the key or variable that names it.
#[derive(Clone, Debug)]
pub struct SecretFile {
    key: &'static str,
    path: PathBuf,
    /// A pipe or a device gives its content once. It is not read again.
    rereadable: bool,
}

/// The content of a secret file.
#[derive(Debug)]
pub struct SecretContent {
    /// The secret.
    pub text: SecretString,
    /// The permissions let every user read the file.
    pub world_readable: bool,
}

impl SecretFile {
    /// `key`: the key or the variable that names the file.
    pub fn new(key: &'static str, path: PathBuf) -> Self {
        let rereadable = fs::metadata(&path).is_ok_and(|metadata| metadata.is_file());
        Self { key, path, rereadable }
    }

    /// The key or the variable that names the file.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the secret again: the file as it is now, however it was replaced. `None` when it cannot be read twice.
    ///
    /// # Errors
    /// Why the file holds no secret now. The sentence names the file and shows nothing of its content.
    pub fn read_again(&self) -> Result<Option<SecretString>, String> {
        if !self.rereadable {
            return Ok(None);
        }
        let shown = self.path.display();
        let metadata =
            fs::metadata(&self.path).map_err(|error| format!("cannot read {shown}: {}", describe_io_error(&error)))?;
        // Opening a pipe would wait for its writer.
        if !metadata.is_file() {
            return Err(format!("{shown} is no longer a regular file"));
        }
        Ok(Some(self.read()?.text))
    }

    /// The content without a byte order mark and without one newline at its end.
    ///
    /// # Errors
    /// Why the file holds no secret. The sentence names the file and shows nothing of its content.
    pub fn read(&self) -> Result<SecretContent, String> {
        let shown = self.path.display();
        let failed = |error: io::Error| format!("cannot read {shown}: {}", describe_io_error(&error));
        let file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MAX_SECRET_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_SECRET_FILE_BYTES {
            return Err(format!("{shown} has more than {MAX_SECRET_FILE_BYTES} bytes, which is too much for a secret"));
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
        // Some editors start a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        if text.is_empty() {
            return Err(format!("{shown} is empty; write the secret into it"));
        }
        let world_readable = metadata.is_file() && world_readable(metadata.permissions().mode());
        Ok(SecretContent { text: SecretString::from(text), world_readable })
    }
}

/// Whether the permissions of a file let every user read it.
pub fn world_readable(mode: u32) -> bool {
    mode & 0o004 != 0
}

/// Completes the warning about such a file.
pub fn world_readable_warning(path: impl fmt::Display) -> String {
    format!("is readable by every user of this machine; run: chmod o= {path}")
}

/// A system error without its number, and what to do about it.
pub fn describe_io_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory; correct the path, or create the file".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; let the user that runs imsync read the file and enter its folders".to_owned()
        }
        io::ErrorKind::IsADirectory => "it is a directory; name a file in it".to_owned(),
        kind => kind.to_string(),
    }
}
