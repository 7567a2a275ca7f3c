//! What each command does, in terms of the other modules.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::cargo::Cargo;
use crate::cli::Command;
use crate::program::Program;
use crate::workspace::Workspace;
use crate::{clean, doctor, help, model, output, peers, setup};

/// Does what `command` says; prints the help if there is none.
pub(crate) fn run(command: Option<Command>) -> Result<ExitCode> {
    let Some(command) = command else {
        output::line(help::HELP);
        return Ok(ExitCode::SUCCESS);
    };
    let workspace = Workspace::locate()?;
    let done = |()| ExitCode::SUCCESS;
    let experiments = |subcommand: &str, arguments: Vec<OsString>| {
        let arguments = [vec![subcommand.into()], arguments].concat();
        Program::Experiments.build_and_start(&workspace, arguments)
    };
    let scaling = |subcommand: &str, arguments: Vec<OsString>| {
        let arguments = [vec![subcommand.into()], arguments].concat();
        Program::Scaling.build_and_start(&workspace, arguments)
    };
    match command {
        Command::Setup { cuda } => set_up(&workspace, cuda).map(done),
        Command::Doctor => Ok(doctor::examine(&workspace)),
        Command::Clean { cells: false } => clean::everything(&workspace).map(done),
        Command::Clean { cells: true } => clean::cells(&workspace).map(done),
        Command::Model { name } => model::run(&workspace.root, name.as_deref()).map(done),
        Command::List(list) => experiments("list", list.arguments),
        Command::Plan(plan) => experiments("plan", plan.arguments),
        Command::RunExperiment(run) => experiments("run", run.arguments),
        Command::Report(report) => experiments("report", report.arguments),
        Command::Compare(compare) => experiments("compare", compare.arguments),
        Command::Generate(generate) => experiments("generate", generate.arguments),
        Command::Perplexity(perplexity) => experiments("perplexity", perplexity.arguments),
        Command::Quantize(quantize) => experiments("quantize", quantize.arguments),
        Command::Evaluate(evaluate) => experiments("evaluate", evaluate.arguments),
        Command::Fit(fit) => scaling("fit", fit.arguments),
        Command::Recommend(recommend) => scaling("recommend", recommend.arguments),
        Command::AuditLr(audit) => scaling("audit-lr", audit.arguments),
        Command::Import(import) => scaling("import", import.arguments),
        Command::Retrospective(all) => scaling("retrospective", all.arguments),
        Command::Golden(golden) => Program::Golden.build_and_start(&workspace, golden.arguments),
        Command::Test { fast, package } => test(&workspace, fast, package.as_deref()).map(done),
        Command::Lint => Cargo::new(&workspace)?.lint().map(done),
        Command::Doc => Cargo::new(&workspace)?.doc().map(done),
        Command::Bench { name } => Cargo::new(&workspace)?.bench(name.as_deref()).map(done),
        Command::Peers { peer } => peers::run(&workspace, peer),
        Command::Ci => ci(&workspace).map(done),
    }
}

fn set_up(workspace: &Workspace, cuda: bool) -> Result<()> {
    let libtorch = if cuda { setup::require_cuda(workspace)? } else { setup::ensure(workspace)? };
    output::line(libtorch);
    Ok(())
}

fn test(workspace: &Workspace, fast: bool, package: Option<&str>) -> Result<()> {
    let package = package.map(|name| workspace.package(name)).transpose()?;
    let needs_libtorch = match &package {
        Some(package) => !workspace.default_members()?.contains(package),
        None => !fast,
    };
    let cargo =
        if needs_libtorch { Cargo::new(workspace)? } else { Cargo::without_libtorch(workspace) };
    cargo.test(fast, package.as_deref())
}

fn ci(workspace: &Workspace) -> Result<()> {
    let cargo = Cargo::new(workspace)?;
    cargo.test(false, None)?;
    cargo.lint()?;
    cargo.doc()
}
