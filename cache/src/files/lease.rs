#![expect(unsafe_code, reason = "fcntl commands of leases are in no safe wrapper")]
//! Asks the kernel whether a file has a writer, by trying to get a read lease on it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// From Linux' `asm-generic/fcntl.h`; libc has no name for it.
const F_SETSIG: libc::c_int = 10;

/// Whether anybody has the file open for writing, mappings included. `file` must be open for reading only.
pub(crate) fn has_writer(file: &File) -> io::Result<bool> {
    // A writer who comes while we hold the lease makes the kernel send us a signal. Its default, SIGIO, would
    // end the process; SIGURG is ignored unless somebody asks for it.
    fcntl(file, F_SETSIG, libc::SIGURG)?;
    match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(true),
        Err(error) => return Err(error),
    }
    fcntl(file, libc::F_SETLEASE, libc::F_UNLCK)?;
    Ok(false)
}

fn fcntl(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file`; both commands take an integer and touch no memory.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
