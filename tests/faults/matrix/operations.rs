//! The operations of the matrix: what is there before, what is done, what is there after it.

use crate::load::close;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use tarn_tests::data;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    Empty,
    First,
    Second,
    /// The target of a link.
    Target,
    /// The first, and the second behind it.
    Both,
    /// The beginning of the first.
    Cut,
    /// Of several parts.
    Large,
    /// The same with a change in its middle.
    Patched,
}

const SMALL: usize = 20_000;
const CUT: usize = 7_000;
const LARGE: usize = (8 << 20) + 300_000;
const PATCH_AT: usize = 6 << 20;

/// One field of the matrix, with a folder and bytes of its own.
pub(crate) struct Cell {
    pub(crate) dir: PathBuf,
    pub(crate) salt: u64,
    /// Whether listings may be out of date.
    pub(crate) stale: bool,
}

impl Cell {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn bytes(&self, body: Body) -> Vec<u8> {
        let of = |seed, length| data::bytes(self.salt * 10 + seed, length);
        match body {
            Body::Empty => Vec::new(),
            Body::Target => b"f".to_vec(),
            Body::First => of(1, SMALL),
            Body::Second => of(2, SMALL),
            Body::Both => [of(1, SMALL), of(2, SMALL)].concat(),
            Body::Cut => of(1, CUT),
            Body::Large => of(3, LARGE),
            Body::Patched => {
                let mut bytes = of(3, LARGE);
                bytes[PATCH_AT..PATCH_AT + SMALL].copy_from_slice(&of(2, SMALL));
                bytes
            }
        }
    }

    fn write(&self, name: &str, options: &mut OpenOptions, body: Body) -> io::Result<()> {
        let mut file = options.write(true).open(self.path(name))?;
        file.write_all(&self.bytes(body))?;
        close(file)
    }

    fn reads(&self, name: &str, body: Body) -> io::Result<()> {
        is(fs::read(self.path(name))? == self.bytes(body), "other bytes were read")
    }
}

/// An answer that is wrong; unlike what the kernel says it has no number.
fn is(right: bool, otherwise: &'static str) -> io::Result<()> {
    if right { Ok(()) } else { Err(io::Error::other(otherwise)) }
}

type Files = &'static [(&'static str, Body)];

/// An operation. A name that ends with a slash is a directory's marker.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) old: Files,
    pub(crate) new: Files,
    /// Whether the name must be free. An object that arrived twice finds itself there, and a new file is empty first.
    pub(crate) exclusive: bool,
    pub(crate) act: fn(&Cell) -> io::Result<()>,
}

const F: Files = &[("f", Body::First)];
const LISTED: Files = &[("d/f", Body::First), ("f", Body::First), ("g", Body::Second), ("h", Body::Empty)];
const NONE: Files = &[];

/// All of them.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "stat",
        exclusive: false,
        old: F,
        new: F,
        act: |cell| is(fs::metadata(cell.path("f"))?.len() == SMALL as u64, "another length"),
    },
    Operation { name: "list", exclusive: false, old: LISTED, new: LISTED, act: list },
    Operation { name: "read", exclusive: false, old: F, new: F, act: |cell| cell.reads("f", Body::First) },
    Operation {
        name: "read parts",
        exclusive: false,
        old: &[("f", Body::Large)],
        new: &[("f", Body::Large)],
        act: |cell| cell.reads("f", Body::Large),
    },
    Operation {
        name: "create",
        exclusive: false,
        old: NONE,
        new: F,
        act: |cell| cell.write("f", OpenOptions::new().create(true), Body::First),
    },
    Operation {
        name: "create exclusively",
        exclusive: true,
        old: NONE,
        new: F,
        act: |cell| cell.write("f", OpenOptions::new().create_new(true), Body::First),
    },
    Operation {
        name: "replace",
        exclusive: false,
        old: F,
        new: &[("f", Body::Second)],
        act: |cell| cell.write("f", OpenOptions::new().truncate(true), Body::Second),
    },
    Operation {
        name: "append",
        exclusive: false,
        old: F,
        new: &[("f", Body::Both)],
        act: |cell| cell.write("f", OpenOptions::new().append(true), Body::Second),
    },
    Operation {
        name: "upload parts",
        exclusive: false,
        old: NONE,
        new: &[("f", Body::Large)],
        act: |cell| cell.write("f", OpenOptions::new().create(true), Body::Large),
    },
    Operation {
        name: "change a part",
        exclusive: false,
        old: &[("f", Body::Large)],
        new: &[("f", Body::Patched)],
        act: |cell| {
            let file = OpenOptions::new().write(true).open(cell.path("f"))?;
            file.write_all_at(&cell.bytes(Body::Second), PATCH_AT as u64)?;
            close(file)
        },
    },
    Operation {
        name: "fsync",
        exclusive: false,
        old: F,
        new: &[("f", Body::Second)],
        act: |cell| {
            let mut file = OpenOptions::new().write(true).truncate(true).open(cell.path("f"))?;
            file.write_all(&cell.bytes(Body::Second))?;
            file.sync_all()
        },
    },
    Operation {
        name: "truncate",
        exclusive: false,
        old: F,
        new: &[("f", Body::Cut)],
        act: |cell| {
            let file = OpenOptions::new().write(true).open(cell.path("f"))?;
            file.set_len(CUT as u64)?;
            close(file)
        },
    },
    Operation {
        name: "rename",
        exclusive: false,
        old: F,
        new: &[("g", Body::First)],
        act: |cell| fs::rename(cell.path("f"), cell.path("g")),
    },
    Operation {
        name: "rename over",
        exclusive: false,
        old: &[("f", Body::First), ("g", Body::Second)],
        new: &[("g", Body::First)],
        act: |cell| fs::rename(cell.path("f"), cell.path("g")),
    },
    Operation {
        name: "rename a directory",
        exclusive: false,
        old: &[("d/", Body::Empty), ("d/f", Body::First), ("d/g", Body::Second)],
        new: &[("e/", Body::Empty), ("e/f", Body::First), ("e/g", Body::Second)],
        act: |cell| fs::rename(cell.path("d"), cell.path("e")),
    },
    Operation {
        name: "remove",
        exclusive: false,
        old: F,
        new: NONE,
        act: |cell| fs::remove_file(cell.path("f")),
    },
    Operation {
        name: "mkdir",
        exclusive: true,
        old: NONE,
        new: &[("d/", Body::Empty)],
        act: |cell| DirBuilder::new().create(cell.path("d")),
    },
    Operation {
        name: "rmdir",
        exclusive: false,
        old: &[("d/", Body::Empty)],
        new: NONE,
        act: |cell| fs::remove_dir(cell.path("d")),
    },
    Operation {
        name: "chmod",
        exclusive: false,
        old: F,
        new: F,
        act: |cell| {
            fs::set_permissions(cell.path("f"), Permissions::from_mode(0o600))?;
            is(fs::metadata(cell.path("f"))?.mode() & 0o777 == 0o600, "another mode")
        },
    },
    Operation {
        name: "symlink",
        exclusive: true,
        old: F,
        new: &[("f", Body::First), ("link", Body::Target)],
        act: |cell| std::os::unix::fs::symlink("f", cell.path("link")),
    },
];

/// Names that are there, all of them, unless the listing is an old one.
fn list(cell: &Cell) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&cell.dir)? {
        found.push(entry?.file_name().into_string().map_err(|_| io::Error::other("no name of these"))?);
    }
    found.sort_unstable();
    is(found == ["d", "f", "g", "h"] || (cell.stale && found.is_empty()), "other names were listed")
}
