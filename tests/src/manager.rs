//! A service manager: listens to what a service says of itself, keeps the descriptors that it is given, and hands them to
//! the service when it starts it again, as systemd does (sd_notify(3), sd_listen_fds(3)).

#![expect(unsafe_code, reason = "a service finds its descriptors under fixed numbers")]

use crate::mount::{CHANGE_LIMIT, Mount, MountPlan};
use crate::run;
use anyhow::{Context, Result};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of the first descriptor that a service is given (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// A manager of one service, a mount.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    stored: Vec<(String, OwnedFd)>,
}

impl Manager {
    /// Listens in `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        let path = dir.join("notify");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(&path).context("the socket of the manager")?;
        socket.set_read_timeout(Some(CHANGE_LIMIT))?;
        Ok(Self { socket, path, stored: Vec::new() })
    }

    /// The names of what is kept.
    pub fn stored(&self) -> Vec<&str> {
        self.stored.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Starts the service with what is kept for it, and waits until it is ready.
    pub fn start(&mut self, plan: &MountPlan) -> Result<Mount> {
        let mut command = run::command("bash");
        command.args(["-c", "LISTEN_PID=$$ exec setpriv --pdeathsig KILL -- \"$@\"", "service"]);
        command.env("NOTIFY_SOCKET", &self.path);
        if !self.stored.is_empty() {
            command.env("LISTEN_FDS", self.stored.len().to_string());
            command.env("LISTEN_FDNAMES", self.stored().join(":"));
            self.give(&mut command)?;
        }
        let mount = plan.mount_by(command)?;
        self.hear("READY=1")?;
        Ok(mount)
    }

    /// Puts copies of what is kept under the numbers where a service looks for them.
    fn give(&self, command: &mut Command) -> Result<()> {
        // Above where they are to be, so that none is overwritten before it is copied.
        let above = FIRST + self.stored.len() as RawFd;
        let copy = |(_, fd): &(String, OwnedFd)| rustix::io::fcntl_dupfd_cloexec(fd, above);
        let copies = self.stored.iter().map(copy).collect::<rustix::io::Result<Vec<_>>>()?;
        let give = move || {
            for (copy, number) in copies.iter().zip(FIRST..) {
                // SAFETY: the number is the child's own, which is about to be another program; nothing is closed here.
                let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
                rustix::io::dup2(copy, &mut place)?;
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls and allocates nothing.
        unsafe { command.pre_exec(give) };
        Ok(())
    }

    /// Listens until the service says `word`, and does what it asks for until then.
    pub fn hear(&mut self, word: &str) -> Result<()> {
        loop {
            let (text, fd) = self.receive().with_context(|| format!("waiting for {word}"))?;
            let says = |line: &str| text.lines().any(|said| said == line);
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
            if let Some(fd) = fd.filter(|_| says("FDSTORE=1")) {
                self.stored.push((name.to_owned(), fd));
            }
            if says("FDSTOREREMOVE=1") {
                self.stored.retain(|(kept, _)| kept != name);
            }
            if says(word) {
                return Ok(());
            }
        }
    }

    fn receive(&self) -> Result<(String, Option<OwnedFd>)> {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fd = control.drain().find_map(|message| {
            let RecvAncillaryMessage::ScmRights(mut fds) = message else { return None };
            fds.next()
        });
        Ok((String::from_utf8(text[..received.bytes].to_vec())?, fd))
    }
}
