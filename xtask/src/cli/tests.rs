use clap::{CommandFactory, Parser};

use super::*;

fn check(line: &str, expected: Option<Command>) {
    let parsed = Cli::try_parse_from(line.split_whitespace())
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(parsed.command, expected, "{line}");
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

#[test]
fn options_of_an_experiment_are_passed_on_unchanged() {
    let run = |line| Some(Command::RunExperiment(SomeArguments { arguments: words(line) }));
    check("xtask run-experiment quickstart", run("quickstart"));
    check("xtask run-experiment quickstart --help", run("quickstart --help"));
    check(
        "xtask run-experiment quickstart --set a.b=-1 --jobs=2 -- -x",
        run("quickstart --set a.b=-1 --jobs=2 -- -x"),
    );
    check("xtask run-experiment --scale smoke quickstart", run("--scale smoke quickstart"));
}

#[test]
fn other_commands_are_understood() {
    let any = |line| AnyArguments { arguments: words(line) };
    check("xtask", None);
    check("xtask list", Some(Command::List(any(""))));
    check("xtask golden --dir /tmp/arch", Some(Command::Golden(any("--dir /tmp/arch"))));
    check(
        "xtask test --fast tokens",
        Some(Command::Test { fast: true, package: Some("tokens".to_owned()) }),
    );
    check("xtask setup --cuda", Some(Command::Setup { cuda: true }));
    check("xtask model x", Some(Command::Model { name: Some("x".to_owned()) }));
}

#[test]
fn what_needs_a_name_is_refused_without_one() {
    for command in ["plan", "run-experiment", "report", "compare", "nonsense"] {
        assert!(Cli::try_parse_from(["xtask", command]).is_err(), "{command}");
    }
}

#[test]
fn help_names_every_command_in_80_columns() {
    for line in HELP.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let starts: Vec<&str> =
        HELP.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    for command in Cli::command().get_subcommands() {
        assert!(starts.contains(&command.get_name()), "help lacks {}", command.get_name());
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}
