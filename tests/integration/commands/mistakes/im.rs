//! Mistakes with the app: region, credentials, administrator, clock.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "im.md",
    title: "The IM app and its credentials",
    intro: "imsync asks IM once for the attribute names of the app. That call shows whether the credentials are right.",
    mistakes: &[
        Mistake::new("The secret key is wrong", "The key of another app was copied.", "check")
            .keys(&[("im", "secret_key_file", "\"old_key\"")])
            .files(&[("old_key", "another-secret-key\n")]),
        Mistake::new("The SDKAppID is another app's", "The key belongs to the app 1400000000.", "check").keys(&[(
            "im",
            "sdk_app_id",
            "1400000999",
        )]),
        Mistake::new("The identifier is not an administrator", "The account is the one of a user.", "check").keys(&[(
            "im",
            "identifier",
            "\"u1\"",
        )]),
        Mistake::new("The app is in another region", "The app was created in Frankfurt.", "check").keys(&[(
            "im",
            "base_url",
            "\"http://<im of another region>\"",
        )]),
        Mistake::new("The clock of this machine is off by a day", "Each UserSig has expired when it is made.", "check")
            .keys(&[("im", "base_url", "\"http://<im a day ahead>\"")]),
        Mistake::new("An address where nothing listens", "The simulator does not run.", "check").keys(&[(
            "im",
            "base_url",
            "\"http://<unused>\"",
        )]),
        Mistake::new("An address with a path that is wrong", "The path of a call was copied.", "check").keys(&[(
            "im",
            "base_url",
            "\"http://<im>/v4\"",
        )]),
        Mistake::new("https to a server without TLS", "The simulator speaks http.", "check").keys(&[(
            "im",
            "base_url",
            "\"https://<im>\"",
        )]),
        Mistake::new("A push with a wrong secret key", "`check` was not run.", "backfill")
            .keys(&[("im", "secret_key_file", "\"old_key\"")])
            .files(&[("old_key", "another-secret-key\n")])
            .own_database(),
        Mistake::new("A list of names with a wrong secret key", "The key of another app was copied.", "attributes")
            .keys(&[("im", "secret_key_file", "\"old_key\"")])
            .files(&[("old_key", "another-secret-key\n")]),
    ],
};
