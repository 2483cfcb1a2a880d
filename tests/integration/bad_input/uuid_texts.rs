//! uuids in text columns as accounts, in every spelling, from the table to IM and their removal.

use super::{HeldValues, rejected};
use crate::support::{Setup, TestEnvironment};

/// Texts with the account that IM gets.
const SPELLINGS: &[(&str, &str)] = &[
    ("00000000-0000-0000-0000-000000000001", "00000000000000000000000000000001"),
    ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
    ("B1EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12", "b1eebc999c0b4ef8bb6d6bb9bd380a12"),
    ("c2eebc999c0b4ef8bb6d6bb9bd380a13", "c2eebc999c0b4ef8bb6d6bb9bd380a13"),
    ("D3EEBC999C0B4EF8BB6D6BB9BD380A14", "d3eebc999c0b4ef8bb6d6bb9bd380a14"),
    ("{E4EEBC99-9C0B-4EF8-BB6D-6BB9BD380A15}", "e4eebc999c0b4ef8bb6d6bb9bd380a15"),
    ("{f5eebc999c0b4ef8bb6d6bb9bd380a16}", "f5eebc999c0b4ef8bb6d6bb9bd380a16"),
    ("urn:uuid:06eebc99-9c0b-4ef8-bb6d-6bb9bd380a17", "06eebc999c0b4ef8bb6d6bb9bd380a17"),
];

/// Texts that are no uuid in a spelling that is taken.
const OTHER_TEXTS: &[&str] = &[
    "42",
    " ",
    "n/a",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
    "A0eebc99-9c0b-4ef8-bb6d-6bb9bd380a99",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 x",
    "urn:uuid:nothing",
    "北京",
];

fn setup(kind: &str) -> Setup {
    Setup {
        sql: format!(
            "CREATE TABLE users (id {kind} PRIMARY KEY, city text DEFAULT 'Graz', updated_at timestamptz DEFAULT now())"
        ),
        source: "table = \"users\"\naccount_column = \"id\"\nwatermark_column = \"updated_at\"\npage_size = 2\naccount_format = \"hex\"\n".to_owned(),
        attributes: "city = \"city\"\n".to_owned(),
        more: "[removal]\nmax_share = 1.0\n".to_owned(),
        ..Setup::default()
    }
}

async fn insert(env: &TestEnvironment, texts: impl Iterator<Item = &str>) {
    for text in texts {
        env.execute(&format!("INSERT INTO users (id) VALUES ('{text}')")).await;
    }
}

fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut sorted: Vec<String> = texts.map(str::to_owned).collect();
    sorted.sort();
    sorted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uuid_in_a_text_column_is_an_account_in_any_spelling() {
    for kind in ["text", "varchar(60)", "char(60)", "text COLLATE \"C\""] {
        let env = TestEnvironment::set_up(setup(kind)).await;
        insert(&env, SPELLINGS.iter().map(|(text, _)| *text)).await;
        insert(&env, OTHER_TEXTS.iter().copied()).await;
        // A char of blanks alone is an empty text, which is no account.
        let refused = OTHER_TEXTS.iter().copied().filter(|text| !(kind.starts_with("char") && *text == " "));
        let (refused, accounts) = (sorted(refused), sorted(SPELLINGS.iter().map(|(_, account)| *account)));

        env.imsync(&["backfill"]).await.expect_code(3);
        assert_eq!(env.handle().users().into_keys().collect::<Vec<_>>(), accounts, "{kind}");
        let mut listed = rejected(&env).await;
        assert!(listed.iter().all(|(_, _, reason)| reason.contains("no uuid") && reason.contains("hex")), "{listed:?}");
        listed.sort();
        assert_eq!(listed.into_iter().map(|(account, ..)| account).collect::<Vec<_>>(), refused, "{kind}");

        env.execute("UPDATE users SET city = 'Linz', updated_at = now()").await;
        env.imsync(&["run", "--once"]).await.expect_code(3);
        assert!(env.handle().users().values().all(|attributes| attributes["city"] == "Linz"), "{kind}");

        // Each text names its account on the command line, and so does the account.
        env.execute("UPDATE users SET city = 'Wels'").await;
        for (text, account) in SPELLINGS {
            let named = if *text < "b" { text } else { account };
            env.imsync(&["backfill", "--account", named]).await.expect_code(0);
            assert_eq!(env.handle().user(account)["city"], "Wels", "{text}");
        }
        // A full pass finds every row under its account: it removes nothing, and makes no call.
        env.handle().clear_records();
        env.imsync(&["backfill"]).await.expect_code(3);
        assert_eq!(env.handle().counters().arrived, 0, "{kind}");
        assert_eq!(env.handle().users().len(), accounts.len(), "{kind}");

        // A row that is corrected is no longer rejected, and rows that are gone are removed.
        env.execute("DELETE FROM users WHERE id <> '42'; UPDATE users SET id = '07eebc999c0b4ef8bb6d6bb9bd380a18'")
            .await;
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users().into_keys().collect::<Vec<_>>(), ["07eebc999c0b4ef8bb6d6bb9bd380a18"]);
        assert_eq!(rejected(&env).await, []);
    }
}

/// The rows of one uuid are far apart in the order of the column, so they are on different pages.
#[tokio::test(flavor = "multi_thread")]
async fn two_spellings_of_one_uuid_are_ambiguous() {
    const TWICE: &str = "a0eebc999c0b4ef8bb6d6bb9bd380a11";
    let env = TestEnvironment::set_up(setup("text COLLATE \"C\"")).await;
    insert(&env, SPELLINGS.iter().map(|(text, _)| *text)).await;
    env.execute(
        "INSERT INTO users (id, city) VALUES ('{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', 'Rome'), ('n/a', 'Rome')",
    )
    .await;
    env.imsync(&["backfill"]).await.expect_code(3);
    let users = env.handle().users();
    assert_eq!(users.len(), SPELLINGS.len() - 1);
    assert!(!users.contains_key(TWICE));
    let twice: Vec<_> = rejected(&env).await.into_iter().filter(|(account, ..)| account == TWICE).collect();
    assert!(matches!(&twice[..], [(_, None, reason)] if reason.contains("spellings")), "{twice:?}");
    // An incremental pass that reads only one of the two decides the same.
    env.execute("UPDATE users SET city = 'Pisa', updated_at = now() WHERE id LIKE '{A%'").await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(env.handle().users(), users);

    // When one of the two is gone, the other one counts.
    env.execute("DELETE FROM users WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' OR id = 'n/a'").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().user(TWICE)["city"], "Pisa");
    // Another spelling is the same account: nothing is removed or sent, whichever pass reads it.
    env.handle().clear_records();
    env.execute("UPDATE users SET id = lower(trim(id, '{}')), updated_at = now() WHERE id LIKE '{A%'").await;
    env.imsync(&["run", "--once"]).await.expect_code(0);
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().counters().arrived, 0);
    env.execute("DELETE FROM users").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), HeldValues::new());
}
