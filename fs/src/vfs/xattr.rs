//! Extended attributes, kept in the metadata of the object. The kernel decides who may read and change them, but
//! for the names of `trusted.`, which only root is shown.

use super::namespace::Use;
use super::{Caller, Vfs};
use crate::error::{Error, Result};
use crate::inode::{Ino, Node};
use crate::meta::{Posix, Xattrs, acl};
use crate::store::Headers;
use std::ffi::OsStr;
use std::sync::Arc;

/// What `setxattr` expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Nothing in particular.
    Any,
    /// No attribute of this name (`XATTR_CREATE`).
    Create,
    /// An attribute of this name (`XATTR_REPLACE`).
    Replace,
}

impl Vfs {
    /// The value of an attribute.
    pub async fn getxattr(&self, ino: Ino, name: &OsStr) -> Result<Vec<u8>> {
        let xattrs = self.xattrs(ino).await?;
        let value = name.to_str().and_then(|name| xattrs.value(name));
        value.map(<[u8]>::to_vec).ok_or(Error::NoAttribute)
    }

    /// The names of all attributes, each ended by a NUL.
    pub async fn listxattr(&self, ino: Ino, caller: Caller) -> Result<Vec<u8>> {
        let xattrs = self.xattrs(ino).await?;
        let shown = xattrs.names().filter(|name| caller.uid == 0 || !name.starts_with("trusted."));
        Ok(shown.flat_map(|name| name.bytes().chain([0])).collect())
    }

    /// Sets an attribute; [`Error::NoRoom`] if the metadata does not hold it.
    pub async fn setxattr(
        self: &Arc<Self>,
        ino: Ino,
        name: &OsStr,
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> Result<()> {
        let name = kept(name)?;
        self.change_xattrs(ino, |posix, xattrs| {
            match (mode, xattrs.value(name)) {
                (XattrMode::Create, Some(there)) if !(self.may_be_done() && there == value) => {
                    return Err(Error::Exists);
                }
                (XattrMode::Replace, None) => return Err(Error::NoAttribute),
                (XattrMode::Any | XattrMode::Create | XattrMode::Replace, _) => {}
            }
            self.intend();
            if name == acl::ACCESS {
                acl::set_access(posix, xattrs, value)?;
                // As chmod does for who is not in the group.
                if caller.uid != 0 && caller.gid != posix.gid {
                    posix.mode &= !libc::S_ISGID;
                }
            } else {
                xattrs.set(name, value.to_vec());
            }
            Ok(())
        })
        .await
    }

    /// Removes an attribute.
    pub async fn removexattr(self: &Arc<Self>, ino: Ino, name: &OsStr) -> Result<()> {
        let name = kept(name)?;
        self.change_xattrs(ino, |_, xattrs| {
            // A file without a list has the one that its mode says: there is nothing to miss.
            let list = name == acl::ACCESS || name == acl::DEFAULT;
            if xattrs.remove(name) || list || self.may_be_done() {
                self.intend();
                Ok(())
            } else {
                Err(Error::NoAttribute)
            }
        })
        .await
    }

    async fn change_xattrs(
        self: &Arc<Self>,
        ino: Ino,
        change: impl FnOnce(&mut Posix, &mut Xattrs) -> Result<()>,
    ) -> Result<()> {
        self.writable()?;
        let inode = self.table.inode(ino)?;
        let _held = self.hold(&[Use::Inode(ino)]).await;
        let edit = |posix: &mut Posix, headers: &mut Headers| {
            let mut xattrs = Xattrs::edit(headers)?;
            change(posix, &mut xattrs)?;
            xattrs.write(headers);
            Ok(())
        };
        self.change(&inode, edit).await?;
        self.settle_if_unwritten(&inode).await
    }

    async fn xattrs(&self, ino: Ino) -> Result<Xattrs> {
        let inode = self.table.inode(ino)?;
        match &inode.node {
            Node::File(file) => {
                self.describe(ino, file).await?;
                Ok(Xattrs::read(&file.state.lock().headers))
            }
            Node::Directory(directory) => {
                if !directory.state.lock().described
                    && let Some(place) = self.table.place(ino)
                {
                    let _held = self.hold(&[Use::from(&place), Use::Inode(ino)]).await;
                    self.resolve(place.parent, &place.name).await?;
                }
                Ok(Xattrs::read(&directory.state.lock().headers))
            }
        }
    }
}

/// A name of the kinds that are kept.
fn kept(name: &OsStr) -> Result<&str> {
    let kept = |name: &&str| {
        let kinds = ["user.", "trusted.", "security."];
        kinds.iter().any(|kind| name.starts_with(kind)) || *name == acl::ACCESS || *name == acl::DEFAULT
    };
    name.to_str().filter(kept).ok_or(Error::Unsupported("this kind of extended attribute"))
}
