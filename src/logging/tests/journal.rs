//! Tests of journal entries, and of detecting that stderr is connected to the journal.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use tracing::warn;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::logging::format::{ResolvedFormat, journald_layer, resolve};
use crate::logging::journal::{JournalSocket, is_journal_stream, with_priority_prefix};
use crate::model::LogFormat;

#[test]
fn a_journal_entry_has_a_message_and_searchable_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let journal = UnixDatagram::bind(&path).unwrap();
    let subscriber = Registry::default().with(journald_layer(JournalSocket::at(path)));
    tracing::subscriber::with_default(subscriber, || {
        warn!(account = "u1", db.code = 5, "refused\nPRIORITY=0");
    });
    let mut entry = [0; 4096];
    let read = journal.recv(&mut entry).unwrap();
    assert_eq!(
        std::str::from_utf8(&entry[..read]).unwrap(),
        "PRIORITY=4\n\
         MESSAGE=refused\\nPRIORITY=0 account=u1 db.code=5\n\
         SYSLOG_IDENTIFIER=imsync\n\
         IMSYNC_TARGET=imsync::logging::tests::journal\n\
         IMSYNC_ACCOUNT=u1\n\
         IMSYNC_DB_CODE=5\n"
    );
    assert_eq!(with_priority_prefix(&entry[..read]), "<4>refused\\nPRIORITY=0 account=u1 db.code=5\n");
}

#[test]
fn auto_is_journald_exactly_when_stderr_is_the_journal() {
    assert_eq!(resolve(LogFormat::Auto, || true), ResolvedFormat::Journald);
    assert_eq!(resolve(LogFormat::Auto, || false), ResolvedFormat::Text);
    assert_eq!(resolve(LogFormat::Text, || true), ResolvedFormat::Text);
    assert_eq!(resolve(LogFormat::Json, || true), ResolvedFormat::Json);
    assert_eq!(resolve(LogFormat::Journald, || false), ResolvedFormat::Journald);

    let file = tempfile::tempfile().unwrap();
    let found = file.metadata().unwrap();
    let stream = |text: String| Some(OsString::from(text));
    assert!(is_journal_stream(stream(format!("{}:{}", found.dev(), found.ino())), &file));
    assert!(!is_journal_stream(None, &file));
    assert!(!is_journal_stream(stream(format!("{}:{}", found.dev(), found.ino() + 1)), &file));
    assert!(!is_journal_stream(stream(format!("{}:{}", found.dev() + 1, found.ino())), &file));
    for broken in ["", ":", "8", "8:", "a:b", "8:1:2"] {
        assert!(!is_journal_stream(stream(broken.into()), &file), "{broken:?}");
    }
    // A child process inherits the variable even when its stderr is redirected.
    let redirected = File::open("/dev/null").unwrap();
    assert!(!is_journal_stream(stream(format!("{}:{}", found.dev(), found.ino())), &redirected));
}
