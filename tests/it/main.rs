//! Integration tests: the golden checker as a command.

mod golden;
