//! Which file is read.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::load::load_with;
use super::super::{Environment, Loaded, Problems, Request};
use super::MINIMAL;

struct Place {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Place {
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

    fn load(&self, path: Option<&str>) -> Result<Loaded, Problems> {
        let request = Request {
            path: path.map(PathBuf::from),
            environment: self.environment.iter().cloned().collect::<Environment>(),
            working_dir: self.dir.path().to_owned(),
            needs_secret_key: true,
        };
        load_with(&request, &self.path("system.toml"))
    }

    fn told(&self, path: Option<&str>) -> String {
        self.load(path).unwrap_err().to_string().replace(&self.dir.path().display().to_string(), "DIR")
    }
}

#[test]
fn the_first_of_four_places_counts() {
    let mut place = Place::new();
    place.put("system.toml");
    assert_eq!(place.load(None).unwrap().config.name, "system.toml");
    place.put("imsync.toml");
    let config = place.load(None).unwrap().config;
    assert_eq!((config.name.as_str(), config.path), ("imsync.toml", place.path("imsync.toml")));
    place.put("env.toml");
    place.environment.push(("IMSYNC_CONFIG", "env.toml".to_owned()));
    assert_eq!(place.load(None).unwrap().config.name, "env.toml");
    place.put("named.toml");
    assert_eq!(place.load(Some("named.toml")).unwrap().config.name, "named.toml");
    let absolute = place.path("named.toml");
    assert_eq!(place.load(absolute.to_str()).unwrap().config.name, "named.toml");
}

#[test]
fn a_file_that_is_not_there_is_told_with_what_to_do() {
    let mut place = Place::new();
    assert_eq!(
        place.told(None),
        "imsync.toml: there is no configuration file: neither imsync.toml in DIR nor DIR/system.toml; name one with -c FILE or IMSYNC_CONFIG, or copy config.example.toml to imsync.toml and fill it in"
    );
    place.put("imsync.toml");
    assert_eq!(
        place.told(Some("gone.toml")),
        "gone.toml: the configuration file, named with -c, cannot be read: there is no such file"
    );
    place.environment.push(("IMSYNC_CONFIG", "gone.toml".to_owned()));
    assert_eq!(
        place.told(None),
        "gone.toml: the configuration file, named by IMSYNC_CONFIG, cannot be read: there is no such file"
    );
    place.environment = vec![("IMSYNC_CONFIG", String::new())];
    assert_eq!(
        place.told(None),
        "environment: IMSYNC_CONFIG: it is set but empty; name the configuration file or unset it"
    );
}

#[test]
fn what_is_no_text_file_is_told() {
    let place = Place::new();
    fs::create_dir(place.path("imsync.toml")).unwrap();
    assert_eq!(place.told(None), "imsync.toml: the configuration file cannot be read: it is a directory");
    fs::write(place.path("bytes.toml"), b"a = 1\nb = \"\xff\"\n").unwrap();
    assert_eq!(place.told(Some("bytes.toml")), "bytes.toml:2: not UTF-8; save the file in that encoding");
    if Path::new("/dev/zero").exists() {
        let told = place.told(Some("/dev/zero"));
        assert_eq!(told, "/dev/zero: the file holds more than 1048576 bytes, which is no configuration");
    }
}

#[test]
fn problems_name_the_file_as_it_was_named() {
    let place = Place::new();
    fs::write(place.path("bad.toml"), MINIMAL.replacen("\"users\"", "5", 1)).unwrap();
    assert!(place.told(Some("bad.toml")).starts_with("bad.toml:1: name: found the number 5"));
}
