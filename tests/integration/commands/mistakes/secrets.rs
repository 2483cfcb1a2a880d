//! Mistakes with the secret key, files of secrets, and variables of the environment.

use super::case::{Mistake, Topic};

pub(super) const TOPIC: Topic = Topic {
    file: "secrets.md",
    title: "Secrets and the environment",
    intro: "A secret is given by value, by a file or by a variable. No message shows a secret.",
    mistakes: &[
        Mistake::new("No secret key", "The key was left out.", "check --offline").keys(&[(
            "im",
            "secret_key_file",
            "",
        )]),
        Mistake::new("The secret key twice", "The key is in the configuration and in a file.", "check --offline")
            .keys(&[("im", "secret_key", "\"simulator-secret-key\"")]),
        Mistake::new("The file of the secret key is missing", "The path has a slip.", "check --offline").keys(&[(
            "im",
            "secret_key_file",
            "\"secretkey\"",
        )]),
        Mistake::new("The file of the secret key is empty", "Writing it has failed.", "check --offline")
            .keys(&[("im", "secret_key_file", "\"empty\"")])
            .files(&[("empty", "")]),
        Mistake::new("The file of the secret key cannot be read", "The path leads to a folder.", "check --offline")
            .keys(&[("im", "secret_key_file", "\"secrets\"")])
            .files(&[("secrets/", "")]),
        Mistake::new(
            "The secret key instead of the name of its file",
            "The value belongs to `secret_key`.",
            "check --offline",
        )
        .keys(&[(
            "im",
            "secret_key_file",
            "\"5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e\"",
        )]),
        Mistake::new(
            "The file of the secret key has more than the key",
            "The line of a shell script was copied.",
            "check --offline",
        )
        .keys(&[("im", "secret_key_file", "\"key.env\"")])
        .files(&[("key.env", "export SECRET_KEY=simulator-secret-key\n")]),
        Mistake::new(
            "A variable without a value",
            "The variable of the deployment is not filled in.",
            "check --offline",
        )
        .variables(&[("IMSYNC_SECRET_KEY", "")]),
        Mistake::new("A variable with a slip", "imsync reads `IMSYNC_SOURCE_URL`.", "check --offline")
            .variables(&[("IMSYNC_SOURCEURL", "postgres://localhost/app")]),
        Mistake::new("The URL twice", "Both variables are set.", "check --offline").variables(&[
            ("IMSYNC_SOURCE_URL", "postgres://localhost/app"),
            ("IMSYNC_SOURCE_URL_FILE", "<directory>/secret_key"),
        ]),
    ],
};
