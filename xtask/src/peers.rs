//! `cargo xtask peers`: our programs beside other people's, in turn on the same machine.
//!
//! One module a peer. Its rival programs and their pinned packages lie in `xtask/peers/NAME/`, and the virtual
//! environment that runs them below `target/peers-venv/NAME/`.

mod checkpoint;
mod comparison;
mod environment;
mod generate;
mod llama;
mod lora;
mod process;
mod ratio;
mod scaling;
mod tensorboard;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Subcommand};

use crate::output;
use crate::workspace::Workspace;

/// What is compared.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Peer {
    /// A training step, against torchscale, nn.TransformerEncoder and Hugging Face's Llama on PyTorch
    Train(train::Options),
    /// Fits of a scaling law and their bootstrap, against scipy, lmfit and variable projection in numpy
    Scaling(scaling::Options),
    /// Reading and continuing prompts, against Hugging Face transformers and llama.cpp on the same weights
    Generate(generate::Options),
    /// Low-rank adapters that we wrote, read by PEFT, and the other way round
    Lora(lora::Options),
    /// Checkpoints that we saved, opened by Hugging Face transformers, and the other way round
    Checkpoint(checkpoint::Options),
    /// The event files that runs write, read back with TensorBoard itself
    Tensorboard(tensorboard::Options),
}

/// Compares with `peer`; without one, lists them.
pub(crate) fn run(workspace: &Workspace, peer: Option<Peer>) -> Result<ExitCode> {
    match peer {
        Some(Peer::Train(options)) => train::compare(workspace, &options),
        Some(Peer::Scaling(options)) => scaling::compare(workspace, &options),
        Some(Peer::Generate(options)) => generate::compare(workspace, &options),
        Some(Peer::Lora(options)) => lora::compare(workspace, &options),
        Some(Peer::Checkpoint(options)) => checkpoint::compare(workspace, &options),
        Some(Peer::Tensorboard(options)) => tensorboard::compare(workspace, &options),
        None => {
            list();
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list() {
    let command = Peer::augment_subcommands(crate::cli::Cli::command());
    for peer in command.get_subcommands().filter(|sub| Peer::has_subcommand(sub.get_name())) {
        let about = peer.get_about().map(ToString::to_string).unwrap_or_default();
        output::line(format!("{:<12}  {about}", peer.get_name()));
    }
}
