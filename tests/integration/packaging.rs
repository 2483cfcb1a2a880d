//! Tests what the Debian package is made of, without making it. `make test-deb` installs the package.
//!
//! Owns: the configuration that the package installs, and the files that `Cargo.toml` names. Must not know: cargo-deb.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::path::Path;

use crate::support::{binary, run};

/// The sources of the assets in `Cargo.toml`.
fn assets() -> Vec<String> {
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    assets.iter().map(|asset| asset[0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_file_of_the_package_exists_or_is_made() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for asset in assets() {
        let folder_of_a_pattern = asset.split_once("/*").map(|(folder, _)| folder);
        let exists = root.join(folder_of_a_pattern.unwrap_or(&asset)).exists();
        assert!(exists || asset.starts_with("target/"), "[package.metadata.deb] in Cargo.toml names {asset}");
    }
}

#[tokio::test]
async fn the_installed_configuration_needs_only_the_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("imsync.toml");
    std::fs::write(&file, include_str!("../../dist/debian/imsync.toml")).unwrap();
    let check = || {
        let mut command = binary(directory.path());
        command.args(["check", "--offline"]);
        run(command)
    };
    check().await.expect_code(2).expect_all(&["source.url_file", "database_url", "im.secret_key_file", "secret_key"]);
    std::fs::write(directory.path().join("database_url"), "postgres://imsync@localhost/app\n").unwrap();
    std::fs::write(directory.path().join("secret_key"), "a-key\n").unwrap();
    check().await.expect_code(0);
}
