//! Which configuration file is read, and the messages if there is none.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::environment::Environment;
use super::super::load::{LoadRequest, LoadedConfig, load_with};
use super::super::problems::Problems;
use super::MINIMAL;

/// A working directory, and an environment.
struct SearchFixture {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl SearchFixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A configuration whose `name` is the file's name.
    fn put(&self, name: &str) {
        fs::write(self.path(name), MINIMAL.replacen("users", name, 1)).unwrap();
    }

    fn load(&self, path: Option<&str>) -> Result<LoadedConfig, Problems> {
        let request = LoadRequest {
            path: path.map(PathBuf::from),
            environment: self.environment.iter().cloned().collect::<Environment>(),
            working_dir: self.dir.path().to_owned(),
            needs_secret_key: true,
        };
        load_with(&request, &self.path("system.toml"))
    }

    fn error(&self, path: Option<&str>) -> String {
        self.load(path).unwrap_err().to_string().replace(&self.dir.path().display().to_string(), "DIR")
    }
}

#[test]
fn the_first_existing_file_of_four_is_read() {
    let mut fixture = SearchFixture::new();
    fixture.put("system.toml");
    assert_eq!(fixture.load(None).unwrap().config.name, "system.toml");
    fixture.put("imsync.toml");
    let config = fixture.load(None).unwrap().config;
    assert_eq!((config.name.as_str(), config.path), ("imsync.toml", fixture.path("imsync.toml")));
    fixture.put("env.toml");
    fixture.environment.push(("IMSYNC_CONFIG", "env.toml".to_owned()));
    assert_eq!(fixture.load(None).unwrap().config.name, "env.toml");
    fixture.put("named.toml");
    assert_eq!(fixture.load(Some("named.toml")).unwrap().config.name, "named.toml");
    let absolute = fixture.path("named.toml");
    assert_eq!(fixture.load(absolute.to_str()).unwrap().config.name, "named.toml");
}

#[test]
fn a_missing_file_is_reported_with_what_to_do() {
    let mut fixture = SearchFixture::new();
    assert_eq!(
        fixture.error(None),
        "imsync.toml: no configuration file found: neither imsync.toml in DIR nor DIR/system.toml exists; give one with -c FILE or IMSYNC_CONFIG, or copy config.example.toml to imsync.toml and edit it"
    );
    fixture.put("imsync.toml");
    assert_eq!(
        fixture.error(Some("gone.toml")),
        "gone.toml: cannot read the configuration file given with -c: no such file or directory; correct the path, or create the file"
    );
    fixture.environment.push(("IMSYNC_CONFIG", "gone.toml".to_owned()));
    assert_eq!(
        fixture.error(None),
        "gone.toml: cannot read the configuration file given in IMSYNC_CONFIG: no such file or directory; correct the path, or create the file"
    );
    fixture.environment = vec![("IMSYNC_CONFIG", String::new())];
    assert_eq!(
        fixture.error(None),
        "environment: IMSYNC_CONFIG: the variable is set but empty; set it to the path of the configuration file or unset it"
    );
}

#[test]
fn what_is_not_a_text_file_is_refused() {
    let fixture = SearchFixture::new();
    fs::create_dir(fixture.path("imsync.toml")).unwrap();
    assert_eq!(
        fixture.error(None),
        "imsync.toml: cannot read the configuration file: it is a directory; name a file in it"
    );
    fs::write(fixture.path("bytes.toml"), b"a = 1\nb = \"\xff\"\n").unwrap();
    assert_eq!(fixture.error(Some("bytes.toml")), "bytes.toml:2: the file is not UTF-8; save it in that encoding");
    if Path::new("/dev/zero").exists() {
        let error = fixture.error(Some("/dev/zero"));
        assert_eq!(error, "/dev/zero: the file has more than 1048576 bytes, which is too much for a configuration");
    }
}

#[test]
fn problems_name_the_file_as_it_was_given() {
    let fixture = SearchFixture::new();
    fs::write(fixture.path("bad.toml"), MINIMAL.replacen("\"users\"", "5", 1)).unwrap();
    assert!(fixture.error(Some("bad.toml")).starts_with("bad.toml:1: name: found the number 5"));
}
