//! The secret key that signs, and the file from which a rotated one is read.
//!
//! Owns: which key is in use, which one IM has accepted or refused. Must not know: UserSigs, calls.
//!
//! A key can change in the console before or after it changes in the file. So a refused key is replaced by that of the
//! file, and a key of the file that IM does not take yet by the one that it took before.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};

use crate::secret_file::SecretFile;

/// A refused key is not tried again for so long. IM stops checking the UserSigs of an app for which too many fail.
const RETRY_SECONDS: i64 = 5;

/// The key of one app.
pub(super) struct SigningKey {
    in_use: SecretString,
    /// IM has taken a UserSig of the key in use.
    is_accepted: bool,
    /// The key that IM took last, where it is not the one in use.
    accepted_before: Option<SecretString>,
    /// The keys that IM refused, and when.
    refused: Vec<(SecretString, DateTime<Utc>)>,
    file: Option<SecretFile>,
    /// The reason that was logged last, so that it is not logged for each call.
    logged: String,
}

impl SigningKey {
    /// `file`: where the key comes from; `None` for a key that is given by value.
    pub(super) fn new(key: SecretString, file: Option<SecretFile>) -> Self {
        let (refused, logged) = (Vec::new(), String::new());
        Self { in_use: key, is_accepted: false, accepted_before: None, refused, file, logged }
    }

    /// The key in use. It must not be shown.
    pub(super) fn expose(&self) -> &str {
        self.in_use.expose_secret()
    }

    /// Before a new signature: uses the key of the file, unless IM has just refused it.
    pub(super) fn read_file(&mut self, now: DateTime<Utc>) {
        self.forget_refusals(now);
        if let Some(key) = self.key_of_file().filter(|key| !self.was_refused(key)) {
            self.switch(key);
        }
    }

    /// IM has refused a signature of the key in use. False when there is no other key to try.
    pub(super) fn replace_refused(&mut self, now: DateTime<Utc>) -> bool {
        self.forget_refusals(now);
        let refused = self.in_use.clone();
        if !self.was_refused(&refused) {
            self.refused.push((refused, now));
        }
        let other = self.key_of_file().or_else(|| self.accepted_before.clone());
        match other.filter(|key| !self.was_refused(key)) {
            Some(key) => {
                self.switch(key);
                true
            }
            None => false,
        }
    }

    /// IM has taken a signature of the key in use.
    pub(super) fn accept(&mut self) {
        if self.is_accepted {
            return;
        }
        self.is_accepted = true;
        let rotated = self.accepted_before.take().is_some_and(|before| !same(&before, &self.in_use));
        let in_use = self.in_use.clone();
        self.refused.retain(|(key, _)| !same(key, &in_use));
        if let Some(file) = self.file.as_ref().filter(|_| rotated) {
            tracing::info!(key = file.key(), file = %file.path().display(), "a rotated secret is in use");
        }
    }

    fn switch(&mut self, key: SecretString) {
        let before = std::mem::replace(&mut self.in_use, key);
        if self.is_accepted {
            self.accepted_before = Some(before);
        }
        self.is_accepted = false;
    }

    fn was_refused(&self, key: &SecretString) -> bool {
        self.refused.iter().any(|(refused, _)| same(refused, key))
    }

    fn forget_refusals(&mut self, now: DateTime<Utc>) {
        // A clock that was set back must not keep a refusal for ever.
        self.refused.retain(|(_, at)| (0..RETRY_SECONDS).contains(&now.signed_duration_since(*at).num_seconds()));
    }

    /// The key of the file, where it is another one than the key in use.
    fn key_of_file(&mut self) -> Option<SecretString> {
        let file = self.file.as_ref()?;
        let read = file.read_again().and_then(|key| match key {
            Some(key) if key.expose_secret().contains(|c: char| c.is_whitespace() || c.is_control()) => {
                Err(format!("{} contains white space or a control character", file.path().display()))
            }
            key => Ok(key),
        });
        match read {
            Ok(key) => {
                self.logged.clear();
                key.filter(|key| !same(key, &self.in_use))
            }
            Err(reason) => {
                if self.logged != reason {
                    tracing::warn!(
                        key = file.key(),
                        file = %file.path().display(),
                        "the new content of a secret file is not used, the old secret stays in force: {reason}"
                    );
                    self.logged = reason;
                }
                None
            }
        }
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    /// The key "old" that IM has taken, and the file of it.
    fn accepted_key(directory: &tempfile::TempDir) -> (SigningKey, std::path::PathBuf) {
        let path = directory.path().join("key");
        fs::write(&path, "old\n").unwrap();
        let file = SecretFile::new("im.secret_key_file", path.clone());
        let mut key = SigningKey::new("old".into(), Some(file));
        key.accept();
        (key, path)
    }

    #[test]
    fn a_refused_key_is_replaced_by_that_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (mut key, path) = accepted_key(&directory);
        assert!(!key.replace_refused(at(0)), "the file holds the same key");
        fs::write(&path, "\u{feff}new\r\n").unwrap();
        assert!(key.replace_refused(at(0)));
        assert_eq!(key.expose(), "new");
    }

    #[test]
    fn a_key_that_is_not_valid_yet_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let (mut key, path) = accepted_key(&directory);
        fs::write(&path, "new").unwrap();
        key.read_file(at(0));
        assert_eq!(key.expose(), "new");
        assert!(key.replace_refused(at(0)));
        assert_eq!(key.expose(), "old");
        key.accept();
        key.read_file(at(1));
        assert_eq!(key.expose(), "old", "the new one was refused a moment ago");
        assert!(!key.replace_refused(at(1)), "both are refused");
        assert!(key.replace_refused(at(6)), "the new one is tried again after a while");
        assert_eq!(key.expose(), "new");
    }

    #[test]
    fn an_unusable_file_leaves_the_key_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let (mut key, path) = accepted_key(&directory);
        for content in ["", "\n", "two words", "\u{feff}"] {
            fs::write(&path, content).unwrap();
            assert!(!key.replace_refused(at(0)), "{content:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(!key.replace_refused(at(0)));
        assert_eq!(key.expose(), "old");
    }
}
