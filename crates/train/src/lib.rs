//! The training loop: optimiser, schedules, precision, checkpoints and exact resume.
