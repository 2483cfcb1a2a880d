//! Account ids of every kind, from the table to IM and away again.

use std::collections::BTreeSet;

use imsync::simulator::{CallMatcher, FaultAction, FaultRule};

use super::{HeldValues, expect_plain, rejected};
use crate::support::{Setup, TestEnvironment};

/// Odd ids; those of 1 to 32 bytes are IM's to judge, all others ours.
fn odd() -> Vec<String> {
    let mut ids: Vec<String> = [
        "",
        " ",
        "   ",
        "\t",
        "\n",
        "a\r\nb",
        "\u{1}",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{feff}x",
        "plain",
        "Plain",
        "PLAIN",
        "plain ",
        " plain",
        "@TIM#SYSTEM",
        "@TGS#1",
        "administrator",
        "user@example.com",
        "a/b?c=d&e",
        "%00",
        "%s%n",
        "\\",
        "\\u0000",
        "\\n",
        "\"",
        "'",
        "''; DROP TABLE users; --",
        "{\"a\":1}",
        "[]",
        "null",
        "NULL",
        "true",
        "0",
        "-0",
        "007",
        "1e9",
        "NaN",
        "北京",
        "ü",
        "u\u{308}",
        "ß",
        "SS",
        "\u{202e}evil",
        "\u{200f}",
        "a\u{200d}b",
        "👍🏽",
        "\u{1f1e9}\u{1f1ea}",
        "\u{fffd}",
        "\u{10ffff}",
        "\u{e000}",
        "ﬁ",
        "İ",
        "ı",
        "\u{301}",
        "$1",
        "${x}",
        "../../etc/passwd",
        "<script>",
        "\u{1b}[2J",
    ]
    .map(str::to_owned)
    .to_vec();
    // At the edge, in letters of one to four bytes, and with a letter across it.
    for (sign, bytes) in [("x", 1), ("é", 2), ("北", 3), ("👍", 4), ("\u{1}", 1)] {
        for total in [31, 32, 33, 34, 35, 36, 100, 999] {
            let count = total / bytes;
            ids.push(sign.repeat(count) + &"y".repeat(total - count * bytes));
        }
    }
    ids
}

fn sendable(id: &str) -> bool {
    (1..=32).contains(&id.len())
}

async fn insert(env: &TestEnvironment, ids: &[String]) {
    let insert =
        "INSERT INTO users (id, city, plan, gender) SELECT id, 'Graz', 'free', 'm' FROM unnest($1::text[]) AS id";
    sqlx::query(insert)
        .bind(ids)
        .execute(&mut env.database.connect().await)
        .await
        .expect("texts that a column can hold");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_im_takes_arrives_and_what_it_cannot_take_is_listed() {
    let more = "[schedule]\ninterval = \"200ms\"\n[removal]\nmax_share = 1.0\n".to_owned();
    let env = TestEnvironment::set_up(Setup { more, ..Setup::default() }).await;
    let ids: Vec<String> = odd().into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    insert(&env, &ids).await;
    let ran = env.imsync(&["preview", "--full"]).await.expect_code(0);
    expect_plain(&ran);

    let ran = env.imsync(&["backfill"]).await.expect_code(3);
    expect_plain(&ran);
    let expected: BTreeSet<&String> = ids.iter().filter(|id| sendable(id)).collect();
    let users = env.handle().users();
    assert_eq!(users.keys().collect::<BTreeSet<_>>(), expected);
    assert!(users.values().all(|attributes| attributes["city"] == "Graz" && attributes.len() == 3));
    assert_eq!(users, env.wanted_of_users().await.into_iter().filter(|(id, _)| sendable(id)).collect::<HeldValues>());
    let listed = rejected(&env).await;
    let too_long: BTreeSet<&String> = ids.iter().filter(|id| id.len() > 32).collect();
    assert_eq!(listed.iter().map(|(account, ..)| account).collect::<BTreeSet<_>>(), too_long);
    for (account, attribute, reason) in &listed {
        assert_eq!(attribute, &None);
        assert!(reason.contains(&format!("{} bytes", account.len())), "{reason}");
    }
    for arguments in [&["rejected"][..], &["rejected", "--all"]] {
        expect_plain(&env.imsync(arguments).await.expect_code(0));
    }

    // Each has a second change of its own, among them some that IM refuses.
    let refused = ["@TIM#SYSTEM", "\u{202e}evil", "a\r\nb", "''; DROP TABLE users; --", "北京"].map(str::to_owned);
    let rule = FaultRule {
        matcher: CallMatcher { accounts: refused.to_vec(), ..CallMatcher::default() },
        action: FaultAction::Refuse { code: 70402, per_account: true },
    };
    let refusal = env.handle().add_fault(rule);
    env.execute("UPDATE users SET city = 'Linz', updated_at = now()").await;
    expect_plain(&env.imsync(&["run", "--once"]).await.expect_code(3));
    for (id, attributes) in env.handle().users() {
        let city = if refused.contains(&id) { "Graz" } else { "Linz" };
        assert_eq!(attributes["city"], city, "{id:?}");
    }
    let listed: BTreeSet<String> = rejected(&env).await.into_iter().map(|(account, ..)| account).collect();
    assert!(refused.iter().all(|id| listed.contains(id)), "{listed:?}");
    expect_plain(&env.imsync(&["rejected", "--all"]).await.expect_code(0));

    // All go, and leave nothing behind.
    env.handle().remove_fault(refusal);
    env.execute("DELETE FROM users").await;
    env.imsync(&["backfill"]).await.expect_code(0);
    assert_eq!(env.handle().users(), HeldValues::new());
    assert_eq!(env.number("SELECT count(*) FROM imsync.account").await, 0);
    assert_eq!(rejected(&env).await, []);
}

/// Nothing indexes the ids, so one can be longer than any index could hold, ours included.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_a_megabyte_harms_nobody() {
    let sql = "CREATE TABLE users (id text, city text, plan text, gender text, kind text,
        updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz)";
    let env = TestEnvironment::set_up(Setup { sql: sql.to_owned(), ..Setup::default() }).await;
    insert(&env, &["alice".to_owned(), "y".repeat(1000), "zoe".to_owned()]).await;
    env.execute(
        "INSERT INTO users (id, city)
             SELECT string_agg(md5(g::text), ''), 'Graz' FROM generate_series(1, 32768) g
             UNION ALL SELECT string_agg(md5(g::text), ''), 'Graz' FROM generate_series(1, 200) g
             UNION ALL SELECT NULL, 'Graz' UNION ALL SELECT '', 'Graz'",
    )
    .await;
    env.imsync(&["backfill"]).await.expect_code(3);
    assert_eq!(env.handle().users().into_keys().collect::<Vec<_>>(), ["alice", "zoe"]);
    let listed: Vec<usize> = rejected(&env).await.iter().map(|(account, ..)| account.len()).collect();
    assert_eq!(listed, [1000]);
    // The watermark passes them too.
    env.execute("UPDATE users SET city = 'Linz', updated_at = now()").await;
    env.imsync(&["run", "--once"]).await.expect_code(3);
    assert_eq!(env.handle().user("zoe")["city"], "Linz");
    env.execute("DELETE FROM users WHERE length(id) > 32").await;
    env.imsync(&["backfill"]).await.expect_code(0);
}

/// Extremes of the integer types, with a prefix; and a uuid as 32 digits.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_uuids_are_accounts() {
    for (kind, ids, format, accounts) in [
        (
            "bigint",
            "('-9223372036854775808'), ('9223372036854775807'), (0), (-1)",
            "account_prefix = \"u_\"\n",
            ["u_-1", "u_-9223372036854775808", "u_0", "u_9223372036854775807"].as_slice(),
        ),
        ("smallint", "(-32768), (32767), (0)", "", &["-32768", "0", "32767"]),
        (
            "uuid",
            "('00000000-0000-0000-0000-000000000000'), ('FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF')",
            "account_format = \"hex\"\n",
            &["00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff"],
        ),
    ] {
        let sql = format!(
            "CREATE TABLE users (id {kind} PRIMARY KEY, city text DEFAULT 'Graz', updated_at timestamptz DEFAULT now()); INSERT INTO users (id) VALUES {ids}"
        );
        let source =
            "table = \"users\"\naccount_column = \"id\"\nwatermark_column = \"updated_at\"\n".to_owned() + format;
        let env = TestEnvironment::set_up(Setup {
            sql,
            source,
            attributes: "city = \"city\"\n".to_owned(),
            ..Setup::default()
        })
        .await;
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users().into_keys().collect::<Vec<_>>(), accounts, "{kind}");
        env.execute("UPDATE users SET city = 'Linz', updated_at = now()").await;
        env.imsync(&["run", "--once"]).await.expect_code(0);
        assert!(env.handle().users().values().all(|attributes| attributes["city"] == "Linz"), "{kind}");
        env.execute("DELETE FROM users").await;
        env.imsync(&["backfill"]).await.expect_code(0);
        assert_eq!(env.handle().users(), HeldValues::new(), "{kind}");
    }
}
