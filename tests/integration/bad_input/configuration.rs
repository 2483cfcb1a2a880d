//! Files that are not a valid configuration, given to the program itself.

use std::path::Path;

use super::expect_plain;
use crate::support::{binary, run};

const SECRET: &str = "hunter2hunter2";

#[tokio::test]
async fn an_invalid_file_exits_with_2_and_shows_no_secret() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let good = format!(
        "name = \"users\"\n[source]\nurl = \"postgres://imsync:{SECRET}@127.0.0.1:1/none\"\ntable = \"users\"\naccount_column = \"id\"\n\
         [im]\nregion = \"china\"\nsdk_app_id = 1\nidentifier = \"administrator\"\nsecret_key = \"{SECRET}\"\n[attributes]\ncity = \"city\"\n"
    );
    let key = good.find("secret_key").expect("the configuration has a key");
    let deep = 200_000;
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("nul", vec![0; 1000]),
        ("random", (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect()),
        ("latin1", [good.as_bytes(), b"# \xfc\n"].concat()),
        ("large", [good.as_bytes(), &b"# ".repeat(600_000)].concat()),
        ("csv", b"1,Mary,mary@example.com\n".repeat(40_000)),
        ("equals", b"=\n".repeat(500_000)),
        ("brackets", b"[".repeat(deep)),
        ("tables", [b"x = ".to_vec(), b"{a=".repeat(deep)].concat()),
        ("dots", [b"a".to_vec(), b".a".repeat(deep), b" = 1".to_vec()].concat()),
        ("cut", good.as_bytes()[..key + 20].to_vec()),
        ("joined", good.replace("\nsecret_key", "secret_key").into_bytes()),
        ("header", good.replace("[im]\n", &format!("[im]secret_key={SECRET}\n")).into_bytes()),
        ("unquoted", good.replace(&format!("\"{SECRET}\""), SECRET).into_bytes()),
        ("utf16", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ];
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).expect("the file can be written");
        check(directory.path(), name).await;
    }
    check(directory.path(), ".").await;
    check(directory.path(), "/dev/zero").await;
}

async fn check(directory: &Path, name: &str) {
    let mut command = binary(directory);
    command.args(["check", "--offline", "-c", name]);
    let output = run(command).await.expect_code(2);
    assert!(output.stderr.contains(name), "{name}: the message must name the file: {}", output.stderr);
    assert!(!output.stderr.contains("hunter2"), "{name}: {}", output.stderr);
    assert!(output.stderr.len() < 100_000, "{name}: the message has {} bytes", output.stderr.len());
    expect_plain(&output);
}
