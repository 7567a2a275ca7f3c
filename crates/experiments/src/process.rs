//! Commands with all that they start: a process group each, which can be told to end as a whole.

use std::process::Command;

/// How a group is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It may tidy up.
    Terminate,
    /// It may not.
    Kill,
}

/// Starts the command in a group of its own: the terminal's Ctrl-C passes it by, and [`signal_group`] reaches what it
/// starts.
#[cfg(unix)]
pub(crate) fn into_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
pub(crate) fn into_group(_command: &mut Command) {}

/// Tells the group of this number, which is that of its first process, to end. One that is gone needs no telling.
#[cfg(unix)]
pub(crate) fn signal_group(number: u32, signal: Signal) {
    use nix::sys::signal::{self, killpg};
    use nix::unistd::Pid;
    let signal = match signal {
        Signal::Terminate => signal::Signal::SIGTERM,
        Signal::Kill => signal::Signal::SIGKILL,
    };
    if let Ok(group) = i32::try_from(number) {
        let _ = killpg(Pid::from_raw(group), signal);
    }
}

#[cfg(not(unix))]
pub(crate) fn signal_group(_number: u32, _signal: Signal) {}

/// Where the system can do that, the command is told to end when the thread that starts it does, however it does: a
/// worker that is killed can tell it nothing.
#[cfg(target_os = "linux")]
pub(crate) fn end_with_this_thread(command: &mut Command) {
    use nix::sys::prctl::set_pdeathsig;
    use nix::sys::signal::Signal;
    use nix::unistd::{getpid, getppid};
    use std::os::unix::process::CommandExt;
    let parent = getpid();
    let ask = move || -> std::io::Result<()> {
        set_pdeathsig(Signal::SIGTERM)?;
        // It may have been too late for that.
        if getppid() != parent { Err(std::io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    };
    #[expect(
        unsafe_code,
        reason = "between fork and exec: two system calls, which allocate nothing"
    )]
    // SAFETY: `prctl` and `getppid` may be called there, and an error kind without a message is not on the heap.
    unsafe {
        command.pre_exec(ask);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_this_thread(_command: &mut Command) {}
