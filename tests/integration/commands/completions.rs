//! Tests `imsync completions`: each shell reads its script and completes a command and a flag with it.
//!
//! Owns: what a person gets after TAB. Must not know: how the scripts are written.
//!
//! bash is on every machine that runs these tests. zsh and fish are used where they are installed.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum as _;
use clap_complete::Shell;

use crate::support::{binary, run};

/// Writes the script of this shell to a file and returns its text.
async fn write_script(directory: &Path, shell: &str, file: &str) -> String {
    let mut command = binary(directory);
    command.args(["completions", shell]);
    let script = run(command).await.expect_code(0).stdout;
    std::fs::write(directory.join(file), &script).unwrap();
    script
}

fn is_installed(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = version.is_ok_and(|status| status.success());
    if !found {
        eprintln!("{program} is not installed: its completions are not tried");
    }
    found
}

/// Runs a program of a shell in the directory, and returns what it prints.
#[track_caller]
fn shell(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(arguments[0])
        .args(&arguments[1..])
        .current_dir(directory)
        .env("HOME", directory)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {printed}{errors}");
    printed
}

#[tokio::test]
async fn every_shell_gets_a_script_with_every_command() {
    let directory = tempfile::tempdir().unwrap();
    for shell in Shell::value_variants() {
        let script = write_script(directory.path(), &shell.to_string(), "script").await;
        for word in ["backfill", "retry", "allow-removals", "log-format"] {
            assert!(script.contains(word), "the completions of {shell} lack {word}");
        }
    }
}

#[tokio::test]
async fn bash_completes_commands_flags_and_values() {
    let directory = tempfile::tempdir().unwrap();
    write_script(directory.path(), "bash", "imsync").await;
    shell(directory.path(), &["bash", "-n", "imsync"]);
    for (line, expected) in [
        ("imsync back", vec!["backfill"]),
        ("imsync run --on", vec!["--once"]),
        ("imsync rejected re", vec!["retry"]),
        ("imsync status --log-format j", vec!["json", "journald"]),
        ("imsync completions f", vec!["fish"]),
    ] {
        let program = format!(
            "source ./imsync; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
             _imsync imsync \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let replies = shell(directory.path(), &["bash", "--norc", "-c", &program]);
        assert_eq!(replies.lines().collect::<Vec<_>>(), expected, "{line}");
    }
}

#[tokio::test]
async fn fish_completes_commands_and_flags() {
    let directory = tempfile::tempdir().unwrap();
    write_script(directory.path(), "fish", "imsync.fish").await;
    if !is_installed("fish") {
        return;
    }
    shell(directory.path(), &["fish", "--no-execute", "imsync.fish"]);
    for (line, expected) in [("imsync back", "backfill\t"), ("imsync run --on", "--once\t")] {
        let program = format!("source imsync.fish; complete -C '{line}'");
        let replies = shell(directory.path(), &["fish", "--no-config", "-c", &program]);
        assert!(replies.starts_with(expected), "{line}: {replies}");
    }
}

#[tokio::test]
async fn zsh_completes_commands_and_flags() {
    let directory = tempfile::tempdir().unwrap();
    write_script(directory.path(), "zsh", "_imsync").await;
    if !is_installed("zsh") {
        return;
    }
    shell(directory.path(), &["zsh", "-f", "-n", "_imsync"]);
    // Completion needs a terminal, which zpty provides. A key writes the command line to a file.
    for (line, expected) in [("imsync back", "imsync backfill"), ("imsync run --on", "imsync run --once")] {
        let program = format!(
            "zmodload zsh/zpty; zpty z zsh -f -i
             zpty -w z \"fpath=($PWD \\$fpath); autoload -Uz compinit; compinit -D -u
                 show() {{ print -r -- \\$BUFFER >line; print do''ne }}; zle -N show; bindkey '^X' show; echo re''ady\"
             zpty -r z out '*ready*'; zpty -w -n z \"{line}\"$'\\t\\C-x'; zpty -r z out '*done*' && cat line; zpty -d z"
        );
        let completed = shell(directory.path(), &["timeout", "20", "zsh", "-f", "-c", &program]);
        assert_eq!(completed.trim_end(), expected, "{line}");
    }
}
